"""Contraction: the squared Frobenius norm of a Jacobian, and of its change nearby."""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models import distributions
from models.batch import Batch, Pass
from models.config import config, setting
from models.networks.encoder import Encoder
from models.networks.layers import activation
from models.terms.geometry.halves import Half, Map, mean_code, of_pass, random_key, signs

PerExample = Float[Array, " batch"]
Norm = Callable[[Map, Map | None], PerExample]


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
    """exact: closed form for one layer, by layers for dense ones, else all of J; probe: |J v|² of one v, unbiased"""
    corruptions: int = setting(0, at_least=0)
    """corrupted copies for the second-order part; 0: without it"""
    second: float = setting(0.1, at_least=0)
    """factor of the second-order part"""
    noise: float = setting(0.1, above=0)
    """standard deviation of the corruption ε, units of the input"""

    def __call__(self, done: Pass, net: Any) -> PerExample:
        """Return the penalty of each example; ConfigError where there is no Jacobian (see `of_pass`)."""
        half = of_pass(done, self.of, "contractive")
        exact = exact_way(done, half, self.of)
        if self.way == "exact" and not self.corruptions:
            return exact(half, None)
        k_probe, k_noise = jax.random.split(random_key(done, "contractive"))
        norm = exact if self.way == "exact" else probed(done, half, self.of, k_probe)
        value = norm(half, None)
        if not self.corruptions:
            return value

        def once(key: Any) -> PerExample:
            return norm(half, half.moved(half.at + self.noise * jax.random.normal(key, half.at.shape, half.at.dtype)))

        return value + self.second * jnp.mean(jax.vmap(once)(jax.random.split(k_noise, self.corruptions)), axis=0)


def probed(done: Pass, half: Map, of: Half, key: Any) -> Norm:
    """Return (a, b) -> |(J_a - J_b) v|² for one v of signs on the input side, J_b = 0 where b is None.

    One forward pass: the tangent starts as a constant, so its backward pass needs no gradient of the first input. A
    dense encoder's slopes are those of the pass's own values, so that one backward pass serves the loss and them.
    """
    v = signs(key, half.at)
    own = of == "encoder" and bool(done.kept) and undropped(done.model) and layered(done.model, half)

    def norm(a: Map, b: Map | None) -> PerExample:
        if b is None and own:
            return jnp.sum(jnp.square(pushed(done, a, v)), axis=1)
        return jnp.sum(jnp.square(a.push(v) - (0 if b is None else b.push(v))), axis=1)

    return norm


def exact_way(done: Pass, half: Map, of: Half) -> Norm:
    """Return (a, b) -> ||J_a - J_b||²_F of each example, J_b = 0 where b is None; by layers where they are dense."""
    model = done.model
    if of != "encoder" or not layered(model, half):
        return lambda a, b: jnp.sum(jnp.square(a.jacobians() - (0 if b is None else b.jacobians())), axis=(1, 2))
    if not model.encoder.hidden:
        return lambda a, b: one_layer(model, slopes(model, a, done if a is half else None), a, b)

    def norm(a: Map, b: Map | None) -> PerExample:
        if b is None:
            return by_layers(model, a)
        return jnp.sum(jnp.square(a.jacobians() - b.jacobians()), axis=(1, 2))

    return norm


def one_layer(model: Any, d: Float[Array, "batch latent"], a: Map, b: Map | None) -> PerExample:
    """Return Σ_j (d_j - d'_j)² |w_j|² of a code that is an elementwise function of one affine map: J = diag(d) Wᵀ."""
    if b is not None:
        d = d - slopes(model, b)
    kernel = jnp.square(model.encoder.head.kernel[...][: a.at.shape[1], : d.shape[1]])
    mask = a.extra[1]
    if mask is None:
        return jnp.matmul(jnp.square(d), jnp.sum(kernel, axis=0), precision="highest")
    return jnp.sum(jnp.square(d) * (mask.reshape(a.at.shape).astype(d.dtype) @ kernel), axis=1)


