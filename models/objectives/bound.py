"""Importance-weighted bounds on log p(x) and their gradients."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Batch, Pass, as_batch
from models.codes import weigher
from models.config import config, setting
from models.objectives.passing import Result, Step, watched


@jax.custom_vjp
def scale_gradient(z: Array, factor: Array) -> Array:
    """Return z; its gradient is multiplied by `factor`, which gets none."""
    return z


scale_gradient.defvjp(lambda z, factor: (z, factor), lambda factor, g: (g * factor, jnp.zeros_like(factor)))


def frozen(q: Any) -> Any:
    """Return q without a gradient by its parameters: a distribution is a pytree, and so are the modules in it."""
    return jax.tree.map(jax.lax.stop_gradient, q)


@config
class Bound:
    """Minus an importance-weighted bound: -mean_m log (1/k Σ_i w_mi), w = p(x, z) / q(z|x), z ~ q(z|x), nats.

    IWAE: outer = 1 (Burda et al. 2016). MIWAE: outer > 1; CIWAE: mix; PIWAE: gradient piwae (Rainforth et al. 2018).
    """

    samples: int = setting(5, at_least=1)
    """k, draws inside the logarithm"""
    outer: int = setting(1, at_least=1)
    """m, independent bounds of k draws that are averaged"""
    gradient: Literal["plain", "stl", "dreg", "piwae"] = "plain"
    """plain; stl: no score of q (Roeder et al. 2017; biased for k > 1); dreg: doubly reparameterised for the encoder,
    plain for the decoder (Tucker et al. 2019); piwae: the decoder by one bound of all outer * k draws, the encoder by
    the mean of outer bounds"""
    mix: float = setting(0.0, at_least=0, at_most=1)
    """ciwae: share of the one-draw bound in the loss; 0: the importance-weighted bound alone"""

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the loss with the terms negative_bound (of k draws) and negative_elbo (of one), nats.

        The loss is the value of the bound whatever its gradient is that of.
        """
        batch, groups = as_batch(batch), (self.outer, self.samples, -1)
        q, z, log_q, weigh = weigher(model, batch, key, self.samples * self.outer, training)
        if self.gradient in ("stl", "dreg"):
            log_q = jax.vmap(frozen(q).log_prob)(z)
        log_w = weigh(z, log_q)
        negative_bound = -jnp.mean(_log_mean(log_w.reshape(groups)), axis=0)
        negative_elbo = -jnp.mean(log_w, axis=0)
        share = jax.lax.stop_gradient(jax.nn.softmax(log_w.reshape(groups), axis=1)).reshape(log_w.shape) / self.outer
        bound = negative_bound
        if self.gradient == "dreg":
            slower = scale_gradient(z, self.outer * share[..., None])
            again = weigh(slower, jax.vmap(frozen(q).log_prob)(slower))
            bound = with_gradient_of(negative_bound, -jnp.sum(share * again, axis=0))
        if self.gradient == "piwae":
            every = jax.lax.stop_gradient(jax.nn.softmax(log_w, axis=0))
            apart = (every - share) * weigh(jax.lax.stop_gradient(z), jax.lax.stop_gradient(log_q))
            bound = with_gradient_of(negative_bound, -jnp.sum(apart + share * log_w, axis=0))
        loss = (1 - self.mix) * bound + self.mix * negative_elbo
        p = model.decode(z[0], None, batch.label)
        done = Pass(model, batch, q, z[0], log_q[0], p, jax.random.fold_in(key, 8), training)
        return loss, {"negative_bound": negative_bound, "negative_elbo": negative_elbo}, done

    criterion = staticmethod(watched)

    def at(self, step: Step) -> "Bound":
        """Return itself: nothing is scheduled."""
        return self


def _log_mean(log_w: Float[Array, "outer samples batch"]) -> Float[Array, "outer batch"]:
    return jax.nn.logsumexp(log_w, axis=1) - jnp.log(float(log_w.shape[1]))


def with_gradient_of(value: Array, other: Array) -> Array:
    """Return `value`, whose gradient is that of `other`."""
    return jax.lax.stop_gradient(value - other) + other
