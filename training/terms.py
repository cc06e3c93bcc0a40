"""The scalar terms of a step, kept as one vector: a handful of numbers should cost one operation, not one each."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


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
