"""Contraction: the squared Frobenius norm of a Jacobian, and of its change nearby."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

import grads
from models import distributions
from models.batch import Pass
from models.config import config, setting
from models.networks.encoder import Encoder
from models.terms.geometry.halves import Half, Map, of_pass, random_key, signs

PerExample = Float[Array, " batch"]


@config
class Contractive:
    """||J(x)||²_F + second · E_ε ||J(x) - J(x + ε)||²_F, squared units of the output per squared unit of the input.

    of encoder: the contractive autoencoder (Rifai et al. 2011, ICML), with corruptions CAE+H (Rifai et al. 2011, ECML).
    of reconstruction: the denoising autoencoder's small-noise limit, whose r(x) - x is σ² times the score (Alain &
    Bengio 2014). of decoder: the gradient penalty of RAE (Ghosh et al. 2020), at the pass's codes.
    Rule: train with the closed form (one layer) or one probe, evaluate exactly.
    """

    weight: float = setting(0.1, at_least=0)
    """factor of the term"""
    of: Half = "encoder"
    """whose Jacobian: encoder, decoder (at the codes), reconstruction"""
    way: Literal["exact", "probe"] = "exact"
    """exact: closed form for one layer, else all of J; probe: |J v|² of one random v, unbiased"""
    corruptions: int = setting(0, at_least=0)
    """corrupted copies for the second-order part; 0: without it"""
    second: float = setting(0.1, at_least=0)
    """factor of the second-order part"""
    noise: float = setting(0.1, above=0)
    """standard deviation of the corruption ε, units of the input"""

    def __call__(self, done: Pass, net: Any) -> PerExample:
        """Return the penalty of each example; ConfigError where there is no Jacobian (see `of_pass`)."""
        half = of_pass(done, self.of, "contractive")
        if self.way == "exact" and not self.corruptions:
            return squared_norm(done.model, half, self.of)
        k_probe, k_noise = jax.random.split(random_key(done, "contractive"))
        norm = (lambda a, b: change(done.model, a, b, self.of)) if self.way == "exact" else probed(half, k_probe)
        value = norm(half, None)
        if not self.corruptions:
            return value

        def once(key: Any) -> PerExample:
            return norm(half, half.moved(half.at + self.noise * jax.random.normal(key, half.at.shape, half.at.dtype)))

        return value + self.second * jnp.mean(jax.vmap(once)(jax.random.split(k_noise, self.corruptions)), axis=0)


def probed(half: Map, key: Any) -> Any:
    """Return (a, b) -> |(J_a - J_b) v|² for one v of signs on the input side, J_b = 0 where b is None.

    One forward pass: the tangent starts as a constant, so its backward pass needs no gradient of the first input.
    """
    v = signs(key, half.at)

    def norm(a: Map, b: Map | None) -> PerExample:
        return jnp.sum(jnp.square(a.push(v) - (0 if b is None else b.push(v))), axis=1)

    return norm


def squared_norm(model: Any, half: Map, of: Half) -> PerExample:
    """Return ||J||²_F of each example: closed form where the encoder is one layer, else from the factors of J."""
    if of == "encoder" and one_layer(model, half):
        return change(model, half, None, of)

    def norm(one: Any, value: Array) -> Array:
        return grads.jacobian_operator(one, value).frobenius(squared=True, method="exact").value

    return half.each(norm)


def change(model: Any, a: Map, b: Map | None, of: Half) -> PerExample:
    """Return ||J_a - J_b||²_F of each example, J_b = 0 where b is None; of one layer Σ_j (d_j - d'_j)² |w_j|²."""
    if of == "encoder" and one_layer(model, a):
        d = slopes(model, a) - (0 if b is None else slopes(model, b))
        kernel = jnp.square(model.encoder.head.kernel[...][: a.at.shape[1], : d.shape[1]])
        mask = a.extra[1]
        seen = jnp.sum(kernel, 0, keepdims=True) if mask is None else mask.reshape(a.at.shape).astype(d.dtype) @ kernel
        return jnp.sum(jnp.square(d) * seen, axis=1)
    if b is None:
        return squared_norm(model, a, of)
    return jnp.sum(jnp.square(a.jacobians() - b.jacobians()), axis=(1, 2))


def one_layer(model: Any, half: Map) -> bool:
    """Whether the code is an elementwise function of one affine layer: J = diag(d(x)) Wᵀ."""
    net = model.encoder
    if not isinstance(net, Encoder) or net.convolutions or net.hidden:
        return False
    q = jax.eval_shape(lambda: model.encode(half.at[:1].reshape(-1, *model.shape), None, _first(half.extra[0])))
    return type(q) in (distributions.Point, distributions.Normal)


def slopes(model: Any, half: Map) -> Float[Array, "batch latent"]:
    """Return the derivative d of each unit's mean in its own number: the elementwise map pushed with ones."""
    label, mask = half.extra
    x = half.at.reshape(-1, *model.shape)
    numbers = model.numbers(x if mask is None else jnp.where(mask, x, 0), None, label)
    return jax.jvp(lambda n: model.posterior(n).mean, (numbers,), (jnp.ones_like(numbers),))[1]


def _first(label: Any) -> Any:
    return None if label is None else label[:1]
