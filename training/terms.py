"""The scalar terms of a step, kept as one vector: a handful of numbers should cost one operation, not one each."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool

from models.config import config, setting


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["names"])
@dataclasses.dataclass(frozen=True)
class Terms:
    """`values[..., i]` belongs to `names[i]`; the names are structure, in the order in which they are computed."""

    values: Any  # (..., terms), an array, a tracer, or whatever a pytree transformation puts here
    names: tuple[str, ...]

    @classmethod
    def of(cls, terms: Mapping[str, Array]) -> "Terms":
        """Return scalars as one vector, in at least float32."""
        values = jnp.stack(list(terms.values()))
        return cls(values.astype(jnp.promote_types(values.dtype, jnp.float32)), tuple(terms))

    def __getitem__(self, name: str) -> Any:
        return self.values[..., self.names.index(name)]

    def items(self) -> Iterator[tuple[str, Any]]:
        """Yield (name, value)."""
        return ((name, self[name]) for name in self.names)


def all_finite(tree: Any) -> Bool[Array, ""]:
    """Return whether every number of a tree is finite."""
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(tree)]))


def last_gradient_is_bad(state: Any) -> Any:
    """Return the state with the last step named as bad if it left parameters that are not finite.

    Called at the end of a dispatch. Inside one, a bad gradient is noticed as the next step's bad loss, and the
    host replays up to that step to tell the two apart: no step pays for a pass over its gradients.
    """
    spoiled = (state.bad_step < 0) & ~all_finite(nnx.state(state.model, nnx.Param))
    names = state.bad_terms.names
    gradient = jnp.arange(len(names)) == len(names) - 1
    return state._replace(
        bad_step=jnp.where(spoiled, state.step - 1, state.bad_step),
        bad_terms=Terms(jnp.where(spoiled, gradient, state.bad_terms.values), names),
    )


def first_bad_term(state: Any) -> dict[str, Any]:
    """Return the step and the names of its non-finite terms, causes before consequences."""
    names = [name for name, bad in state.bad_terms.items() if bool(bad)]
    return {"step": int(state.bad_step), "term": names[0], "all_terms": names}


@config
class Off:
    """No penalty on the weights."""


@config
class Weights:
    """l1 * sum |w| + l2 * sum w^2 over all kernels, added to the mean loss."""

    l1: float = setting(0.0, at_least=0)
    """Weight of the sum of absolute values."""
    l2: float = setting(1e-4, at_least=0)
    """Weight of the sum of squares."""
