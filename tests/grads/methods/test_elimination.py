"""Vertex elimination: right numbers in any order, and never more products than forward or reverse."""

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grads
from grads.methods.elimination import _Edges, find
from grads.programs.graph import trace
from grads.programs.scalars import ScalarGraph, scalar_graph
from grads.testing.scalar import SCALAR_PROGRAMS


def test_published_programs_take_no_more_than_forward_and_reverse():
    for program in SCALAR_PROGRAMS.values():
        graph, constants = trace(lambda x, fun=program.fun: [fun(x)], [jnp.asarray(program.at)])
        found = find(scalar_graph(graph, 1, constants))
        assert found.count <= min(found.tried["fwd"], found.tried["rev"], found.tried["markowitz"])
        if program.graphax:
            assert found.count < 0.9 * min(found.tried["fwd"], found.tried["rev"])


def random_graph(rng, inputs=4, inner=14, outputs=3):
    """A graph of scalars and its local partial derivatives as a strictly lower triangular matrix."""
    size = inputs + inner + outputs
    dense = np.tril(rng.normal(size=(size, size)) * (rng.random((size, size)) < 0.3), -1)
    dense[:inputs] = 0
    dense[:, -outputs:] = 0
    edges = {u: {int(w): [(0, 0, 0)] for w in np.flatnonzero(dense[:, u])} for u in range(size) if dense[:, u].any()}
    ends = tuple(range(size - outputs, size))
    return dense, ScalarGraph(edges, tuple(range(inputs)), ends)


@pytest.mark.parametrize("seed", range(4))
def test_elimination_solves_the_linear_system_of_the_graph(seed):
    dense, graph = random_graph(np.random.default_rng(seed))
    found = find(graph)
    edges = _Edges((u, w, float(dense[w, u])) for u, to in graph.edges.items() for w in to)
    for k in found.order:
        edges.eliminate(k)
    got = [[edges.after.get(j, {}).get(i, 0.0) for j in graph.inputs] for i in graph.outputs]
    whole = np.linalg.inv(np.eye(len(dense)) - dense)
    np.testing.assert_allclose(got, whole[np.ix_(graph.outputs, graph.inputs)], atol=1e-12)
    assert edges.count == found.count <= min(found.tried["fwd"], found.tried["rev"])


def test_a_waist_of_one_is_found():
    """n inputs, a chain of three vertices, m outputs: its middle first costs 1, then n and n m; forward 2 n + n m."""
    n, m = 5, 7
    edges = {i: {n: [(0, 0, i)]} for i in range(n)} | {n: {n + 1: [(1, 0, 0)]}, n + 1: {n + 2: [(2, 0, 0)]}}
    outs = tuple(range(n + 3, n + 3 + m))
    found = find(ScalarGraph(edges | {n + 2: {o: [(3, 0, o)] for o in outs}}, tuple(range(n)), outs))
    assert found.tried["fwd"] == 2 * n + n * m
    assert found.tried["rev"] == 2 * m + n * m
    assert found.count == 1 + n + n * m


def test_vectors_products_moves_and_constants():
    w = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)))

    def fun(t):
        y = jnp.tanh(t["a"] @ w) * t["b"] + jnp.flip(t["a"])[:3] - jax.nn.softplus(t["b"])
        z = jnp.where(y > 0, y, 0.1 * y).reshape(3, 1) @ y.reshape(1, 3)
        return {"y": y - jnp.float32(1), "z": z, "none": jnp.ones(2), "s": y[1] ** 2 + y[1] - y[1]}

    t = {"a": jnp.linspace(0.1, 1.0, 4), "b": jnp.asarray(0.7)}
    got = jax.jit(grads.jacobian(fun, method="elimination"))(t)
    want = jax.jit(jax.jacfwd(fun))(t)
    assert jax.tree.structure(got) == jax.tree.structure(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, atol=1e-14)


def test_long_programs_are_few_operations_on_arrays():
    """Sums of products level by level; a linear program has whole numbers for edges."""

    def fun(x):
        for _ in range(4):
            x = jnp.sin(x) * jnp.roll(x, 1) + x - x.sum()
        return (x[:, None] - x[None, :]).sum(1)

    x = jnp.linspace(0.5, 1.0, 8)
    J = grads.jacobian(fun, method="elimination")
    np.testing.assert_allclose(jax.jit(J)(x), jax.jit(jax.jacfwd(fun))(x), rtol=1e-9, atol=1e-12)
    found = find(scalar_graph(trace(lambda x: [fun(x)], [x])[0], 1, ()))
    assert found.count > 5 * len(jax.make_jaxpr(J)(x).jaxpr.eqns)
    spread = lambda x: (x[:, None] - x[None, :]).sum(1) + x.sum()
    np.testing.assert_allclose(grads.jacobian(spread, method="elimination")(jnp.ones(20)), 20 * jnp.eye(20), atol=1e-14)


def test_products_of_single_numbers_are_not_free():
    """A small network with fewer products than `chain` took six times its time under `vmap`."""
    w = [jnp.asarray(np.random.default_rng(i).normal(size=s)) for i, s in enumerate([(10, 16), (16, 4), (4, 16)])]
    norm = lambda x: (x - x.mean()) / jnp.sqrt(x.var() + 1e-5)
    plan = grads.explain(lambda x: jax.nn.softmax(norm(jnp.tanh(norm(x @ w[0]) @ w[1]) @ w[2])), jnp.ones(10))
    known = {r.method.name: r.cost for r in plan.rows if r.cost}
    assert known["elimination"].operations < known["chain"].operations
    assert known["elimination"].seconds > 2 * known["chain"].seconds


def test_batched_and_differentiated(monkeypatch):
    monkeypatch.setattr(sys.modules["grads.methods.elimination"], "SINGLE", 0)
    program = SCALAR_PROGRAMS["propane_combustion"]
    x = jnp.asarray(program.at)[None] * jnp.linspace(0.9, 1.1, 3)[:, None]
    energy = lambda transform: lambda x: jnp.sum(jax.vmap(transform)(x) ** 2)
    got = jax.jit(jax.grad(energy(grads.jacobian(program.fun, method="elimination"))))(x)
    np.testing.assert_allclose(got, jax.jit(jax.grad(energy(jax.jacfwd(program.fun))))(x), rtol=1e-12)


@pytest.mark.parametrize(
    ("fun", "x", "why"),
    [
        (jnp.cumsum, jnp.ones(3), "cumsum"),
        (jnp.sin, jnp.ones(2000), "4000 scalars"),
        (jax.checkpoint(jnp.sin), jnp.ones(2), "checkpoint"),
        (lambda x: jnp.abs(jnp.fft.fft(x)), jnp.ones(2), "complex"),
        (lambda x: x @ jnp.ones((60, 60)) @ jnp.ones((60, 60)), jnp.ones(60), "more than 20000 multiplications"),
    ],
)
def test_what_it_cannot_do_is_said(fun, x, why):
    with pytest.raises(grads.UnsupportedMethodError, match=why):
        grads.jacobian(fun, method="elimination")(x)


def test_an_index_decides_the_graph():
    take = lambda x, i: x[i] ** 2
    J, x = grads.jacobian(take, method="elimination"), jnp.linspace(0.1, 1.0, 4)
    for i in (jnp.asarray([0, 2]), jnp.asarray([3, 3])):
        np.testing.assert_allclose(J(x, i), jax.jacfwd(take)(x, i), atol=1e-15)
