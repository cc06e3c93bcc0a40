"""A surface: codes z -> points of a flat space, whose distances the code space borrows: G = JᵀJ."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from models.autoencoder import Autoencoder
from models.config import ConfigError
from models.distributions import Bernoulli, Normal
from models.metrics.travel.spread import Spread

Codes = Float[Array, "n latent"]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values"], meta_fields=["fun"])
@dataclasses.dataclass(frozen=True)
class Surface:
    """fun(values, z (n, latent)) -> (n, m), each row a function of its own z; `values` are traced, `fun` is structure.

    Surfaces with the same `fun` share compiled programs, whatever the weights in `values`.
    """

    fun: Callable[[Any, Array], Array]
    values: Any = ()

    def __call__(self, z: Codes) -> Float[Array, "n m"]:
        """Return the points of codes."""
        return self.fun(self.values, z)

    def jacobians(self, z: Codes) -> tuple[Float[Array, "n m"], Float[Array, "n m latent"]]:
        """Return points and J of each code: one forward pass per dimension of the code, all points at once."""
        eye = jnp.eye(z.shape[1], dtype=z.dtype)
        push = lambda v: jax.jvp(lambda z: self(z), (z,), (jnp.broadcast_to(v[None], z.shape),))
        points, columns = jax.vmap(push, out_axes=(None, 2))(eye)
        return points, columns

    def curvature(self, z: Codes, v: Codes) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Return J v and the second directional derivative vᵀ(∇²f)v, by jvp of jvp: no differences."""
        along = lambda z: jax.jvp(lambda z: self(z), (z,), (v,))[1]
        return jax.jvp(along, (z,), (v,))


def surface(
    model: Any, metric: Literal["mean", "expected"] = "mean", *, label: int | None = None, spread: Spread | None = None
) -> Surface:
    """Return the surface of a model's decoder in evaluation mode, or of a function z (n, latent) -> (n, m).

    mean: the mean of p(x|z). expected: mean and standard deviation side by side, so that G = J_μᵀJ_μ + J_σᵀJ_σ, the
    expected metric of x = μ(z) + σ(z) ε (Arvanitidis et al. 2018, "Latent space oddity", eq. 6): σ of a normal's own
    scale, √(p (1 - p)) of a Bernoulli, or of `spread`, which grows away from the data. label: of every point, for a
    model that was given labels. Raises ConfigError for likelihoods without such a mean, or narrower than the code.
    """
    if metric not in ("mean", "expected"):
        raise ConfigError(f"metric must be mean or expected, got {metric!r}")
    if not isinstance(model, Autoencoder):
        return Surface(functools.partial(_function, model))
    if model.classes and (label is None or not 0 <= label < model.classes):
        raise ConfigError(f"this model has labels: give label, a number from 0 to {model.classes - 1}, got {label}")
    graph, state = nnx.split(model)
    given = jnp.asarray(label, jnp.int32) if model.classes else None
    made = Surface(_decoder(graph, metric), (state, given, spread))
    z = jax.ShapeDtypeStruct((1, model.latent), jnp.float32)
    m = jax.eval_shape(made, z).shape[1]
    if m < model.latent:
        raise ConfigError(f"travel needs a decoder not narrower than its code, got {m} values for {model.latent} units")
    return made


@functools.lru_cache(maxsize=32)
def _decoder(graph: Any, metric: str) -> Callable[[Any, Array], Array]:
    """Return the function of a surface; one per structure of a model, so that programs are shared."""

    def points(values: Any, z: Array) -> Array:
        state, label, spread = values
        model = nnx.merge(graph, state)
        p = model.decode(z, None, None if label is None else jnp.broadcast_to(label, z.shape[:1]))
        flat = lambda a: a.reshape(z.shape[0], -1)
        if not jnp.issubdtype(p.mean.dtype, jnp.floating):
            raise ConfigError("travel needs a likelihood whose mean has a derivative, symbols have none")
        if metric == "mean":
            return flat(p.mean)
        if spread is not None:
            return jnp.concatenate([flat(p.mean), spread(z)], axis=1)
        if type(p) is Normal:
            return jnp.concatenate([flat(p.mean), flat(jnp.broadcast_to(jnp.exp(p.log_std), p.mean.shape))], axis=1)
        if isinstance(p, Bernoulli):
            half = 0.5 * flat(p.logits)
            return jnp.concatenate([flat(p.mean), 0.5 / jnp.cosh(half)], axis=1)  # √(p (1 - p)), safe at any logit
        kind = type(p).__name__.lower()
        raise ConfigError(f"the expected metric knows normal and bernoulli likelihoods, got {kind}: use metric mean")

    return points


def _function(fun: Callable[[Array], Array], values: Any, z: Array) -> Array:
    return fun(z)


def checked(surface: Surface, *codes: Any) -> tuple[Array, ...]:
    """Return codes as arrays (n, latent) of one shape. Raises ValueError for others, or what is not finite."""
    arrays = tuple(jnp.asarray(np.asarray(c), jnp.result_type(float)) for c in codes)
    if arrays[0].ndim != 2 or not arrays[0].size or any(a.shape != arrays[0].shape for a in arrays):
        raise ValueError(f"codes must be (n, latent), n at least 1, all alike; got {[a.shape for a in arrays]}")
    for a in arrays:
        if bad := int((~jnp.isfinite(a)).any(1).sum()):
            raise ValueError(f"{bad} of {len(a)} codes are not finite")
    return arrays


def finite(what: str, values: Any, why: str) -> None:
    """Raise ValueError where rows of a result are not finite: how many, the first, and why that happens."""
    bad = ~np.isfinite(np.asarray(values)).reshape(len(values), -1).all(1)
    if bad.any():
        raise ValueError(f"{bad.sum()} of {bad.size} {what} are not finite, first number {bad.argmax()}: {why}")
