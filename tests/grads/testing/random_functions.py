"""Random functions, made from a seed: custom rules, scans, branches, gathers, mixed dtypes and trees of arrays."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Step = Callable[[jax.Array], jax.Array]
BOTH = "fwd rev"


@jax.custom_jvp
def bent(x):
    return jnp.tanh(x) + 0.1 * x


bent.defjvp(lambda values, tangents: (bent(values[0]), tangents[0] * (1.1 - jnp.tanh(values[0]) ** 2)))


def pulled(weights: jax.Array) -> Step:
    """A custom_vjp that closes over an array."""

    @jax.custom_vjp
    def fun(x):
        return jnp.sin(x @ weights)

    fun.defvjp(lambda x: (fun(x), x), lambda x, g: ((g * jnp.cos(x @ weights)) @ weights.T,))
    return fun


@jax.custom_jvp
def rooted(x):
    return jnp.sqrt(1 + x * x)


def _rooted_rule(values, tangents):
    """The derivative by Newton's method in a loop of unknown length, which cannot be transposed."""
    x, v = values[0], tangents[0]
    goal = 1 + x * x
    open_yet = lambda c: jnp.max(jnp.abs(c[0] ** 2 - goal)) > 1e-6 * jnp.max(goal)
    newton = lambda c: ((c[0] + goal / c[0]) / 2, c[1] / 2 + (2 * x * v - goal * c[1] / c[0]) / (2 * c[0]))
    y, _ = lax.while_loop(open_yet, newton, (goal, jnp.zeros_like(goal)))
    return y, x * v / y


rooted.defjvp(_rooted_rule)


def halved(x: jax.Array) -> jax.Array:
    """A loop whose length the values decide."""
    return lax.while_loop(lambda c: jnp.sum(c * c) > 0.5, lambda c: 0.5 * jnp.sin(c), x)


def shifted(weights: jax.Array, places: jax.Array) -> Step:
    """A custom_vjp of a tree, with an integer argument, that saves half precision."""

    @functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
    def fun(t, power):
        return t["x"][places] ** power + t["w"].sum()

    def back(power, kept, g):
        x, shape = kept
        slope = power * x[places] ** (power - 1) * g
        return ({"x": jnp.zeros_like(x).at[places].add(slope), "w": jnp.full(shape, g.sum())},)

    fun.defvjp(lambda t, power: (fun(t, power), (t["x"], t["w"].shape)), back)
    return lambda x: fun({"x": x, "w": weights @ x}, 2)


def tied(weights: jax.Array) -> Callable[[dict, jax.Array], tuple[dict, dict]]:
    """The body of a scan whose carry and outputs are trees."""

    def body(c, s):
        h = jnp.tanh(weights @ c["h"] + s)
        return {"h": h, "t": c["t"] + h.sum()}, {"y": c["t"] * s, "unused": h}

    return body