def by_layers(model: Any, half: Map) -> PerExample:
    """Return ||J||²_F of a dense encoder: rows of J pulled back layer by layer, one matrix product for all examples.

    At the first layer ||R Wᵀ||² = tr R (WᵀW) Rᵀ: WᵀW is made once for the batch, and is smaller where that layer is
    narrower than the data. Hidden values (mask) make it differ between examples: there R Wᵀ itself.
    """
    label, mask = half.extra
    x = half.at if mask is None else jnp.where(mask.reshape(half.at.shape), half.at, 0)
    hot = model.hot(label)
    h, slopes_of = x if hot is None else jnp.concatenate([x, hot.astype(x.dtype)], 1), []
    for block in model.encoder.hidden:
        before = block.layer(h)
        h, d = jax.jvp(activation(block.activation), (before,), (jnp.ones_like(before),))
        slopes_of.append(d)
    numbers = model.encoder.head(h)
    d = jax.jvp(lambda n: model.posterior(n).mean, (numbers,), (jnp.ones_like(numbers),))[1]
    *kernels, head = model.encoder.kernels(model.latent)
    rows = d[:, :, None] * head.T[None]
    for kernel, d in zip(kernels[:0:-1], slopes_of[:0:-1], strict=True):
        rows = (rows * d[:, None]) @ kernel.T
    rows, first = rows * slopes_of[0][:, None], kernels[0][: half.at.shape[1]]
    if mask is None and first.shape[1] < first.shape[0]:
        return jnp.sum(rows * (rows @ (first.T @ first)), axis=(1, 2))
    return jnp.sum(jnp.square(rows @ first.T * (1 if mask is None else mask.reshape(half.at.shape)[:, None])), (1, 2))


def pushed(done: Pass, half: Map, v: Float[Array, "batch inputs"]) -> Float[Array, "batch latent"]:
    """Return J v of a dense encoder, layer by layer, at the values that the pass kept."""
    model, mask = done.model, half.extra[1]
    t = v if mask is None else jnp.where(mask.reshape(v.shape), v, 0)
    for block, before in zip(model.encoder.hidden, done.kept, strict=True):  # a label is behind the values, unmoved
        kernel = block.layer.kernel[...][: t.shape[1]]
        t = jax.jvp(activation(block.activation), (before,), (t @ kernel,))[1]
    return jax.jvp(lambda n: model.posterior(n).mean, (done.numbers,), (t @ model.encoder.head.kernel[...],))[1]


def undropped(model: Any) -> bool:
    """Whether the encoder's hidden values in training are those of evaluation."""
    return all(block.rate == 0 for block in model.encoder.hidden)


def layered(model: Any, half: Map) -> bool:
    """Whether the code is an elementwise function of affine maps with elementwise functions between them."""
    net = model.encoder
    if not isinstance(net, Encoder) or net.convolutions or any(block.norm is not None for block in net.hidden):
        return False
    if model.marks or hasattr(model.decoder, "seen"):  # a dictionary changes what it sees and which units exist
        return False
    if net.hidden and net.head.kernel[...].dtype.itemsize < 4:  # where short floats round is the network's affair
        return False
    kinds = []

    def mean() -> Array:
        q = model.encode(half.at[:1].reshape(-1, *model.shape), None, _first(half.extra[0]))
        kinds.append(type(q))
        return mean_code(q, "contractive")

    jax.eval_shape(mean)
    return kinds[0] in (distributions.Point, distributions.Normal)


def slopes(model: Any, half: Map, done: Pass | None = None) -> Float[Array, "batch latent"]:
    """Return the derivative d of each unit's mean in its own number: the elementwise map pushed with ones.

    The numbers are those of the pass `done` where it has them: one layer has neither dropout nor batch statistics.
    """
    label, mask = half.extra
    numbers = None if done is None else done.numbers
    if numbers is None:
        x = half.at.reshape(-1, *model.shape)
        x = x if mask is None else model.sees(Batch(jnp.where(mask, x, 0), label, mask))
        numbers = model.numbers(x, None, label)
    return jax.jvp(lambda n: model.posterior(n).mean, (numbers,), (jnp.ones_like(numbers),))[1]


def _first(label: Any) -> Any:
    return None if label is None else label[:1]
