"""The pictures of a run, from its model, its test set and its metrics."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..store.files import make_folder
from . import drawing

EXAMPLES, SAMPLES, ROWS, REACH, CODES = 20, 72, 16, 3.0, 2000


def write_all(
    folder: Path,
    model: Any,
    dataset: Any,
    rows: Sequence[dict[str, Any]],
    key: jax.Array,
    answer: Callable[..., Any] | None = None,
    source: str = "",
) -> list[Path]:
    """Write curves, reconstructions, samples, latents and traversal as PNG into `folder`; return their paths.

    Of a model without an encoder there are only curves and samples. With `answer` of an objective that does not show
    the model all, there is also `denoised` or `masked`: originals, what the model was given, its answer.

    `model` has `encode(x).mean`, `decode(z).mean` and `prior().sample(key)`; one that has labels sees those of the
    examples (or what it infers), all in turn for samples, and the first for moves of a latent. `dataset` is a
    `data.Dataset`, of which the test split is drawn (else validation, else train), called `source` if given; `rows` are
    those of metrics.jsonl.
    One compiled call each of encoder and decoder serves all pictures. Raises RunError where a file cannot be written.
    """
    make_folder(folder)
    names = ("curves", "reconstructions", "samples", "latent", "traversal")
    path = {name: folder / f"{name}.png" for name in names}
    from models.batch import observed
    from models.networks.nothing import NoEncoder

    classes = getattr(model, "classes", 0)
    of_prior = classes or getattr(getattr(model, "prior_module", None), "classes", 0)
    turns = np.arange(SAMPLES) % of_prior if of_prior else None
    if isinstance(getattr(model, "encoder", None), NoEncoder):
        drawn = np.asarray(jax.jit(_prior_draws, static_argnums=2)(model, key, SAMPLES, turns))
        drawing.samples(path["samples"], dataset.display(_decode(model, drawn, turns)), "decoded draws of the prior")
        return [path["samples"], *([path["curves"]] if drawing.curves(path["curves"], rows) else [])]
    x, labels = examples(dataset, CODES)
    source = source or f"{drawn_split(dataset)} set"
    given = x if getattr(model, "marks", False) else observed(x).x  # nan at missing values, or 0
    seen = jax.jit(_seen)(model, jnp.asarray(given), labels) if classes else None
    posterior = jax.jit(_posterior)(model, jnp.asarray(given), seen)
    codes = np.asarray(posterior["mean"], np.float64)
    plan = latents(model, codes, "log_std" in posterior, key, labels=turns)
    shown = min(EXAMPLES, len(codes))
    told = np.zeros(shown + SAMPLES + len(plan["moved"]), int)  # labels: of the examples, in turn, the first
    if classes:
        told[: shown + SAMPLES] = np.concatenate([np.asarray(seen)[:shown], turns])
    every = np.concatenate([codes[:EXAMPLES], plan["samples"], plan["moved"]])
    pictures = _decode(model, every, told if classes else None)
    decoded, sampled, moved = np.split(dataset.display(pictures), [shown, shown + SAMPLES])
    drawing.reconstructions(path["reconstructions"], dataset.display(x[:shown]), decoded, source=source)
    drawing.samples(path["samples"], sampled, plan["source"])
    drawing.latent_scatter(path["latent"], codes, labels, source)
    grid = moved.reshape(len(plan["order"]), len(plan["values"]), *moved.shape[1:])
    titles = [f"z {i + 1}" for i in plan["order"]]
    drawing.traversal(path["traversal"], grid, plan["values"], titles, plan["title"])
    if answer is not None:
        label = None if seen is None else seen[:shown]
        found = answer(model, jax.tree.map(jnp.asarray, observed(x[:shown], label)), jax.random.fold_in(key, 1), label)
        path["answer"] = _answered(folder, found, dataset, x[:shown], source)
    if not drawing.curves(path["curves"], rows):
        del path["curves"]
    return list(path.values())


def _answered(folder: Path, found: Any, dataset: Any, x: np.ndarray, source: str) -> Path:
    """Draw the answer of an objective that does not show the model all, beside what it was given; return its path."""
    path = folder / f"{'denoised' if found.name == 'noisy' else found.name}.png"
    given, made = (dataset.display(np.asarray(a, np.float32)) for a in (found.seen, found.mean))
    drawing.reconstructions(path, dataset.display(x), made, noisy=given, given=found.name, source=source)
    return path


def drawn_split(dataset: Any) -> str:
    """Return the name of the split that pictures are of: test, else validation, else train."""
    return next(name for name in ("test", "validation", "train") if name in dataset.splits)


def examples(dataset: Any, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return up to `count` examples as the model sees them, (n, *shape) float32, and labels (n,) or None."""
    split = dataset.splits[drawn_split(dataset)]
    x = dataset.scale.apply(split.x[:count])
    labels = None if split.y is None else np.asarray(split.y[:count])
    return x, labels if labels is None or labels.ndim == 1 else labels[:, 0]


