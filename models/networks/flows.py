"""Invertible maps u <-> z of vectors with log |det dz/du|; a context conditions every step."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.config import ConfigError
from models.networks.mlp import MLP

Vector = Float[Array, "batch dims"]
Half = Float[Array, "batch half"]
Moved = tuple[Vector, Float[Array, " batch"]]
Context = Float[Array, "rows context"] | None  # one row per example, or one for all


def stack(kind: str, latent: int, context: int, steps: int, hidden: int, rngs: nnx.Rngs) -> "Stack":
    """Return `steps` steps of a kind: coupling, iaf or planar."""
    step = {"coupling": Coupling, "iaf": Autoregressive, "planar": Planar}[kind]
    return Stack([step(latent, context, hidden, number, rngs=rngs) for number in range(steps)])


def beside(u: Vector, context: Context) -> Float[Array, "batch inputs"]:
    """Return every vector beside its context."""
    if context is None:
        return u
    return jnp.concatenate([u, jnp.broadcast_to(context, (u.shape[0], context.shape[1]))], axis=1)


class Stack(nnx.Module):
    """Steps one after another."""

    def __init__(self, steps: list[Any]):
        self.steps = nnx.List(steps)

    def forward(self, u: Vector, context: Context) -> Moved:
        """Return z and log |det dz/du|."""
        total = jnp.zeros(u.shape[0], u.dtype)
        for step in self.steps:
            u, log_det = step.forward(u, context)
            total = total + log_det
        return u, total

    def inverse(self, z: Vector, context: Context) -> Moved:
        """Return u and log |det dz/du| there."""
        total = jnp.zeros(z.shape[0], z.dtype)
        for step in reversed(list(self.steps)):
            z, log_det = step.inverse(z, context)
            total = total + log_det
        return z, total


class Coupling(nnx.Module):
    """RealNVP: half of the units scaled and shifted by a function of the other half (Dinh et al. 2017).

    The halves are the even and the odd units, in turns. A code of one unit is scaled and shifted by the context.
    """

    def __init__(self, latent: int, context: int, hidden: int, number: int, *, rngs: nnx.Rngs):
        self.moved = tuple(range(1 - number % 2 if latent > 1 else 0, latent, 2))
        self.fixed = tuple(i for i in range(latent) if i not in self.moved)
        self.net = MLP([max(1, len(self.fixed) + context), hidden, 2 * len(self.moved)], rngs=rngs, small=True)

    def _numbers(self, u: Vector, context: Context) -> tuple[Half, Half]:
        seen = beside(u[:, jnp.asarray(self.fixed, int)], context)
        if seen.shape[1] == 0:
            seen = jnp.ones((u.shape[0], 1), u.dtype)
        log_scale, shift = jnp.split(self.net(seen), 2, axis=1)
        return 2 * jnp.tanh(0.5 * log_scale), shift  # at most e² per step: exponentials stay finite

    def forward(self, u: Vector, context: Context) -> Moved:
        """Return z and log |det dz/du|."""
        log_scale, shift = self._numbers(u, context)
        at = jnp.asarray(self.moved)
        return u.at[:, at].set(u[:, at] * jnp.exp(log_scale) + shift), jnp.sum(log_scale, axis=1)

    def inverse(self, z: Vector, context: Context) -> Moved:
        """Return u and log |det dz/du| there."""
        log_scale, shift = self._numbers(z, context)
        at = jnp.asarray(self.moved)
        return z.at[:, at].set((z[:, at] - shift) * jnp.exp(-log_scale)), jnp.sum(log_scale, axis=1)


class Autoregressive(nnx.Module):
    """Inverse autoregressive flow: z_i = s_i u_i + (1 - s_i) m_i, s and m functions of u_<i (Kingma et al. 2016).

    s is a sigmoid gate that starts near 1; the order of the units turns at every step. One pass forwards, as many as
    there are units backwards.
    """

    def __init__(self, latent: int, context: int, hidden: int, number: int, *, rngs: nnx.Rngs):
        glorot = nnx.initializers.glorot_uniform()
        self.enter = nnx.Param(glorot(rngs.params(), (latent + context, hidden)))
        self.bias = nnx.Param(jnp.zeros(hidden))
        self.leave = nnx.Param(0.01 * glorot(rngs.params(), (hidden, 2 * latent)))
        self.out = nnx.Param(jnp.concatenate([jnp.full(latent, 2.0), jnp.zeros(latent)]))
        self.rank = tuple(range(latent)) if number % 2 == 0 else tuple(range(latent))[::-1]
        self.context, self.hidden = context, hidden

    def _masks(self) -> tuple[Array, Array]:
        """Return which weights stay: a hidden unit of rank r sees units of ranks <= r, unit i sees ranks below its."""
        rank = jnp.asarray(self.rank)
        ranks = jnp.arange(self.hidden) % max(1, len(self.rank) - 1)
        enter = jnp.concatenate([rank[:, None] <= ranks[None], jnp.ones((self.context, self.hidden), bool)])
        return enter, jnp.tile(ranks[:, None] < rank[None], (1, 2))

    def _numbers(self, u: Vector, context: Context) -> tuple[Vector, Vector]:
        enter, leave = self._masks()
        hidden = jnp.tanh(beside(u, context) @ (self.enter[...] * enter) + self.bias[...][None])
        gate, shift = jnp.split(hidden @ (self.leave[...] * leave) + self.out[...][None], 2, axis=1)
        return jax.nn.log_sigmoid(gate), shift

    def forward(self, u: Vector, context: Context) -> Moved:
        """Return z and log |det dz/du|."""
        log_scale, shift = self._numbers(u, context)
        return u * jnp.exp(log_scale) - jnp.expm1(log_scale) * shift, jnp.sum(log_scale, axis=1)

    def inverse(self, z: Vector, context: Context) -> Moved:
        """Return u and log |det dz/du| there: after pass i the first i units of the order are right."""

        def one_more(_: Any, u: Vector) -> Vector:
            log_scale, shift = self._numbers(u, context)
            return (z + jnp.expm1(log_scale) * shift) * jnp.exp(-log_scale)

        start = jnp.zeros_like(z)
        u = jax.lax.fori_loop(0, z.shape[1], one_more, start)
        return u, jnp.sum(self._numbers(u, context)[0], axis=1)


def steepness(x: Float[Array, " batch"]) -> Float[Array, " batch"]:
    """Return tanh'(x) = 1 - tanh² without a difference: 4 e / (1 + e)², e = exp(-2 |x|)."""
    e = jnp.exp(-2 * jnp.abs(x))
    return 4 * e / jnp.square(1 + e)


