"""The chain: cuts, widths, structure, the order it finds, and what it costs in the emitted program."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grads
from grads.calls.problem import JacobianOptions, flatten_call
from grads.costs.machine import _DEFAULTS
from grads.methods import order
from grads.methods.evaluate import problem_of as traced
from grads.programs import cuts
from grads.programs.local import classify


def problem_of(fun, *args, **options):
    return traced(flatten_call(fun, 0, args, {}), JacobianOptions(**options))[0]


def mlp(sizes, act=jnp.tanh):
    rng = np.random.default_rng(0)
    ws = [jnp.asarray(rng.normal(size=s) / np.sqrt(s[0])) for s in itertools.pairwise(sizes)]

    def fun(x):
        for w in ws:
            x = act(x @ w + 0.1)
        return x

    return fun


def dots(jaxpr):
    """Operations of all matrix products of a program."""
    total = 0
    for e in jaxpr.eqns:
        if e.primitive.name == "dot_general":
            (lc, _), _ = e.params["dimension_numbers"]
            total += 2 * e.outvars[0].aval.size * int(np.prod([e.invars[0].aval.shape[i] for i in lc]))
        for p in e.params.values():
            inner = getattr(p, "jaxpr", p)
            if hasattr(inner, "eqns"):
                total += dots(inner)
    return total


def test_segments_of_a_dense_network_are_known():
    problem = problem_of(mlp([8, 6, 2, 6, 8]), jnp.ones(8))
    parts = cuts.segments(problem.graph)
    assert [s.kind for s in parts] == ["weight", "diagonal"] * 4
    assert [cuts.width(s.outs) for s in parts] == [6, 6, 2, 2, 6, 6, 8, 8]


@pytest.mark.parametrize(
    "act", [jax.nn.relu, jax.nn.gelu, jax.nn.silu, jax.nn.softplus, jax.nn.leaky_relu, jnp.sin]
)
def test_activations_are_diagonal(act):
    parts = cuts.segments(problem_of(act, jnp.ones(3)).graph)
    assert [s.kind for s in parts] == ["diagonal"]


@pytest.mark.parametrize(
    "fun",
    [
        jax.nn.softmax,
        jnp.cumsum,
        lambda x: x * x.sum(),
    ],
)
def test_mixing_is_not_diagonal(fun):
    parts = cuts.segments(problem_of(fun, jnp.ones(4)).graph)
    assert any(s.kind == "general" for s in parts)


def test_custom_rule_that_mixes_is_not_diagonal():
    @jax.custom_jvp
    def odd(x):
        return x * 2.0

    odd.defjvp(lambda p, t: (odd(*p), jnp.cumsum(t[0])))
    parts = cuts.segments(problem_of(odd, jnp.ones(4)).graph)
    assert [s.kind for s in parts] == ["general"]
    fun = lambda x: odd(jnp.sin(x))
    np.testing.assert_allclose(grads.jacobian(fun, method="chain")(jnp.ones(4)), jax.jacfwd(fun)(jnp.ones(4)))


def test_heads_and_skips_are_cut_at_their_total_width():
    w = jnp.ones((8, 3))

    def heads(x):
        h = jnp.tanh(x @ w)
        mean, log_std = h[:2] * 2, h[1:] * 3
        return jnp.concatenate([mean, log_std, mean]) @ jnp.ones((6, 5))

    assert 4 in grads.explain(heads, jnp.ones(8), method="chain").widths

    def unet(x):
        down = jnp.tanh(x @ jnp.ones((8, 6)))
        skipped, inner = down[:2], jnp.tanh(down @ jnp.ones((6, 1)))
        return jnp.concatenate([inner @ jnp.ones((1, 4)), skipped]) @ jnp.ones((6, 8))

    widths = grads.explain(unet, jnp.ones(8), method="chain").widths
    assert 3 in widths  # one bottleneck value and two skipped ones


def test_at_most_thirty_cuts():
    parts = cuts.segments(problem_of(mlp([4] * 41), jnp.ones(4)).graph)
    assert len(parts) <= cuts.MOST_CUTS
    fun = mlp([4] * 41)
    np.testing.assert_allclose(
        grads.jacobian(fun, method="chain")(jnp.ones(4)), jax.jacfwd(fun)(jnp.ones(4)), atol=1e-13
    )


def test_bracketing_is_optimal_for_dense_chains():
    """With matrix products alone, dynamic programming must match exhaustive bracketing."""
    sizes = [7, 2, 9, 3, 8]
    problem = problem_of(lambda x: mlp(sizes, lambda v: v)(x), jnp.ones(7))
    parts = [s for s in cuts.segments(problem.graph) if s.kind == "weight"]
    machine = _DEFAULTS["cpu"]

    flat = machine.__class__(
        **{**vars(machine), "dot": ((1, 1e9),), "bandwidth": 1e30, "cached": 1e30, "dispatch": 0.0}
    )
    chain = order.bracket(parts, problem.graph.active, flat, 8)

    def best(i, j):
        if j - i == 1:
            return 0
        return min(best(i, k) + best(k, j) + 2 * sizes[i] * sizes[k] * sizes[j] for k in range(i + 1, j))

    assert chain.root.operations == best(0, 4)


def test_emitted_operations_match_the_prediction():
    fun = mlp([60, 40, 3, 40, 60])
    x = jnp.ones(60)
    plan = grads.explain(fun, x, method="chain")
    emitted = dots(jax.make_jaxpr(grads.jacobian(fun, method="chain"))(x).jaxpr)
    primal = dots(jax.make_jaxpr(fun)(x).jaxpr)
    assert emitted <= 1.05 * (plan.operations + primal)
    assert emitted * 10 < dots(jax.make_jaxpr(jax.jacfwd(fun))(x).jaxpr)


def test_one_layer_needs_no_product():
    fun = mlp([30, 20])
    emitted = dots(jax.make_jaxpr(grads.jacobian(fun, method="structured"))(jnp.ones(30)).jaxpr)
    assert emitted == dots(jax.make_jaxpr(fun)(jnp.ones(30)).jaxpr)


def test_narrowest_cut_of_the_autoencoder():
    plan = grads.explain(mlp([784, 400, 20, 400, 784]), jnp.ones(784, jnp.float32))
    assert plan.method == "chain"
    assert plan.width == 20
    assert 45e6 < plan.operations < 55e6
    text = str(plan)
    assert "through width 20" in text
    assert "fwd_chunked" in text


def test_classify_refuses_what_it_cannot_prove():
    problem = problem_of(lambda x: jnp.sin(x) * x.sum(), jnp.ones(3))
    graph = problem.graph
    segment = classify(graph.body, graph.live[0], cuts.end_state(graph), graph.active)
    assert segment.kind == "general"
