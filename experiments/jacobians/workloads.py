"""Workloads of the Jacobian figures that are not plain Jacobians: functionals, norms, sparse; each against
the usual way.

Every function returns {label: seconds}, interleaved minima in one process; `ratio(...)` reads the gain from
it. Run one: `python -m experiments jacobian_workloads norms` (or functionals, brusselator).
"""

import functools
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads.testing.networks import dense, dense_weights

SIZES = (784, 400, 20, 400, 784)


def interleaved(calls: Mapping[str, Callable[[], Any]], seconds: float = 8.0, least: int = 3) -> dict[str, float]:
    """Return the minimum time of every call, taking turns until `seconds` are spent and each ran `least`
    times.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    best, end, turns = dict.fromkeys(calls, float("inf")), time.perf_counter() + seconds, 0
    while turns < least or time.perf_counter() < end:
        turns += 1
        for name, call in calls.items():
            start = time.perf_counter()
            jax.block_until_ready(call())
            best[name] = min(best[name], time.perf_counter() - start)
    return best


def ratio(times: Mapping[str, float], ours: str, usual: str) -> float:
    """Return how many times faster `ours` is than `usual`."""
    return times[usual] / times[ours]


def autoencoder(sizes: tuple[int, ...] = SIZES, dtype: Any = jnp.float32, batch: int = 1) -> tuple[Any, Any]:
    """Return (x, weights): a dense tanh autoencoder's weights and a batch of standard normal inputs."""
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.normal(size=(batch, sizes[0])), dtype), dense_weights(rng, sizes, dtype)


def per_example_norms(
    batch: int = 256, sizes: tuple[int, ...] = SIZES, seconds: float = 8.0, hand: Callable | None = None
) -> dict[str, float]:
    """Norms of per-example parameter gradients of the squared error: vmap(grad) against
    `per_example_gradient_norms` (and against `hand(weights, x)`, if given).
    """
    from grads import per_example_gradient_norms

    x, weights = autoencoder(sizes, batch=batch)
    loss = lambda weights, x: jnp.sum((dense(x, weights) - x) ** 2)
    calls = {m: per_example_gradient_norms(loss, method=m) for m in ("auto", "explicit")}
    error = jnp.max(jnp.abs(calls["auto"](weights, x) / calls["explicit"](weights, x) - 1))
    if error > 1e-4:
        raise AssertionError(f"norms disagree by {error:.1e}")
    if hand is not None:
        calls["hand"] = jax.jit(hand)
    return interleaved({m: lambda call=call: call(weights, x) for m, call in calls.items()}, seconds)


def brusselator_times(side: int = 24, seconds: float = 8.0, dtype: Any = jnp.float64) -> dict[str, float]:
    """Compiled evaluation of the two-dimensional Brusselator's sparse Jacobian, n = 2 side^2, with asdex if
    installed.
    """
    from grads import jacobian, sparse
    from grads.matrices.pattern import Pattern
    from grads.testing.sparse import brusselator, brusselator_pattern

    x = jnp.asarray(np.random.default_rng(0).normal(size=2 * side**2), dtype)
    given = sparse(Pattern.at(*brusselator_pattern(side), (x.size, x.size)))
    ours = jax.jit(jacobian(brusselator, method=given, output="bcoo"))
    calls = {"sparse": lambda: ours(x).data}
    try:
        import asdex
    except ImportError:
        return interleaved(calls, seconds)
    theirs = jax.jit(asdex.jacobian(brusselator, x, output_format="bcoo"))
    calls["asdex"] = lambda: theirs(x).data
    return interleaved(calls, seconds)


def functionals(what: str, sizes: tuple[int, ...] = SIZES, seconds: float = 12.0) -> dict[str, float]:
    """Exact ||J||_F^2 ("frobenius"), "trace" or "svdvals" of the dense autoencoder: factored against jacfwd
    first.
    """
    from grads import jacobian_operator

    (x,), weights = autoencoder(sizes)
    usual = {
        "frobenius": lambda j: jnp.sum(j**2),
        "trace": jnp.trace,
        "svdvals": lambda j: jnp.linalg.svd(j, compute_uv=False),
    }[what]
    options = {"squared": True} if what == "frobenius" else {}
    ours = lambda x, w: getattr(jacobian_operator(lambda x: dense(x, w), x), what)(**options).value
    calls = {"factored": jax.jit(ours), "jacfwd": jax.jit(lambda x, w: usual(jax.jacfwd(dense)(x, w)))}
    got, want = (call(x, weights) for call in calls.values())
    error = float(jnp.max(jnp.abs(got - want)) / jnp.max(jnp.abs(want)))
    if error > 1e-4:
        raise AssertionError(f"{what} disagrees by {error:.1e}")
    return interleaved({name: lambda call=call: call(x, weights) for name, call in calls.items()}, seconds)


def penalty_gradient(batch: int = 16, sizes: tuple[int, ...] = SIZES, seconds: float = 12.0) -> dict[str, float]:
    """d / d parameters of the mean ||J||_F^2 over a batch, factored against vmap(jacrev)."""
    return interleaved({name: lambda c=c: c() for name, c in _penalty(batch, sizes).items()}, seconds)


def _penalty(batch: int, sizes: tuple[int, ...]) -> dict[str, Callable]:
    from grads import jacobian_operator

    xs, weights = autoencoder(sizes, batch=batch)
    one = lambda x, w: jacobian_operator(lambda x: dense(x, w), x).frobenius(squared=True).value
    ours = lambda w: jnp.mean(jax.vmap(lambda x: one(x, w))(xs))
    usual = lambda w: jnp.sum(jax.vmap(lambda x: jax.jacrev(dense)(x, w))(xs) ** 2) / batch
    compiled = {n: jax.jit(jax.grad(f)).lower(weights).compile() for n, f in (("factored", ours), ("jacrev", usual))}
    return {name: lambda c=c: c(weights) for name, c in compiled.items()}


WORKLOADS: dict[str, tuple[Callable[..., dict[str, float]], str, str]] = {
    **{w: (functools.partial(functionals, w), "factored", "jacfwd") for w in ("frobenius", "trace", "svdvals")},
    "penalty": (penalty_gradient, "factored", "jacrev"),
    "norms": (per_example_norms, "auto", "explicit"),
    "brusselator": (brusselator_times, "sparse", "asdex"),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or WORKLOADS:
        run, ours, usual = WORKLOADS[name]
        times = run()
        shown = ", ".join(f"{label} {1e3 * t:.3f} ms" for label, t in times.items())
        print(f"{name}: {shown}; {usual} / {ours} = {ratio(times, ours, usual):.1f}")
