"""The singular directions of a decoder as pictures: what a step in the code that matters most does to the example.

J = U Σ Vᵀ is the decoder's Jacobian at an example's mean code. A step along v_k (a column of V, in the code) changes
the picture by σ_k u_k: that is drawn, largest σ first, red up and blue down. Beside it v_k², the share of each unit.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import drawing

EXAMPLES, DIRECTIONS = 4, 6


def directions(model: Any, x: Any, label: Any = None) -> tuple[np.ndarray, ...]:
    """Return u (n, k, values), σ (n, k), v (n, k, latent) of the decoder at the mean codes of x, and what it decodes.

    A direction has no sign of its own: the largest change of an example is made positive. Raises ConfigError for
    models without such a Jacobian, ValueError where it is not finite.
    """
    from models.terms.geometry.halves import decoder, encoder

    def both(model: Any, x: Any, label: Any) -> Any:
        f = encoder(model, x, label, None, "the figure of directions")
        g = decoder(model, f(f.at), label, "the figure of directions")
        return g.jacobians(), g(g.at)

    with jax.default_matmul_precision("highest"):
        j, decoded = (np.asarray(a, np.float64) for a in jax.jit(both)(model, jnp.asarray(x), label))
    if not np.isfinite(j).all():
        raise ValueError("the decoder's Jacobian is not finite: no directions to draw")
    u, s, vt = np.linalg.svd(j, full_matrices=False)
    most = min(DIRECTIONS, s.shape[1])
    u, s, v = u.transpose(0, 2, 1)[:, :most], s[:, :most], vt[:, :most]
    largest = np.take_along_axis(u, np.abs(u).argmax(2)[..., None], 2)
    sign = np.where(largest < 0, -1.0, 1.0)
    return u * sign, s, v * sign, decoded.reshape(len(j), *np.shape(x)[1:])


def write(path: Path, model: Any, dataset: Any, x: np.ndarray, label: Any = None) -> Path:
    """Draw the directions of the first examples of x, (n, *shape) as the model sees them; return the path."""
    from models.batch import Batch, observed

    x, label = x[:EXAMPLES], None if label is None else jnp.asarray(label[:EXAMPLES])
    given = x if model.marks else observed(x).x
    seen = model.seen_label(Batch(jnp.asarray(given), label)) if model.classes else None
    u, s, v, decoded = directions(model, given, seen)
    n, k = s.shape
    image = drawing.is_image(x.shape[1:])
    shown = [dataset.display(a) for a in (x, decoded)]
    with drawing.figure(path, 1.25 * (k + 2) + 2.2, 1.45 * n + 0.8) as fig:
        fig.suptitle("Directions in the code that change the example most: σ u of the decoder's Jacobian", fontsize=12)
        grid = fig.subplots(n, k + 3, squeeze=False, width_ratios=[1.0] * (k + 2) + [1.5])
        for i, row in enumerate(grid):
            for axes, values, title in zip(row, [a[i] for a in shown], ("original", "decoded"), strict=False):
                _event(axes, values, image, {"vmin": 0, "vmax": 1, "cmap": "gray"})
                axes.set_title(title if i == 0 else "", fontsize=9)
            for d, axes in enumerate(row[2 : k + 2]):
                change = u[i, d].reshape(x.shape[1:])
                signed = change.mean(2, keepdims=True) if image else change
                most = np.abs(signed).max() or 1.0
                _event(axes, signed, image, {"vmin": -most, "vmax": most, "cmap": "RdBu_r"})
                axes.set_title(f"σ {s[i, d]:.3g}", fontsize=9)
            row[-1].imshow(v[i] ** 2, vmin=0, vmax=1, cmap="Blues", aspect="auto", interpolation="nearest")
            row[-1].set(yticks=range(k), yticklabels=range(1, k + 1), xticks=[0, v.shape[2] - 1])
            row[-1].set_xticklabels([1, v.shape[2]])
            row[-1].grid(False)
            row[-1].set_title("share of each unit" if i == 0 else "", fontsize=9)
    return path


def _event(axes: Any, values: np.ndarray, image: bool, colours: dict[str, Any]) -> None:
    """Draw one event without ticks: a picture, or a line over its elements."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    if not image:
        axes.plot(np.ravel(values), color=drawing.TRAIN, linewidth=1.0)
    elif values.shape[2] == 3:
        axes.imshow(np.clip(values, 0, 1), interpolation="nearest")
    else:
        axes.imshow(values[..., 0], interpolation="nearest", **colours)
