"""Decoders that keep distances, up to a scale: penalties on the metric G = JᵀJ that the decoder pulls back."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import ConfigError, config, setting
from models.terms.geometry.halves import Map, of_pass, random_key, signs, tall


def between(done: Pass, spread: Any, name: str) -> tuple[Map, Any]:
    """Return the decoder at a z + (1 - a) z' of shuffled pairs of codes, a uniform on (-spread, 1 + spread), and a key.

    So the metric is asked for between the codes too, and somewhat beyond (Chen et al. 2020; Lee et al. 2022).
    """
    half = of_pass(done, "decoder", name)
    tall(half, name)
    n = half.at.shape[0]
    if n < 2:
        raise ConfigError(f"{name} mixes pairs of codes: batch_size must be at least 2, got {n}")
    k_pairs, k_share, k_probe = jax.random.split(random_key(done, name), 3)
    share = jax.random.uniform(k_share, (n, 1), half.at.dtype) * (1 + 2 * spread) - spread
    return half.moved(share * half.at + (1 - share) * jax.random.permutation(k_pairs, half.at)), k_probe


def gram(half: Map) -> Float[Array, "batch inputs inputs"]:
    """Return G = JᵀJ of every example; inputs few, so J by as many forward passes."""
    j = half.jacobians()
    return jnp.swapaxes(j, 1, 2) @ j


@config
class Isometric:
    """How far the decoder is from an isometry up to one scale.

    exact and probe: the relaxed distortion E tr G² / (E tr G)², at least 1 / latent, reached where G = c I everywhere
    (Lee et al. 2022, "Regularized autoencoders for isometric representation learning"), a property of the batch; probe
    takes tr G as |J v|² and tr G² as |JᵀJ v|² of one v of signs, so it is a ratio of unbiased means. unit: of each
    example (|J_g u| - 1)² + (|uᵀ J_f| - 1)², u uniform on the unit sphere: scale one, the encoder its pseudo-inverse
    (Gropp et al. 2020, "Isometric autoencoders"). Without a unit.
    """

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""
    way: Literal["exact", "probe", "unit"] = "probe"
    """exact, probe: relaxed distortion; unit: unit scale, both halves"""
    spread: float = setting(0.2, at_least=0)
    """how far beyond a pair of codes the points lie, as a share of their distance"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the penalty; ConfigError for a batch of one or a decoder narrower than its code."""
        half, key = between(done, self.spread, "isometric")
        if self.way == "unit":
            return self.unit(done, half, key)
        if self.way == "exact":
            g = gram(half)
            once, twice = jnp.trace(g, axis1=1, axis2=2), jnp.sum(g * g, axis=(1, 2))
        else:
            pushed = half.push(signs(key, half.at))
            once, twice = jnp.sum(pushed * pushed, axis=1), jnp.sum(jnp.square(half.pull(pushed)), axis=1)
        return jnp.broadcast_to(jnp.mean(twice) / jnp.square(jnp.mean(once)), once.shape)

    def unit(self, done: Pass, half: Map, key: Any) -> Float[Array, " batch"]:
        """Return the two squared distances from length one."""
        u = jax.random.normal(key, half.at.shape, half.at.dtype)
        u = u / jnp.linalg.norm(u, axis=1, keepdims=True)
        back = of_pass(done, "encoder", "isometric").pull(u)
        return sum((jnp.square(jnp.linalg.norm(v, axis=1) - 1) for v in (half.push(u), back)), jnp.zeros(u.shape[0]))


@config
class FlatMetric:
    """||G - c² I||²_F of each example with c² = the batch's mean of tr G / latent: squared units of the metric.

    The flat-manifold penalty (Chen et al. 2020, "Learning flat latent manifolds with VAEs"): one scale everywhere, so
    straight lines are geodesics. probe: |(G - c²) v|² for one v of signs, unbiased given c².
    """

    NAME = "flat_metric"

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""
    way: Literal["exact", "probe"] = "exact"
    """exact: the whole metric, by one forward pass per code unit; probe: one forward and one reverse pass"""
    spread: float = setting(0.2, at_least=0)
    """how far beyond a pair of codes the points lie, as a share of their distance"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the penalty; ConfigError for a batch of one or a decoder narrower than its code."""
        half, key = between(done, self.spread, "flat_metric")
        latent = half.at.shape[1]
        if self.way == "probe":
            v = signs(key, half.at)
            pushed = half.push(v)
            return jnp.sum(jnp.square(half.pull(pushed) - jnp.mean(jnp.sum(pushed**2, 1)) / latent * v), axis=1)
        g = gram(half)
        scale = jnp.mean(jnp.trace(g, axis1=1, axis2=2)) / latent
        return jnp.sum(jnp.square(g - scale * jnp.eye(latent, dtype=g.dtype)[None]), axis=(1, 2))