class Planar(nnx.Module):
    """z = u + v tanh(w·u + b) with w·v > -1, so that it is invertible (Rezende & Mohamed 2015, appendix A.1).

    v, w and b are sums of own parameters and of a function of the context. There is no formula for the inverse.
    """

    def __init__(self, latent: int, context: int, hidden: int, number: int, *, rngs: nnx.Rngs):
        self.own = nnx.Param(0.1 * jax.random.normal(rngs.params(), (2 * latent + 1,)))
        self.net = MLP([context, hidden, 2 * latent + 1], rngs=rngs, small=True) if context else None

    def forward(self, u: Vector, context: Context) -> Moved:
        """Return z and log |det dz/du| = log (1 + tanh'(w·u + b) w·v)."""
        n = u.shape[1]
        numbers = self.own[...][None]
        if self.net is not None and context is not None:
            numbers = numbers + self.net(context)
        v, w, b = numbers[:, :n], numbers[:, n : 2 * n], numbers[:, 2 * n]
        product = jnp.sum(w * v, axis=1)
        allowed = jax.nn.softplus(product) - 1  # above -1
        v = v + ((allowed - product) / (jnp.sum(w * w, axis=1) + 1e-12))[:, None] * w
        bend = jnp.sum(w * u, axis=1) + b
        bent, slope = jnp.tanh(bend), steepness(bend)
        # 1 + tanh' w·v = tanh² + tanh' softplus: the second has no difference where the first is near 0
        near = slope * allowed < -0.5
        log_small = jnp.log(jnp.where(near, bent * bent + slope * jax.nn.softplus(product), 1))
        log_large = jnp.log1p(jnp.where(near, 0, slope * allowed))
        return u + v * bent[:, None], jnp.where(near, log_small, log_large)

    def inverse(self, z: Vector, context: Context) -> Moved:
        """Raise ConfigError."""
        raise ConfigError("a planar flow has no inverse: only its own draws have a density; use kind coupling or iaf")
