"""Workloads of the Jacobian figures beside networks: norms of gradients, a sparse system, programs of scalars.

Each returns {label: seconds}: the least of turns taken in one process.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grads import jacobian, per_example_gradient_norms, sparse
from grads.costs.timing import best, race
from grads.matrices.pattern import Pattern
from grads.methods.elimination import find
from grads.programs.graph import trace
from grads.programs.scalars import scalar_graph
from grads.testing.networks import dense, dense_weights
from grads.testing.scalar import ScalarProgram
from grads.testing.sparse import brusselator, brusselator_pattern

SIZES = (784, 400, 20, 400, 784)
SECONDS = 8.0


def per_example_norms(hand: Callable, batch: int = 256) -> dict[str, float]:
    """Norms of per-example parameter gradients of the squared error: vmap(grad) ("explicit"), ours, `hand(weights, x)`.

    Raises AssertionError where the first two disagree.
    """
    rng = np.random.default_rng(0)
    x, weights = jnp.asarray(rng.normal(size=(batch, SIZES[0])), jnp.float32), dense_weights(rng, SIZES, jnp.float32)
    loss = lambda weights, x: jnp.sum((dense(x, weights) - x) ** 2)
    calls: dict[str, Callable] = {m: per_example_gradient_norms(loss, method=m) for m in ("auto", "explicit")}
    error = jnp.max(jnp.abs(calls["auto"](weights, x) / calls["explicit"](weights, x) - 1))
    if error > 1e-4:
        raise AssertionError(f"norms disagree by {error:.1e}")
    calls["hand"] = jax.jit(hand)
    return best({m: lambda call=call: call(weights, x) for m, call in calls.items()}, turns=3, seconds=SECONDS)


def brusselator_times(side: int = 24) -> dict[str, float]:
    """Compiled evaluation of the two-dimensional Brusselator's sparse Jacobian, n = 2 side^2, in float64, with asdex
    if installed.
    """
    x = jnp.asarray(np.random.default_rng(0).normal(size=2 * side**2), jnp.float64)
    given = sparse(Pattern.at(*brusselator_pattern(side), (x.size, x.size)))
    ours = jax.jit(jacobian(brusselator, method=given, output="bcoo"))
    calls: dict[str, Callable[[], Any]] = {"sparse": lambda: ours(x).data}
    try:
        import asdex
    except ImportError:
        pass
    else:
        theirs = jax.jit(asdex.jacobian(brusselator, x, output_format="bcoo"))
        calls["asdex"] = lambda: theirs(x).data
    return best(calls, turns=3, seconds=SECONDS)


def scalar_counts(program: ScalarProgram) -> dict[str, int | float]:
    """Multiplications of vertex elimination: "fwd", "rev", "markowitz" and the order "taken"."""
    graph, constants = trace(lambda x: [program.fun(x)], [jnp.asarray(program.at)])
    return find(scalar_graph(graph, 1, constants)).tried


def scalar_times(program: ScalarProgram, batch: int = 512) -> dict[str, float]:
    """Jacobians of a batch of points, float32: median seconds of `vmap` of jacfwd, jacrev and elimination."""
    spread = 1 + 0.01 * jax.random.normal(jax.random.key(0), (batch, len(program.at)))
    x = jnp.asarray(program.at, jnp.float32) * spread
    ways: dict[str, Callable] = {
        "jacfwd": jax.jacfwd,
        "jacrev": jax.jacrev,
        "elimination": partial(jacobian, method="elimination"),
    }
    runs = {name: jax.jit(jax.vmap(way(program.fun))) for name, way in ways.items()}
    times = race({name: partial(run, x) for name, run in runs.items()}, turns=200, seconds=SECONDS, most=4000)
    return {name: float(np.median(spent)) for name, spent in times.items()}
