"""Magnification: by how much the surface stretches the code space, and in which directions."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from models.metrics.travel.surface import Surface, checked, finite
from models.terms.geometry.volume import half_log_det

NOWHERE = "the surface is not finite there; choose other codes"


def magnification(surface: Surface, z: Any) -> Float[np.ndarray, " n"]:
    """Return log √det G = ½ log det JᵀJ at codes z (n, latent), nats; -inf where the metric is singular.

    Raises ValueError for Jacobians that are not finite.
    The log-volume of the surface per volume of codes (Bishop et al. 1997). By QR: JᵀJ is never formed.
    """
    (z,) = checked(surface, z)
    with jax.default_matmul_precision("highest"):
        volumes = np.asarray(_log_volumes(surface, z))
    finite("Jacobians", np.where(np.isneginf(volumes), 0, volumes), NOWHERE)
    return volumes


@jax.jit
def _log_volumes(surface: Surface, z: Any) -> Any:
    one = lambda z: half_log_det(surface.jacobians(z[None])[1])[0]
    return jax.lax.map(one, z, batch_size=256)


def indicatrices(surface: Surface, z: Any, angles: int = 40) -> Float[np.ndarray, "n angles latent"]:
    """Return at each code z (n, 2) the steps v that the surface takes for length 1: vᵀGv = 1, Tissot's ellipse.

    Raises ValueError for codes of other than 2 units, or Jacobians that are not finite.
    """
    (z,) = checked(surface, z)
    if z.shape[1] != 2:
        raise ValueError(f"an ellipse is drawn for codes of 2 units, got {z.shape[1]}: choose two of them")
    with jax.default_matmul_precision("highest"):
        j = np.asarray(jax.jit(lambda s, z: s.jacobians(z)[1])(surface, z), np.float64)
    finite("Jacobians", j, NOWHERE)
    r = np.linalg.qr(j, mode="r")
    t = np.linspace(0, 2 * np.pi, angles)
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = np.stack([np.linalg.pinv(one) for one in r])
    return np.einsum("nij,kj->nki", inverse, np.stack([np.cos(t), np.sin(t)], 1))


def grid(codes: Any, count: int = 30, margin: float = 0.1, dims: tuple[int, int] = (0, 1)) -> Float[np.ndarray, "n d"]:
    """Return count x count codes over the range of two dimensions of `codes`, and beyond it by a share `margin`.

    Rows from low to high of the second, in each the first from low to high; all other dimensions at their mean.
    """
    codes = np.asarray(codes)
    low, high = codes[:, dims].min(0), codes[:, dims].max(0)
    reach = np.maximum(high - low, np.finfo(float).eps) * margin
    ends = [np.linspace(a, b, count) for a, b in zip(low - reach, high + reach, strict=True)]
    out = np.tile(codes.mean(0), (count * count, 1))
    out[:, dims[0]], out[:, dims[1]] = np.tile(ends[0], count), np.repeat(ends[1], count)
    return out
