"""A model's halves as functions of vectors whose Jacobians are wanted: f: x -> code, g: code -> mean, and r = g(f(x)).

All are in evaluation mode: no dropout, running batch statistics. There an example's output depends on that example
alone, so the Jacobian of the batch is block diagonal, one jvp or vjp of the whole batch is one of every example, and
`each` may take the examples one at a time. In training mode batch statistics tie the examples together and no example
has a Jacobian of its own: a term refuses them. Values that were not observed (mask) are held at 0: their columns are 0.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.batch import Batch, Pass
from models.codes import posterior_name
from models.config import ConfigError
from models.networks.layers import BatchNorm
from models.networks.nothing import NoEncoder

Half = Literal["encoder", "decoder", "reconstruction"]
Vectors = Float[Array, "batch inputs"]


class Map(NamedTuple):
    """A function of independent examples: many(at (b, n), extra) -> (b, m); `extra` (label, mask) is held fixed."""

    many: Callable[[Array, Any], Array]
    at: Array
    extra: Any = (None, None)

    def __call__(self, values: Vectors) -> Float[Array, "batch outputs"]:
        """Return the outputs of a whole batch."""
        return self.many(values, self.extra)

    @property
    def outputs(self) -> int:
        """Return the number of outputs of an example."""
        return jax.eval_shape(lambda x: self(x), self.at).shape[1]

    def each(self, fun: Callable[[Callable[[Array], Array], Array], Any]) -> Any:
        """Return fun(function of one example (n,) -> (m,), example) of every example."""

        def one(value: Array, extra: Any) -> Any:
            row = jax.tree.map(lambda a: a[None], extra)
            return fun(lambda v: self.many(v[None], row)[0], value)

        return jax.vmap(one)(self.at, self.extra)

    def jacobians(self) -> Float[Array, "batch outputs inputs"]:
        """Return J of every example, by the cheapest exact method that `grads` finds."""
        import grads

        return self.each(lambda one, value: grads.jacobian(one)(value))

    def push(self, v: Vectors) -> Float[Array, "batch outputs"]:
        """Return J v of every example: one forward pass of the batch."""
        import grads

        return grads.jvp(lambda x: self(x), self.at, v)[1]

    def pull(self, u: Float[Array, "batch outputs"]) -> Vectors:
        """Return u J of every example: one reverse pass of the batch."""
        import grads

        return grads.vjp(lambda x: self(x), self.at, u)[1]

    def moved(self, at: Vectors) -> "Map":
        """Return the same function at other points."""
        return self._replace(at=at)


def encoder(model: Any, x: Array, label: Any = None, mask: Any = None, name: str = "a Jacobian") -> Map:
    """Return x -> mean of q(z|x); ConfigError where codes have no derivative."""
    if isinstance(model.encoder, NoEncoder):
        raise ConfigError(f"{name} needs an encoder, this model has none: use it on the decoder")
    differentiable(x, name)

    def many(x: Array, extra: Any) -> Array:
        label, mask = extra
        x = x.reshape(-1, *model.shape)
        q = model.encode(x if mask is None else model.sees(Batch(jnp.where(mask, x, 0), label, mask)), None, label)
        return mean_code(q, name)

    return Map(many, x.reshape(x.shape[0], -1), (label, mask))


def decoder(model: Any, z: Array, label: Any = None, name: str = "a Jacobian") -> Map:
    """Return z -> mean of p(x|z), flat; ConfigError where the mean has no derivative."""

    def many(z: Array, extra: Any) -> Array:
        mean = model.decode(z, None, extra[0]).mean
        if not jnp.issubdtype(mean.dtype, jnp.floating):
            raise ConfigError(f"{name} needs a likelihood whose mean has a derivative, symbols have none")
        return mean.reshape(z.shape[0], -1)

    return Map(many, z, (label, None))


def reconstruction(model: Any, x: Array, label: Any = None, mask: Any = None, name: str = "a Jacobian") -> Map:
    """Return x -> mean of p(x|z) at the mean code."""
    f = encoder(model, x, label, mask, name)
    g = decoder(model, jnp.zeros((1, model.latent)), label, name)
    return Map(lambda x, extra: g.many(f.many(x, extra), extra), f.at, f.extra)


def of_pass(done: Pass, half: Half, name: str) -> Map:
    """Return that function of the pass's model at its examples (decoder: at its codes, which keep their gradient).

    Raises ConfigError in training with batch statistics: the network that is trained is then not a function of one
    example, and its running averages, which have no gradient, would let the penalty be met by a change of scale.
    """
    if done.training and any(isinstance(m, BatchNorm) for _, m in nnx.iter_modules(done.model)):
        raise ConfigError(f"{name} needs an example's own Jacobian, batch statistics have none: use norm layer or none")
    if half == "decoder":
        return decoder(done.model, done.z, done.batch.label, name)
    make = encoder if half == "encoder" else reconstruction
    return make(done.model, done.batch.x, done.batch.label, done.batch.mask, name)


def mean_code(q: Any, name: str) -> Array:
    """Return the mean of a posterior; ConfigError for one that has none, or whose codes jump."""
    if hasattr(q, "indices"):
        raise ConfigError(f"{name} needs codes that move with x, those of {posterior_name(q)} jump: no Jacobian")
    mean = getattr(q, "mean", None)
    if mean is None:
        raise ConfigError(f"{name} needs a posterior with a mean, got {posterior_name(q)}: use point or normal")
    return mean


def differentiable(x: Array, name: str) -> None:
    """Raise ConfigError for examples that are symbols."""
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ConfigError(f"{name} needs examples that are real numbers, got {x.dtype} symbols: use it on the decoder")


def random_key(done: Pass, name: str) -> Any:
    """Return the pass's key; ConfigError where it has none."""
    if done.key is None:
        raise ConfigError(f"{name} draws at random and the pass has no key: give one, or use way exact")
    return done.key


def signs(key: Any, like: Array) -> Array:
    """Return independent -1 and 1 of that shape: E v vᵀ = I, and of all such v the least variance of vᵀ A v."""
    return jax.random.rademacher(key, like.shape, like.dtype)


def tall(half: Map, name: str) -> None:
    """Raise ConfigError for a map into fewer dimensions: its metric is singular everywhere."""
    outputs, inputs = half.outputs, half.at.shape[1]
    if outputs < inputs:
        raise ConfigError(f"{name} needs a decoder not narrower than its code, got {outputs} values for {inputs} units")


def several(half: Map, name: str) -> None:
    """Raise ConfigError for a code of one unit, which has no pairs."""
    if half.at.shape[1] < 2:
        raise ConfigError(f"{name} compares pairs of code units: latent must be at least 2, got {half.at.shape[1]}")
