"""Self-organising maps: units on a grid, each a point of the data space, neighbours on the grid near each other.

The classical baseline beside PCA (Kohonen 1982, 2001). Batch and online rules end at the same map up to noise.
"""

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.linear import pca

Rows = Float[Array | np.ndarray, "n d"]
CHUNK = 1024  # rows whose distances to all units are held together


class SOM(NamedTuple):
    """A map: `units` (height, width, d)."""

    units: Array

    def nearest(self, x: Rows) -> tuple[Int[Array, "n 2"], Float[Array, " n"]]:
        """Return the two nearest units of each row (flat numbers, the first one nearer) and the distance to the first.

        A map of one unit has that one twice.
        """
        units = self.units.reshape(-1, self.units.shape[-1])

        def one(row: Array) -> tuple[Array, Array]:
            square = jnp.sum(jnp.square(units - row[None]), axis=1)
            first = jnp.argmin(square)
            second = jnp.argmin(square.at[first].set(jnp.inf))
            return jnp.stack([first, second if len(units) > 1 else first]), jnp.sqrt(square[first])

        return jax.lax.map(one, jnp.asarray(x, units.dtype), batch_size=CHUNK)

    def encode(self, x: Rows) -> Int[Array, "n 2"]:
        """Return row and column of each example's nearest unit."""
        return jnp.stack(jnp.unravel_index(self.nearest(x)[0][:, 0], self.units.shape[:2]), axis=1)

    def decode(self, at: Int[Array | np.ndarray, "n 2"]) -> Rows:
        """Return the units at these rows and columns."""
        return self.units[at[:, 0], at[:, 1]]

    def quantisation_error(self, x: Rows) -> Float[Array, ""]:
        """Return the mean distance of rows to their nearest unit, in the units of x."""
        return jnp.mean(self.nearest(x)[1])

    def topographic_error(self, x: Rows) -> Float[Array, ""]:
        """Return the share of rows whose two nearest units are no neighbours, diagonals included (Kiviluoto 1996)."""
        both = jnp.stack(jnp.unravel_index(self.nearest(x)[0], self.units.shape[:2]), axis=2)  # (n, 2 units, 2 axes)
        apart = jnp.max(jnp.abs(both[:, 0] - both[:, 1]), axis=1)
        return jnp.mean((apart > 1).astype(self.units.dtype))


def som(
    x: Any,
    height: int,
    width: int,
    key: PRNGKeyArray,
    *,
    rule: Literal["batch", "online"] = "batch",
    epochs: int = 20,
    radius: tuple[float, float] | None = None,
    rate: tuple[float, float] = (0.5, 0.01),
) -> SOM:
    """Return a map of height x width units fitted to the rows of x (n, ...), from the plane of the first components.

    batch: every unit becomes Σ_i h(b_i, k) x_i / Σ_i h(b_i, k), b_i the nearest unit of x_i. online: for rows
    in random order, w_k += rate h(b, k) (x - w_k). h = exp(-(distance on the grid)² / (2 radius²)).
    radius (first, last): falls by equal factors, over epochs or over rows; default: half the longer side to 1/2.
    rate: the same for online. Raises ValueError for sizes, epochs, radii or rates out of range.
    """
    rows = jnp.asarray(np.asarray(x, np.float64).reshape(len(x), -1), float)
    first, last = radius or (max(0.5 * max(height, width), 0.5), 0.5)
    if (
        min(height, width, epochs) < 1
        or min(first, last, *rate) <= 0
        or max(rate) > 1
        or rule not in ("batch", "online")
    ):
        raise ValueError(
            f"a map needs sides, epochs, radii and rates above 0, rates at most 1 and rule batch or online; got "
            f"{height} x {width}, {epochs} epochs, radius {(first, last)}, rate {rate}, rule {rule!r}"
        )
    start = first_plane(rows, height, width).reshape(-1, rows.shape[1])
    place = jnp.stack(jnp.meshgrid(jnp.arange(height), jnp.arange(width), indexing="ij"), -1).reshape(-1, 2)
    grid = jnp.sum(jnp.square(place[:, None] - place[None]), axis=2).astype(rows.dtype)  # squared distances
    run = _batch if rule == "batch" else _online
    units = run(rows, start, grid, key, epochs, (first, last), rate)
    return SOM(units.reshape(height, width, -1))


def first_plane(rows: Array, height: int, width: int) -> Float[Array, "height width d"]:
    """Return units on the plane of two principal components, from -2 to 2 deviations; the longer side on the first."""
    count = min(2, *rows.shape)
    found = pca(rows, count)
    side = lambda n: jnp.linspace(-2.0, 2.0, n) if n > 1 else jnp.zeros(1)
    first, second = (side(height), side(width)) if height >= width else (side(width), side(height))
    scaled = found.components * jnp.sqrt(found.variances)[:, None]
    plane = first[:, None, None] * scaled[0][None, None]
    if count > 1:
        plane = plane + second[None, :, None] * scaled[1][None, None]
    else:
        plane = jnp.broadcast_to(plane, (len(first), len(second), rows.shape[1]))
    plane = plane if height >= width else jnp.swapaxes(plane, 0, 1)
    return found.mean[None, None] + plane


def _between(ends: tuple[float, float], share: Any) -> Any:
    return ends[0] * (ends[1] / ends[0]) ** share


def nearest(rows: Rows, units: Float[Array, "units d"]) -> Int[Array, " n"]:
    """Return which unit is nearest to each row.

    By |unit|² - 2 row·unit (|row|² is the same for all units), both from the units' centre: far from it the two agree
    in all their digits.
    """
    centre = jnp.mean(units, axis=0, keepdims=True)
    units = units - centre
    square = jax.lax.optimization_barrier(jnp.sum(units * units, axis=1)[None] - 2 * (rows - centre) @ units.T)
    # the first of the least, as by `argmin`, from two plain minima: seven times as fast by the CPU backend
    least = jnp.min(square, axis=1, keepdims=True)
    return jnp.min(jnp.where(square == least, jnp.arange(len(units))[None], len(units) - 1), axis=1)


def _batch(rows: Array, units: Array, grid: Array, key: Any, epochs: int, radius: Any, rate: Any) -> Array:
    def epoch(units: Array, number: Array) -> tuple[Array, None]:
        best = nearest(rows, units)
        counts = jnp.zeros(len(units), rows.dtype).at[best].add(1)
        sums = jnp.zeros_like(units).at[best].add(rows)
        near = jnp.exp(-0.5 * grid / _between(radius, number / max(1, epochs - 1)) ** 2)
        weight = near @ counts
        # a unit that no example's neighbourhood reaches stays where it is
        return jnp.where(weight[:, None] > 0, near @ sums / jnp.where(weight > 0, weight, 1)[:, None], units), None

    return jax.lax.scan(epoch, units, jnp.arange(epochs))[0]


def _online(rows: Array, units: Array, grid: Array, key: Any, epochs: int, radius: Any, rate: Any) -> Array:
    n = len(rows)
    order = jax.vmap(lambda k: jax.random.permutation(k, n))(jax.random.split(key, epochs)).reshape(-1)

    def step(units: Array, at: tuple[Array, Array]) -> tuple[Array, None]:
        number, i = at
        share = number / max(1, n * epochs - 1)
        gap = rows[i][None] - units
        best = jnp.argmin(jnp.sum(gap * gap, axis=1))
        near = jnp.exp(-0.5 * grid[best] / _between(radius, share) ** 2)
        return units + _between(rate, share) * near[:, None] * gap, None

    return jax.lax.scan(step, units, (jnp.arange(n * epochs), order))[0]
