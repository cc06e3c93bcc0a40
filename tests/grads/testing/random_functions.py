"""Random functions, made from a seed: custom rules, scans, branches, gathers, mixed dtypes and trees of arrays."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Step = Callable[[jax.Array], jax.Array]


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


def steps(rng: np.random.Generator, n: int) -> list[Callable[[], tuple[Step, int, bool]]]:
    """Makers of one step from a vector of n: (step, its length, whether it goes forward)."""
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
        lambda: (lambda x: jnp.tanh(x @ w), m, True),
        lambda: (lambda x: x * jnp.roll(x, 1) + jnp.cos(x), n, True),
        lambda: (bent, n, True),
        lambda: (pulled(w), m, False),
        lambda: (lambda x: x[index] ** 2, m, True),
        lambda: (lambda x: x.at[own].add(x * 0.5), n, True),
        lambda: (lambda x: x.at[own[:2]].set(jnp.sin(x[:2])) if n > 1 else x, n, True),
        lambda: (branch(), m, True),
        lambda: (loop("scan"), n, True),
        lambda: (loop("fori"), n, True),
        lambda: (lambda x: jnp.cumsum(x)[::-1], n, True),
        lambda: (lambda x: jax.nn.softmax(x) * x.max(), n, True),
        lambda: (lambda x: jnp.sort(x) + jax.nn.relu(x), n, True),
        lambda: (lambda x: jnp.concatenate([x, jnp.outer(x, x).sum(0)]), 2 * n, True),
        lambda: (lambda x: (x.astype(jnp.float16).astype(x.dtype) + x) @ v, n, True),
        lambda: (lambda x: jnp.where(x > threshold, x**3, jnp.exp(-(x**2))), n, True),
        lambda: (lambda x: jnp.linalg.solve(v.T @ v + 3 * jnp.eye(n), x), n, True),
        lambda: (lambda x: lax.stop_gradient(x).sum() * x, n, True),
        lambda: (jax.checkpoint(lambda x: jnp.sin(x @ v) * x), n, True),
        lambda: (jax.jit(lambda x: jnp.tanh(x @ w) + jnp.float32(1)), m, True),
    ]


def random_function(seed: int) -> tuple[Callable, Any, bool]:
    """Return (function, its argument, whether it has a forward derivative)."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 7))
    kind, made, forward, width = int(rng.integers(0, 4)), [], True, n
    for _ in range(int(rng.integers(1, 6))):
        options = steps(rng, width)
        step, width, goes = options[int(rng.integers(len(options)))]()
        made.append(step)
        forward = forward and goes
    values = [jnp.asarray(rng.normal(size=n), jnp.float32), jnp.asarray(rng.normal(size=()), jnp.float32)]

    def chain(x: jax.Array) -> jax.Array:
        for step in made:
            x = step(x)
        return x

    if kind == 0:
        return chain, values[0], forward
    if kind == 1:
        return (lambda t: {"y": chain(t["a"]) * t["b"], "z": (t["b"] ** 2, t["a"][0])}), dict(
            a=values[0], b=values[1]
        ), forward
    if kind == 2:
        narrow = values[0].astype(jnp.bfloat16 if seed % 2 else jnp.float16)
        return (lambda x: chain(x.astype(jnp.float32))), narrow, forward
    return jax.jit(lambda x: chain(x).sum(keepdims=True)), values[0], forward
