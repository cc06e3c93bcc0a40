"""The laws of derivatives on random Flax modules, NNX and Linen, with respect to inputs and to parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from jax.flatten_util import ravel_pytree

import grads

pytestmark = pytest.mark.nnx_tree
WIDTH, OUT = 4, 3
ALWAYS = ("auto", "fwd", "rev", "fwd_chunked", "rev_chunked")
METHODS = (*ALWAYS, "chain", "structured", "sparse", "complex_step")
ACTIVATIONS = {"tanh": jnp.tanh, "silu": jax.nn.silu, "softplus": jax.nn.softplus}
KINDS = ("dense", "norm", "batch_norm", "residual", "conv", "recurrent", "dropout", "heads", *ACTIVATIONS)


class NNXLayer(nnx.Module):
    """One layer of width WIDTH of the kind asked for."""

    def __init__(self, kind, rngs):
        own = {"param_dtype": jnp.float64, "rngs": rngs}
        self.kind = kind
        if kind in ("dense", "residual", "heads", "recurrent"):
            self.a, self.b = nnx.Linear(WIDTH, WIDTH, **own), nnx.Linear(WIDTH, WIDTH, **own)
        elif kind == "norm":
            self.a = nnx.LayerNorm(WIDTH, **own)
        elif kind == "batch_norm":
            self.a = nnx.BatchNorm(WIDTH, use_running_average=True, **own)
        elif kind == "conv":
            self.a = nnx.Conv(1, 1, (3,), **own)

    def __call__(self, x):
        if self.kind in ACTIVATIONS:
            return ACTIVATIONS[self.kind](x)
        if self.kind == "dropout":
            return jnp.where(jax.random.bernoulli(jax.random.key(3), 0.6, x.shape), x / 0.6, 0)
        if self.kind == "conv":
            return self.a(x[..., None])[..., 0]
        return combined(self.kind, self.a, getattr(self, "b", None), x)


def combined(kind, a, b, x):
    """The forms of a layer that NNX and Linen share, of two sublayers."""
    if kind == "residual":
        return x + b(jnp.tanh(a(x)))
    if kind == "heads":
        return a(x) + jnp.exp(0.1 * b(x))
    if kind == "recurrent":
        return functools.reduce(lambda h, _: jnp.tanh(a(x) + b(h)), range(2), x)
    return a(x)


class NNXNet(nnx.Module):
    def __init__(self, kinds, rngs):
        self.layers = nnx.List([NNXLayer(kind, rngs) for kind in kinds])
        self.last = nnx.Linear(WIDTH, OUT, param_dtype=jnp.float64, rngs=rngs)

    def __call__(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.last(x)


class LinenNet(linen.Module):
    kinds: tuple

    @linen.compact
    def __call__(self, x):
        own = {"param_dtype": jnp.float64}
        dense = lambda: linen.Dense(WIDTH, **own)
        for kind in self.kinds:
            if kind in ACTIVATIONS:
                x = ACTIVATIONS[kind](x)
            elif kind == "dropout":
                x = linen.Dropout(0.4, deterministic=False, rng_collection="fixed")(x, rng=jax.random.key(3))
            elif kind == "conv":
                x = linen.Conv(1, (3,), **own)(x[..., None])[..., 0]
            elif kind in ("norm", "batch_norm"):
                norm = linen.LayerNorm(**own) if kind == "norm" else linen.BatchNorm(True, **own)
                x = norm(x)
            else:
                x = combined(kind, dense(), dense(), x)
        return linen.Dense(OUT, **own)(x)


def of_random(library, kinds, wrt, seed, x):
    """(fun, at) of a random module with perturbed parameters, so that zero biases hide nothing."""
    if library == "nnx":
        module, extra = NNXNet(kinds, nnx.Rngs(seed)), {}
    else:
        module = LinenNet(tuple(kinds))
        extra = {"variables": module.init(jax.random.key(seed), x)}
    fun, at = grads.of_module(module, x, wrt, **extra)
    flat, unravel = ravel_pytree(at)
    noise = np.random.default_rng(seed).normal(size=flat.shape)
    return fun, unravel(flat + 0.1 * noise)


DEALT = np.random.default_rng(7).permutation([*KINDS, "dense"]).reshape(4, 3)  # every kind in one of the cases
CASES = list(zip(["nnx", "nnx", "linen", "linen"], ["input", "params"] * 2, DEALT.tolist(), strict=True))


@pytest.mark.parametrize(("library", "wrt", "kinds"), CASES)
def test_laws_of_random_modules(library, wrt, kinds):
    """J v = jvp, u^T J = vjp for every method that does not refuse; the value is the module's."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=WIDTH))
    fun, at = of_random(library, tuple(kinds), wrt, 2, x)
    flat, unravel = ravel_pytree(at)
    one = lambda f: fun(unravel(f))
    u, v = jnp.asarray(rng.normal(size=OUT)), jnp.asarray(rng.normal(size=flat.size))

    def products(method):
        value, jac = grads.value_and_jacobian(fun, method=method)(at)
        assert jax.tree.structure(jac) == jax.tree.structure(at)
        matrix = jnp.hstack([a.reshape(OUT, -1) for a in jax.tree.leaves(jac)])
        return value, matrix @ v, u @ matrix

    @jax.jit
    def every():
        done = {}
        for method in METHODS:
            try:
                done[method] = products(method)
            except grads.UnsupportedMethodError:
                assert method not in ALWAYS
        return done, (one(flat), jax.jvp(one, (flat,), (v,))[1], jax.vjp(one, flat)[1](u)[0])

    done, want = every()
    assert len(done) > len(ALWAYS)
    for method, got in done.items():
        for a, b in zip(got, want, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-11, err_msg=method)


