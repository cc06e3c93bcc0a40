"""Input corruptions for denoising: each is f(x, key, level) -> corrupted x of the same shape."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.config import ConfigError, nearest

Batch = Float[Array, "batch *event"]
Level = Float[Array, ""] | float


def gaussian(x: Batch, key: PRNGKeyArray, level: Level) -> Batch:
    """Add level * N(0, 1) to every value; not clipped (Vincent et al. 2010, section 3.1)."""
    return x + level * jax.random.normal(key, x.shape, x.dtype)


def mask(x: Batch, key: PRNGKeyArray, level: Level) -> Batch:
    """Set each value to 0 with probability `level`."""
    return jnp.where(jax.random.uniform(key, x.shape) < level, 0, x)


def block(x: Batch, key: PRNGKeyArray, level: Level) -> Batch:
    """Set to 0 a square of every image whose side is √level of the shorter side, anywhere (Pathak et al. 2016).

    Sides are rounded to pixels. Raises ConfigError for examples that are no images.
    """
    if x.ndim != 4:
        raise ConfigError(f"corruption block needs images (H, W, C), got examples of shape {x.shape[1:]}: use mask")
    n, height, width = x.shape[:3]
    side = jnp.round(jnp.sqrt(level) * min(height, width))

    def inside(key: PRNGKeyArray, size: int) -> Array:
        first = jnp.floor(jax.random.uniform(key, (n, 1)) * (size - side + 1))
        at = jnp.arange(size)[None] - first
        return (at >= 0) & (at < side)

    rows, columns = (inside(k, size) for k, size in zip(jax.random.split(key), (height, width), strict=True))
    return jnp.where(rows[:, :, None, None] & columns[:, None, :, None], 0, x)


def salt_and_pepper(x: Batch, key: PRNGKeyArray, level: Level) -> Batch:
    """Set each value, with probability `level`, to 0 or 1 by a fair coin: the extremes of data in [0, 1]."""
    uniform = jax.random.uniform(key, x.shape)
    extreme = (uniform < 0.5 * level).astype(x.dtype)  # level / 2 of the values become 1, as many become 0
    return jnp.where(uniform < level, extreme, x)


def unknown(x: Batch, key: PRNGKeyArray, level: Level) -> Batch:
    """Set each symbol but the end (0) to 1, the unknown one, with probability `level`."""
    return jnp.where((jax.random.uniform(key, x.shape) < level) & (x != 0), 1, x)


CORRUPTIONS: dict[str, Callable[[Array, Array, Level], Array]] = {
    "gaussian": gaussian,
    "mask": mask,
    "block": block,
    "salt_and_pepper": salt_and_pepper,
    "unknown": unknown,
}


def corrupt(name: str, x: Batch, key: PRNGKeyArray, level: Level) -> Batch:
    """Return `x` corrupted; ConfigError, naming the nearest, for an unknown name."""
    if name not in CORRUPTIONS:
        raise ConfigError(f"unknown corruption {name!r}; nearest: {', '.join(nearest(name, CORRUPTIONS))}")
    return CORRUPTIONS[name](x, key, level)
