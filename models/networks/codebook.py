"""Codebooks: entries by position, and how they follow what is assigned to them."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.maps import nearest

Points = Float[Array, "points width"]


class Codebook(nnx.Module):
    """`levels` books of `entries` vectors; a code is one entry of every level at each position, added up.

    moving: the entries are running means of what was assigned to them (van den Oord et al. 2017, appendix A.1), no
    gradient; else they are parameters. An entry whose running count falls below `restart` of its fair share is put
    on a point of the batch (Dhariwal et al. 2020, section 3.1); 0: never.
    """

    def __init__(self, levels: int, entries: int, width: int, moving: bool, *, rngs: nnx.Rngs):
        start = jax.random.normal(rngs.params(), (levels, entries, width))
        self.moving, self.size, self.width, self.levels = moving, entries, width, levels
        self.counts = nnx.BatchStat(jnp.ones((levels, entries)))
        self.values: Any = (nnx.BatchStat if moving else nnx.Param)(start)

    def entries(self) -> Float[Array, "levels entries width"]:
        """Return the vectors."""
        return self.values[...]

    def lookup(self, indices: Int[Array, "batch positions levels"]) -> Float[Array, "batch latent"]:
        """Return the codes of indices: the sum over levels at each position, positions beside each other."""
        books = self.entries()
        found = sum((books[level][indices[..., level]] for level in range(1, self.levels)), books[0][indices[..., 0]])
        return found.reshape(found.shape[0], -1)

    def nearest(self, points: Points) -> tuple[Int[Array, "points levels"], Points, list[Points]]:
        """Return the indices, the sum of their entries, and what each level was given: the rest of the one before."""
        books, rest, chosen = self.entries(), points, jnp.zeros_like(points)
        indices, seen = [], []
        for level in range(self.levels):
            book = books[level]
            given = jax.lax.stop_gradient(rest)
            at = nearest(given, jax.lax.stop_gradient(book))
            indices.append(at)
            seen.append(given)
            chosen, rest = chosen + book[at], rest - book[at]
        return jnp.stack(indices, 1), chosen, seen

    def move(self, indices: Array, seen: list[Points], decay: Any, restart: Any, key: PRNGKeyArray) -> None:
        """Move the running counts, and running means where the entries are such, towards this batch's."""
        counts, values = self.counts[...], self.values[...]
        for level, points in enumerate(seen):
            hot = jax.nn.one_hot(indices[:, level], self.size, dtype=values.dtype)
            fair = points.shape[0] / self.size
            here = hot.sum(0)
            count = decay * counts[level] + (1 - decay) * here / fair
            book = values[level]
            if self.moving:
                share = ((1 - decay) * here / fair / jnp.maximum(count, 1e-6))[:, None]
                book = book + share * (hot.T @ points / jnp.maximum(here, 1)[:, None] - book)
            dead = count < restart
            drawn = jax.random.randint(jax.random.fold_in(key, level), (self.size,), 0, points.shape[0])
            book = jnp.where(dead[:, None], points[drawn], book)
            counts = counts.at[level].set(jnp.where(dead, 1.0, count))
            values = values.at[level].set(book)
        self.counts[...] = jax.lax.stop_gradient(counts).astype(self.counts[...].dtype)
        if self.moving:
            self.values[...] = jax.lax.stop_gradient(values).astype(self.values[...].dtype)
