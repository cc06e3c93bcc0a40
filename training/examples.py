"""Raw examples on the device; scaling and binarisation happen here, inside the jitted step."""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Shaped

from models.batch import Batch

Binarisation = Literal["none", "threshold", "static", "dynamic"]


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["x", "label", "mask"], meta_fields=["range", "classes"]
)
@dataclasses.dataclass(frozen=True)
class Examples:
    """A split as stored, (n, *shape): integers stay integers (a quarter of the memory of float32).

    `range` holds the lowest and highest raw integer, mapped to 0 and 1; float data pass as they are. label: (n,)
    int32, -1 where unknown, of `classes` classes; mask: (n, *shape), true where observed. None where there are none.
    """

    x: Any  # an array, a tracer, or whatever a pytree transformation puts here
    range: tuple[float, float] | None = None
    label: Any = None
    mask: Any = None
    classes: int = 0

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example."""
        return self.x.shape[1:]

    def take(self, index: Int[Array, " b"]) -> Float[Array, "b *shape"]:
        """Return the scaled examples at `index`."""
        return scale(jnp.asarray(self.x)[index], self.range)

    def batch(self, index: Int[Array, " b"]) -> Batch:
        """Return what a model is given of the examples at `index`: scaled, with labels and masks where there are."""
        rows = [None if part is None else jnp.asarray(part)[index] for part in (self.label, self.mask)]
        return Batch(self.take(index), *rows)

    def part(self, some: slice | Any) -> "Examples":
        """Return the examples of a slice (or an index array), with their labels and masks."""
        rows = [None if part is None else part[some] for part in (self.x, self.label, self.mask)]
        return Examples(rows[0], self.range, rows[1], rows[2], self.classes)


def example_batch(examples: Any, size: int) -> Batch:
    """Return a batch of zeros as a step will see it: with labels and masks where the examples have them."""
    shapes = jax.eval_shape(lambda: examples.batch(jnp.zeros(size, int)))
    return jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)


def scale(raw: Shaped[Array, "b *shape"], range: tuple[float | int, float | int] | None) -> Float[Array, "b *shape"]:
    """Map integers in `range` to [0, 1]; return floats unchanged."""
    if jnp.issubdtype(raw.dtype, jnp.floating):
        return raw
    low, high = range or (0.0, float(jnp.iinfo(raw.dtype).max))
    return (raw.astype(jnp.result_type(float)) - low) * (1.0 / (high - low))


def binarise(x: Float[Array, "b *shape"], how: Binarisation, key: Key[Array, ""] | None) -> Float[Array, "b *shape"]:
    """Return x, x > 1/2, or one Bernoulli(x) draw per pixel.

    "dynamic" draws with the step's key, so every visit of an example differs (Burda et al. 2016, sec. 5);
    "static" data are drawn once, before training (see `fix_binary`), and pass through here unchanged.
    """
    if how == "threshold":
        return (x > 0.5).astype(x.dtype)
    if how == "dynamic":
        assert key is not None, "dynamic binarisation draws with the key of the step"
        return jax.random.bernoulli(key, x).astype(x.dtype)
    return x


def fix_binary(examples: Examples, salt: int) -> Examples:
    """Draw each pixel once from Bernoulli(x), by a key that depends on the split, not on the run's seed."""
    key = jax.random.fold_in(jax.random.key(20_160_000), salt)
    x = scale(jnp.asarray(examples.x), examples.range)
    bits = jax.random.bernoulli(key, x).astype(jnp.uint8)
    return dataclasses.replace(examples, x=bits, range=(0.0, 1.0))
