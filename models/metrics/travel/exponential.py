"""The exponential map: where a walk straight ahead on the surface ends."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from models.metrics.travel.surface import Surface, checked, finite


def exponential(surface: Surface, z: Any, v: Any, *, steps: int = 64) -> Float[np.ndarray, "n points latent"]:
    """Return the geodesics that leave codes z (n, latent) with velocities v, for one unit of time.

    z'' = -J⁺ (z'ᵀ ∇²f z'), the acceleration that keeps f(z(t)) without acceleration along the surface, by Runge and
    Kutta's rule of fourth order; the second derivative by jvp of jvp, J⁺ by QR. Shape (n, steps + 1, latent); the last
    point is exp_z(v), and the length of the walk is |J v|. Raises ValueError where it leaves what is finite, or meets
    a singular metric.
    """
    z, v = checked(surface, z, v)
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    with jax.default_matmul_precision("highest"):
        path = np.asarray(_walk(surface, z, v, steps))
    finite("walks", path, "the metric is singular on the way, or the step too long; take more steps or a shorter v")
    return path


@functools.partial(jax.jit, static_argnums=3)
def _walk(surface: Surface, z: Array, v: Array, steps: int) -> Array:
    h = 1.0 / steps

    def slope(z: Array, v: Array) -> tuple[Array, Array]:
        _, j = surface.jacobians(z)
        q, r = jnp.linalg.qr(j)
        size = jnp.abs(jnp.diagonal(r, axis1=1, axis2=2))
        singular = size.min(1) <= z.shape[1] * jnp.finfo(r.dtype).eps * size.max(1)  # else rounding would be divided by
        bend = jnp.where(singular[:, None], jnp.nan, jnp.einsum("nmi,nm->ni", q, surface.curvature(z, v)[1]))
        return v, -jax.scipy.linalg.solve_triangular(r, bend[..., None])[..., 0]

    def step(state: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        moved = lambda k, by: tuple(s + by * d for s, d in zip(state, k, strict=True))
        k1 = slope(*state)
        k2 = slope(*moved(k1, h / 2))
        k3 = slope(*moved(k2, h / 2))
        k4 = slope(*moved(k3, h))
        z, v = (s + h / 6 * (a + 2 * b + 2 * c + d) for s, a, b, c, d in zip(state, k1, k2, k3, k4, strict=True))
        return (z, v), z

    path = jax.lax.scan(step, (z, v), None, steps)[1]
    return jnp.concatenate([z[:, None], jnp.moveaxis(path, 0, 1)], axis=1)