def steps(rng: np.random.Generator, n: int) -> list[Callable[[], tuple[Step, int, str]]]:
    """Makers of one step from a vector of n: (step, its length, the ways it can be differentiated)."""
    m = int(rng.integers(1, 7))
    array = lambda *shape: jnp.asarray(rng.normal(size=shape) / 2, jnp.float32)
    index = jnp.asarray(rng.integers(0, n, m))
    own = jnp.asarray(rng.integers(0, n, n))
    threshold = float(rng.normal())

    def branch() -> Step:
        a, b = array(n), array(n, m)
        options = (lambda x: jnp.sin(x @ b), lambda x: (x * a) @ b)
        return lambda x: lax.cond(x.sum() > threshold, *options, x)

    def loop(kind: str) -> Step:
        w = array(n, n)
        if kind == "scan":
            return lambda x: lax.scan(lambda c, s: (jnp.tanh(c @ w + s), c.sum()), x, jnp.arange(3.0, dtype=x.dtype))[0]
        return lambda x: lax.fori_loop(0, 3, lambda i, c: jnp.sin(c @ w) + i * c / 9, x)

    w, v = array(n, m), array(n, n)
    return [
        lambda: (lambda x: jnp.tanh(x @ w), m, BOTH),
        lambda: (lambda x: x * jnp.roll(x, 1) + jnp.cos(x), n, BOTH),
        lambda: (bent, n, BOTH),
        lambda: (pulled(w), m, "rev"),
        lambda: (lambda x: x[index] ** 2, m, BOTH),
        lambda: (lambda x: x.at[own].add(x * 0.5), n, BOTH),
        lambda: (lambda x: x.at[own[:2]].set(jnp.sin(x[:2])) if n > 1 else x, n, BOTH),
        lambda: (branch(), m, BOTH),
        lambda: (loop("scan"), n, BOTH),
        lambda: (loop("fori"), n, BOTH),
        lambda: (lambda x: jnp.cumsum(x)[::-1], n, BOTH),
        lambda: (lambda x: jax.nn.softmax(x) * x.max(), n, BOTH),
        lambda: (lambda x: jnp.sort(x) + jax.nn.relu(x), n, BOTH),
        lambda: (lambda x: jnp.concatenate([x, jnp.outer(x, x).sum(0)]), 2 * n, BOTH),
        lambda: (lambda x: (x.astype(jnp.float16).astype(x.dtype) + x) @ v, n, BOTH),
        lambda: (lambda x: jnp.where(x > threshold, x**3, jnp.exp(-(x**2))), n, BOTH),
        lambda: (lambda x: jnp.linalg.solve(v.T @ v + 3 * jnp.eye(n), x), n, BOTH),
        lambda: (lambda x: lax.stop_gradient(x).sum() * x, n, BOTH),
        lambda: (jax.checkpoint(lambda x: jnp.sin(x @ v) * x), n, BOTH),
        lambda: (jax.jit(lambda x: jnp.tanh(x @ w) + jnp.float32(1)), m, BOTH),
        lambda: (
            lambda x: lax.switch(jnp.int32(jnp.abs(x[0]) * 3) % 3, [jnp.sin, jnp.square, lambda y: v @ y], x),
            n,
            BOTH,
        ),
        lambda: (lambda x: lax.dynamic_slice(x, (jnp.argmax(x),), (min(m, n),)), min(m, n), BOTH),
        lambda: (lambda x: jnp.take_along_axis(x * x, jnp.argsort(-x), 0)[:m], min(m, n), BOTH),
        lambda: (lambda x: lax.top_k(x @ v, min(m, n))[0], min(m, n), BOTH),
        lambda: (lambda x: lax.associative_scan(lambda a, b: a * b + a, x), n, BOTH),
        lambda: (lambda x: jax.vmap(lambda a: jnp.sin(a * x) @ x)(x), n, BOTH),
        lambda: (lambda x: jax.ops.segment_sum(x, own % 3, 3), 3, BOTH),
        lambda: (lambda x: jnp.convolve(x, w[:, 0], "same"), n, BOTH),
        lambda: (lambda x: jnp.real(jnp.fft.fft(x) * jnp.fft.fft(v[0])), n, BOTH),
        lambda: (
            lambda x: x * jnp.arange(n, dtype=jnp.int8) + jnp.linalg.cholesky(v @ v.T + (2 + x @ x) * jnp.eye(n))[0],
            n,
            BOTH,
        ),
        lambda: (lambda x: x.at[own + 1].get(mode="fill", fill_value=0), n, BOTH),
        lambda: (lambda x: lax.scan(tied(v), {"h": x, "t": 0 * x[0]}, x)[1]["y"], n, BOTH),
        lambda: (rooted, n, "fwd"),
        lambda: (halved, n, "fwd"),
        lambda: (shifted(v, index), m, "rev"),
        lambda: (lambda x: lax.map(lambda a: jnp.tanh(a * x).sum(), x), n, BOTH),
        lambda: (lambda x: jax.nn.logsumexp(jnp.stack([x, v @ x]), axis=0) + lax.cummax(x), n, BOTH),
        lambda: (lambda x: jnp.einsum("i,ij,j->j", x, v, jnp.tanh(x)), n, BOTH),
    ]


def random_function(seed: int) -> tuple[Callable, Any, tuple[str, ...]]:
    """Return (function, its argument, which of "fwd" and "rev" JAX has for it)."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    kind, made, ways, width = int(rng.integers(0, 6)), [], set(BOTH.split()), n
    for _ in range(int(rng.integers(1, 6))):
        options = steps(rng, width)
        step, length, goes = options[int(rng.integers(len(options)))]()
        if ways & set(goes.split()):
            made.append(step)
            width, ways = length, ways & set(goes.split())
    values = [jnp.asarray(rng.normal(size=n), jnp.float32), jnp.asarray(rng.normal(size=()), jnp.float32)]
    narrow = jnp.bfloat16 if seed % 2 else jnp.float16

    def chain(x: jax.Array) -> jax.Array:
        for step in made:
            x = step(x)
        return x

    def tree(t: Any) -> Any:
        return {"y": chain(t["a"]) * t["b"], "z": (t["b"] ** 2, t["a"][0])}

    def mixed(t: Any) -> Any:
        """Two precisions in, two shapes out."""
        a, b = t
        return chain(a * b.astype(jnp.float32)), jnp.outer(jnp.sin(a), b.astype(jnp.float32))

    choices: list[tuple[Callable, Any]] = [
        (chain, values[0]),
        (tree, {"a": values[0], "b": values[1]}),
        (lambda x: chain(x.astype(jnp.float32)), values[0].astype(narrow)),
        (jax.jit(lambda x: chain(x).sum(keepdims=True)), values[0]),
        (mixed, (values[0], values[0][::-1].astype(narrow))),
        (lambda x: jax.vmap(chain)(jnp.stack([x, 2 * x])), values[0]),
    ]
    return *choices[kind], tuple(sorted(ways))
