"""How noisy estimates of a bound's gradient are: a measure of a trained model, see `experiments.running.measures`."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Key

from models.autoencoder import Autoencoder
from models.batch import Batch
from models.codes import weigher
from models.objectives import Bound
from training.examples import Examples, binarise

Numbers = dict[str, Float[Array, ""]]
Estimator = Literal["score", "leave_one_out", "plain", "stl", "dreg"]


def score_surrogate(model: Any, batch: Batch, key: Key[Array, ""], samples: int, baseline: bool) -> Float[Array, " b"]:
    """Return a value whose gradient by the encoder estimates that of -ELBO without differentiating the draws.

    mean_k (f_k - b_k) ∇ log q(z_k|x), f = log p(x, z) - log q(z|x); b_k: 0, or with `baseline` the mean of the other
    draws' f (Williams 1992; Mnih & Rezende 2016, Kool et al. 2019).
    """
    q, z, log_q, weigh = weigher(model, batch, key, samples, False)
    z = jax.lax.stop_gradient(z)
    f = jax.lax.stop_gradient(weigh(z, log_q))
    if baseline:
        f = (f - jnp.mean(f, axis=0, keepdims=True)) * samples / (samples - 1)
    return -jnp.mean(f * jax.vmap(q.log_prob)(z), axis=0)


class GradientNoise(NamedTuple):
    """Noise of one estimate of the gradient by the encoder's parameters, over keys, for one batch of test examples.

    noise_to_signal: sqrt(Σ_j var g_j / Σ_j (E g_j)²). gradient_variance: Σ_j var g_j, nats². snr: mean of |E g_j| /
    sd g_j over the parameters that ever move (Rainforth et al. 2018, section 3). E g is taken from the doubly
    reparameterised estimate of the same bound by 16 draws or more: its own mean would hide in the noise of a score.
    """

    estimator: Estimator
    """score, leave_one_out: of the ELBO by `draws`; plain, stl, dreg: of the bound of `draws` (Bound.gradient)"""
    draws: int
    """for each example and estimate: k of the bound, or the draws that are averaged where `averaged`"""
    averaged: bool = False
    """the draws are averaged estimates of the ELBO, not weighted against each other"""
    batch: int = 20
    """examples"""
    keys: int = 100
    """estimates"""

    def __call__(self, config: Any, model: Autoencoder, examples: Examples, key: Key[Array, ""]) -> Numbers:
        """Return the numbers."""
        batch = examples.batch(jnp.arange(self.batch))
        batch = batch._replace(x=binarise(batch.x, config.binarise, jax.random.fold_in(key, 0)))
        k_own, k_reference = jax.random.split(jax.random.fold_in(key, 1))
        inner = 1 if self.averaged or self.estimator in ("score", "leave_one_out") else self.draws
        reference = Bound(samples=inner, outer=max(1, 16 // inner), gradient="dreg")
        _, variance = moments(self.per_example, model, batch, k_own, self.keys)
        loss = lambda model, batch, key: reference(model, batch, key, False)[0]
        mean, spread = moments(loss, model, batch, k_reference, self.keys)
        noise = jnp.sum(variance)
        signal = jnp.sum(mean * mean) - jnp.sum(spread) / self.keys
        moves = variance > 0
        ratio = jnp.where(moves, jnp.abs(mean) / jnp.sqrt(jnp.where(moves, variance, 1)), 0)
        return {
            "noise_to_signal": jnp.sqrt(noise / signal),
            "gradient_variance": noise,
            "snr": jnp.sum(ratio) / jnp.sum(moves),
        }

    def per_example(self, model: Any, batch: Batch, key: Key[Array, ""]) -> Float[Array, " b"]:
        """Return what is differentiated, for each example."""
        if self.estimator == "score" or self.estimator == "leave_one_out":
            return score_surrogate(model, batch, key, self.draws, self.estimator == "leave_one_out")
        inner, outer = (1, self.draws) if self.averaged else (self.draws, 1)
        return Bound(samples=inner, outer=outer, gradient=self.estimator)(model, batch, key, False)[0]


def moments(
    per_example: Callable[..., Array], model: Autoencoder, batch: Batch, key: Key[Array, ""], keys: int
) -> tuple[Float[Array, " n"], Float[Array, " n"]]:
    """Return mean and variance over keys of the gradient of a batch's mean by the n parameters of the encoder."""
    own = lambda path, leaf: path[0] == "encoder" and isinstance(leaf, nnx.Param)
    graph, encoder, rest = nnx.split(model, own, ...)

    def loss(encoder: Any, key: Key[Array, ""]) -> Float[Array, ""]:
        return jnp.mean(per_example(nnx.merge(graph, encoder, rest, copy=True), batch, key))

    def update(total: tuple[Array, Array], i: Array) -> tuple[tuple[Array, Array], None]:
        mean, squares = total  # running (Welford): no difference of near-equal sums
        slope = jax.grad(loss)(encoder, jax.random.fold_in(key, i))
        g = jnp.concatenate([jnp.ravel(part) for part in jax.tree.leaves(slope)])
        moved = mean + (g - mean) / (i + 1)
        return (moved, squares + (g - mean) * (g - moved)), None

    zero = jnp.zeros(sum(leaf.size for leaf in jax.tree.leaves(encoder)))
    (mean, squares), _ = jax.lax.scan(update, (zero, zero), jnp.arange(keys))
    return mean, squares / (keys - 1)