@pytest.mark.parametrize(("library", "wrt"), [("nnx", "params"), ("linen", "input")])
def test_modules_under_transformations(library, wrt):
    """vmap(jit(J)) is J of each, and the derivative of a penalty on J is that of jacfwd's."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=WIDTH))
    fun, at = of_random(library, ("residual", "norm", "tanh"), wrt, 0, x)
    two = jax.tree.map(lambda a: jnp.stack([a, 1.5 * a]), at)
    penalty = lambda transform: lambda at: sum(jnp.sum(a**2) for a in jax.tree.leaves(transform(fun)(at)))
    every = lambda transform: jax.jit(
        lambda: (jax.vmap(jax.jit(transform(fun)))(two), jax.grad(penalty(transform))(at))
    )
    got, want = every(grads.jacobian)(), every(jax.jacfwd)()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-11), got, want)


@pytest.mark.parametrize("library", ["nnx", "linen"])
def test_a_batch_through_a_module(library):
    """A module called with a batch: independent examples are found, or stated; batch statistics are not."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, WIDTH)))
    fun, at = of_random(library, ("dense", "batch_norm", "silu"), "input", 1, x)
    want = jax.jit(jax.jacfwd(fun))(at)
    np.testing.assert_allclose(grads.jacobian(fun, method="batched")(at), want, atol=1e-12)
    each = jnp.stack([want[b, :, b] for b in range(3)])
    np.testing.assert_allclose(grads.jacobian(fun, batch_axis=0)(at), each, atol=1e-12)


def test_batch_statistics_mix_examples():
    norm = nnx.BatchNorm(WIDTH, rngs=nnx.Rngs(0))
    before = nnx.state(norm, nnx.BatchStat)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, WIDTH)), jnp.float32)
    fun, at = grads.of_module(norm, x)
    with pytest.raises(ValueError, match="not independent"):
        grads.jacobian(fun, batch_axis=0)(at)
    np.testing.assert_allclose(grads.jacobian(fun)(at), jax.jit(jax.jacfwd(fun))(at), atol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, before, nnx.state(norm, nnx.BatchStat))  # a copy was called