def _seen(model: Any, x: jax.Array, labels: Any) -> Any:
    from models.batch import Batch

    return model.seen_label(Batch(x, labels))


def _posterior(model: Any, x: jax.Array, label: Any) -> dict[str, jax.Array]:
    q = model.encode(x) if label is None else model.encode(x, None, label)
    return {"mean": q.mean} | ({"log_std": q.log_std} if hasattr(q, "log_std") else {})


def _prior_draws(model: Any, key: jax.Array, count: int, labels: Any) -> jax.Array:
    draw = lambda k, y: (model.prior() if y is None else model.prior(y[None])).sample(k)[0]
    return jax.vmap(draw)(jax.random.split(key, count), labels)


def _decode(model: Any, z: np.ndarray, label: Any = None) -> np.ndarray:
    decode = jax.jit(lambda m, z, y: (m.decode(z) if y is None else m.decode(z, None, y)).mean)
    return np.asarray(decode(model, jnp.asarray(z, jnp.float32), label), np.float32)


def latents(
    model: Any,
    codes: np.ndarray,
    variational: bool,
    key: jax.Array,
    count: int = SAMPLES,
    labels: np.ndarray | None = None,
) -> dict[str, Any]:
    """Return which points of the latent space to decode, (n, latent) each, with the words that go with them.

    A variational model is shown on its prior: draws of it, and each latent moved over -3..3 with the
    others at 0. A plain autoencoder knows no prior, so the codes of the test set stand in: draws of a
    normal with their mean and covariance, and moves of 3 standard deviations about their mean. The
    latents whose codes vary most come first. `count`: how many draws. `labels`: of the draws, where the model has some.
    """
    mean, deviation = codes.mean(0), codes.std(0)
    values = np.linspace(-REACH, REACH, 11)
    order = np.argsort(-deviation, kind="stable")[:ROWS]
    if variational:
        drawn = np.asarray(jax.jit(_prior_draws, static_argnums=2)(model, key, count, labels))
        base, scale, source = np.zeros_like(mean), np.ones_like(mean), "decoded draws of the prior"
        title = "Each latent moved over −3..3, the others at 0"
    else:
        noise = np.asarray(jax.random.normal(key, (count, codes.shape[1])))
        _, singular, right = np.linalg.svd((codes - mean) / max(1, len(codes)) ** 0.5, full_matrices=False)
        drawn = mean + noise[:, : len(singular)] * singular @ right
        base, scale, source = mean, deviation, "decoded draws of a normal fitted to the codes"
        title = "Each latent moved by −3..3 standard deviations of its codes"
    if len(order) < codes.shape[1]:
        title += f"\n(the {len(order)} of {codes.shape[1]} latents that vary most)"
    moved = np.tile(base, (len(order), len(values), 1))
    for row, latent in enumerate(order):
        moved[row, :, latent] += values * scale[latent]
    return {
        "samples": drawn,
        "source": source,
        "moved": moved.reshape(-1, codes.shape[1]),
        "values": values,
        "order": order,
        "title": title,
    }
