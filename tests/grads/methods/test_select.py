"""What `auto` chooses, why, within which memory; batched functions; autotune."""

import dataclasses
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grads
from grads.costs.machine import _DEFAULTS, using
from grads.methods import registry, select
from grads.testing.catalogue import problem
from tests.grads.methods.test_chain import problem_of as traced


@pytest.fixture(autouse=True)
def _shipped_rates():
    with using(_DEFAULTS["cpu"]):
        yield


def weight(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) / np.sqrt(shape[0]))


A, B = weight(0, 200, 100), weight(1, 100, 5)


def narrow(x):
    return jnp.tanh(jnp.tanh(x @ A) @ B)


def wide(z):
    return jnp.tanh(jnp.tanh(z @ B.T) @ A.T)


def test_choices():
    loop = lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=3)[0]
    assert grads.explain(lambda x: wide(narrow(x)), jnp.ones(200)).method == "chain"
    assert grads.explain(narrow, jnp.ones((16, 200))).method == "batched"
    tall = loop(lambda c: jnp.concatenate([c[1:], c[:1]]) * jnp.sin(c))
    assert grads.explain(lambda x: jnp.outer(tall(x), jnp.sin(tall(x))), jnp.ones(4)).method.startswith(
        ("fwd", "chain")
    )
    scalar = lambda x: loop(lambda c: jnp.cumsum(jnp.sin(c)))(x).sum()
    assert grads.explain(scalar, jnp.ones(300)).method.startswith(("rev", "chain"))
    plan = grads.explain(narrow, jnp.ones(200), method="rev")
    assert plan.method == "rev"
    assert "asked for by name" in str(plan)


def test_plan_lists_every_method_with_a_reason_or_a_cost():
    plan = grads.explain(lambda x: x - x.mean(0, keepdims=True), jnp.ones((4, 3)))
    rows = {r.method.name: r for r in plan.rows}
    assert set(grads.methods()) == set(rows)
    assert "reduce_sum" in rows["batched"].reason
    assert rows["fwd"].cost.operations > 0


def test_memory_limit():
    fun = lambda x: jnp.tanh(jnp.sin(jnp.outer(x, jnp.ones(200))) @ weight(4, 200, 3)).sum(1)
    x = jnp.linspace(0.0, 1.0, 300)
    reference = jax.jacfwd(fun)(x)
    for limit in (60_000_000, 8_000_000, 4_000_000):
        jac = jax.jit(grads.jacobian(fun, memory_limit=limit))
        memory = jac.lower(x).compile().memory_analysis()
        assert memory.temp_size_in_bytes + memory.output_size_in_bytes <= limit
        np.testing.assert_allclose(jac(x), reference, atol=1e-12)
    with pytest.raises(grads.MemoryLimitError, match=r"memory_limit=1000 .*least"):
        grads.jacobian(fun, memory_limit=1000)(x)


def test_memory_limit_of_a_batch():
    x = jnp.ones((12, 200))
    reference = jax.vmap(jax.jacrev(narrow))(x)
    least = reference.nbytes
    for limit in (8 * least, 3 * least, int(1.6 * least)):
        jac = jax.jit(grads.jacobian(narrow, batch_axis=0, memory_limit=limit))
        memory = jac.lower(x).compile().memory_analysis()
        assert memory.temp_size_in_bytes + memory.output_size_in_bytes <= limit
        np.testing.assert_allclose(jac(x), reference, atol=1e-12)


def test_integer_outputs_beside_a_sparse_jacobian():
    fun = lambda x: {"a": x**2, "k": jnp.argmax(x)}
    x = jnp.arange(5.0)
    np.testing.assert_allclose(grads.jacobian(fun, method="sparse")(x)["a"], jnp.diag(2 * x))


def test_plans_of_functions_that_ignore_their_input():
    assert "Nothing depends" in str(grads.explain(lambda x: jnp.ones(3), jnp.ones(2)))


BATCHED = {
    "dense": lambda x: jax.nn.relu(x.reshape(4, -1) @ A[:6]) @ B,
    "divided": lambda x: jnp.tanh(x.reshape(4, -1) @ A[:6]) @ B / x.shape[0],
    "softmax": lambda x: jax.nn.softmax(x.reshape(4, 6), axis=1),
    "per example constants": lambda x: x.reshape(4, 6) * jnp.arange(4.0)[:, None],
    "scan": lambda x: jax.lax.scan(lambda c, w: (jnp.sin(c * w), None), x.reshape(4, 6), jnp.ones((3, 4, 6)))[0],
    "pooled": lambda x: jax.lax.reduce_window(x.reshape(4, 6), -jnp.inf, jax.lax.max, (1, 2), (1, 2), "VALID"),
}


@pytest.mark.parametrize("name", BATCHED)
def test_batched(name):
    fun, x = BATCHED[name], weight(3, 4, 6)
    reference = jax.jacfwd(fun)(x)
    np.testing.assert_allclose(grads.jacobian(fun, method="batched")(x), reference, atol=1e-12)
    blocks = grads.jacobian(fun, batch_axis=0)(x)
    index = jnp.arange(4)
    np.testing.assert_allclose(blocks, jnp.moveaxis(reference, -2, 1)[index, index], atol=1e-12)
    turned = grads.jacobian(fun, batch_axis=0, output="transposed")(x)
    np.testing.assert_allclose(turned, jnp.moveaxis(blocks, -1, 1), atol=1e-12)


S, T = weight(6, 40, 40), weight(7, 40, 2)


def unrolled(step, start):
    def fun(x):
        h, _ = jax.lax.scan(step, start(x), jnp.moveaxis(x.reshape(len(x), 3, 40), 1, 0))
        return jnp.tanh(h @ T) @ T.T

    return fun


zeros = lambda x: jnp.zeros((len(x), 40))
plain = lambda h, v: (jnp.tanh(v + h @ S), None)
LOOPS = {  # how the Jacobian of each example is had: of the program of one example, or with that of the whole batch
    "recurrent": (unrolled(plain, zeros), "per example"),
    "checkpointed": (unrolled(jax.checkpoint(plain), zeros), "per example"),
    "branches": (
        unrolled(lambda h, v: (jax.lax.cond(S[0, 0] > 0, jnp.tanh, jnp.sin, v + h @ S), None), zeros),
        "per example",
    ),
    "counter": (
        lambda x: jax.lax.fori_loop(0, 3, lambda i, h: jnp.tanh(h @ S) * (i + 1.0), x) @ T @ T.T,
        "per example",
    ),
    "size of the batch in the loop": (
        unrolled(lambda h, v: (jnp.tanh(v + h @ S / len(h)), None), zeros),
        "of the whole",
    ),
    "size in the start": (unrolled(plain, lambda x: jnp.full((len(x), 40), 1.0 / len(x))), "of the whole"),
    "a start per example": (unrolled(plain, lambda x: jnp.arange(40.0 * len(x)).reshape(-1, 40)), "of the whole"),
    "a constant per example": (
        unrolled(lambda h, v: (jnp.tanh(v + h @ S + jnp.arange(1.0 * len(v))[:, None]), None), zeros),
        "of the whole",
    ),
}


@pytest.mark.parametrize("name", LOOPS)
def test_batched_through_loops_and_branches(name):
    fun, way = LOOPS[name]
    x = weight(8, 4, 40 if name == "counter" else 120)
    note = next(r.cost.note for r in grads.explain(fun, x, batch_axis=0).rows if r.method.name == "batched")
    assert way in note
    index = jnp.arange(4)
    want = jnp.moveaxis(jax.jacfwd(fun)(x), -2, 1)[index, index]
    np.testing.assert_allclose(grads.jacobian(fun, method="batched", batch_axis=0)(x), want, atol=1e-12)


@pytest.mark.parametrize(
    "fun",
    [
        lambda x: x - x.mean(0, keepdims=True),
        lambda x: jnp.cumsum(x, 0),
        lambda x: x[::-1],
        lambda x: jnp.roll(x, 1, axis=0),
        lambda x: (x @ x.T) @ x,
        lambda x: jnp.sort(x, axis=0),
        lambda x: x * x[:1],
        lambda x: x.reshape(6, 4).T.reshape(4, 6),
    ],
)
def test_mixed_examples_are_never_batched(fun):
    x = weight(5, 4, 6)
    with pytest.raises(grads.UnsupportedMethodError, match="independent"):
        grads.jacobian(fun, method="batched")(x)
    np.testing.assert_allclose(grads.jacobian(fun)(x), jax.jacfwd(fun)(x), atol=1e-12)
    with pytest.raises(ValueError, match="not independent"):
        grads.jacobian(fun, batch_axis=0)(x)


def test_stated_batch_axis_without_a_proof():
    fun = lambda x: jnp.stack([jnp.sin(x[i]) * x[i].sum() for i in range(3)])
    x = weight(6, 3, 4)
    blocks = grads.jacobian(fun, batch_axis=0)(x)
    np.testing.assert_allclose(blocks, jax.vmap(jax.jacfwd(lambda r: jnp.sin(r) * r.sum()))(x), atol=1e-12)
    last = grads.jacobian(lambda x: jnp.tanh(B[:4].T @ x), batch_axis=-1)(x.T)
    reference = jax.vmap(jax.jacfwd(lambda r: jnp.tanh(B[:4].T @ r)))(x)
    np.testing.assert_allclose(last, reference, atol=1e-12)


def mixed(x, order):
    """Rows in another order, by rows of Python: neither a proof nor a false probe of neighbours helps here."""
    return jnp.stack([jnp.sin(x[i]) * x[i].sum() for i in order])


@pytest.mark.parametrize("order", [(2, 3, 0, 1), (0, 1, 2, 0)])
def test_a_false_batch_axis_gives_no_number_anywhere(order):
    """Also examples of one parity (2 <-> 0), under jit and vmap, and in a gradient; a closed-over tracer too."""
    x = weight(6, 4, 3)
    jac = lambda fun: grads.jacobian(fun, batch_axis=0)
    with pytest.raises(ValueError, match=r"not independent \(a derivative of .* leave batch_axis out"):
        jac(lambda x: mixed(x, order))(x)
    scaled = lambda s: jac(lambda x: s * mixed(x, order))(x)
    assert jnp.isnan(jax.jit(scaled)(2.0)).all()
    assert jnp.isnan(jax.jit(jax.grad(lambda s: scaled(s).sum()))(2.0))


def test_a_true_batch_axis_holds_under_transformations():
    fun = lambda x: mixed(x, (0, 1, 2, 3))
    x = weight(6, 4, 3)
    reference = jax.vmap(jax.jacfwd(lambda r: jnp.sin(r) * r.sum()))
    np.testing.assert_allclose(jax.jit(grads.jacobian(fun, batch_axis=0))(x), reference(x), atol=1e-12)
    bad = x.at[1].set(jnp.nan)  # nan in one example is no dependence of the others
    got = grads.jacobian(fun, batch_axis=0)(bad)
    np.testing.assert_allclose(got[2:], reference(bad)[2:], atol=1e-12)
    with pytest.raises(ValueError, match="not independent"):
        grads.jacobian(lambda x: mixed(x, (0, 1, 3, 2)), batch_axis=0)(bad)  # nor hides one


def test_a_false_batch_axis_by_reverse_passes():
    @jax.custom_vjp
    def doubled(x):
        return 2 * x

    doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    x = weight(6, 4, 3)
    right = grads.jacobian(lambda x: doubled(mixed(x, range(4))), batch_axis=0)(x)
    np.testing.assert_allclose(right, 2 * jax.vmap(jax.jacrev(lambda r: jnp.sin(r) * r.sum()))(x), atol=1e-12)
    with pytest.raises(ValueError, match="not independent"):
        grads.jacobian(lambda x: doubled(mixed(x, (2, 1, 0, 3))), batch_axis=0)(x)


@pytest.mark.parametrize("batch", [2, 3, 6, 20])
def test_every_pair_of_examples_is_probed(batch):
    """One link from any example to any other is enough."""
    jac = jax.jit(lambda link: grads.jacobian(lambda x: link @ x, batch_axis=0)(jnp.ones((batch, 2))))
    assert not jnp.isnan(jac(jnp.eye(batch))).any()
    for a, b in np.random.default_rng(batch).integers(batch, size=(9, 2)):
        assert jnp.isnan(jac(jnp.eye(batch).at[a, b].add(1e-3))).all() == (a != b)


def test_batched_passes_do_not_grow_with_the_batch():
    count = lambda batch: grads.explain(narrow, jnp.ones((batch, 200)), method="batched").operations / batch
    assert count(64) == pytest.approx(count(8), rel=0.05)


def test_autotune_agrees_and_remembers():
    calls = []

    def fun(x):
        calls.append(1)
        return narrow(x)

    jac = grads.jacobian(fun, method="autotune")
    x = weight(7, 200)
    np.testing.assert_allclose(jac(x), jax.jacfwd(narrow)(x), atol=1e-12)
    traced = len(calls)
    jac(x)
    assert len(calls) == traced + 1  # traced again, but neither timed nor compiled again
    np.testing.assert_allclose(jax.jit(jac)(x), jax.jacfwd(narrow)(x), atol=1e-12)


def test_autotune_times_batched_functions_too():
    x = weight(8, 16, 200)
    assert grads.explain(narrow, x).method == "batched"
    got = grads.jacobian(narrow, method="autotune")(x)
    np.testing.assert_allclose(got, jax.jacfwd(narrow)(x), atol=1e-12)


def test_auto_never_looks_for_a_sparsity_pattern(monkeypatch):
    """That takes seconds for a batch; only `method="sparse"` does it, and then it is chosen or refused."""

    def refuse(*_):
        raise AssertionError("a pattern was looked for")

    monkeypatch.setattr(sys.modules["grads.methods.coloured"], "graph_sparsity", refuse)
    for fun, x in ((narrow, jnp.ones((16, 200))), (lambda x: x[1:] * x[:-1], jnp.ones(50))):
        assert "sparse" in str(grads.explain(fun, x))
        grads.jacobian(fun)(x)
    with pytest.raises(AssertionError, match="looked for"):
        grads.explain(narrow, jnp.ones(200), method="sparse")
    monkeypatch.undo()
    with pytest.raises(grads.UnsupportedMethodError, match="no sparsity"):
        grads.explain(narrow, jnp.ones(200), method="sparse")


@pytest.mark.parametrize("name", ["dense_encoder", "dense_decoder", "deep_autoencoder", "layer_norm", "convolution"])
def test_a_method_within_another_never_costs_less(name):
    """So `auto` need not ask it; `autotune` and limits of memory still do."""
    case = problem(name)
    costs = {r.method.name: r.cost for r in grads.explain(case.fun, *case.args).rows}
    assert {m for m in grads.methods() if grads.get_method(m).within} == {"structured"}
    if costs["structured"] is not None:
        assert costs["chain"].seconds <= costs["structured"].seconds
    else:
        assert name == "layer_norm"  # nothing known at either end


def test_auto_asks_only_what_it_may_choose(monkeypatch):
    asked = set()
    for name, method in registry.REGISTERED.items():
        asks = lambda p, name=name, method=method: asked.add(name) or method.supports(p)
        monkeypatch.setitem(registry.REGISTERED, name, dataclasses.replace(method, supports=asks))
    fun = lambda x: narrow(x) + 0.5
    grads.jacobian(fun)(jnp.ones(200))
    assert asked == {"fwd", "rev", "fwd_chunked", "rev_chunked", "chain", "batched"}
    asked.clear()
    grads.jacobian(fun, memory_limit=10**9)(jnp.ones(200))
    assert "structured" in asked
    asked.clear()
    grads.jacobian(fun, batch_axis=0)(jnp.ones((4, 200)))
    assert "naive_loop" not in asked
    asked.clear()
    grads.explain(fun, jnp.ones(200))
    assert asked == set(grads.methods())


def test_registered_method_is_used():
    def build(problem):
        def evaluate(constants, leaves):
            (y,) = problem.bind(constants)(*leaves)
            return (y,), [[jnp.ones((*y.shape, *leaves[0].shape))]]

        return evaluate

    grads.register_method("ones", supports=lambda p: None, cost=lambda p: None, build=build)
    try:
        np.testing.assert_array_equal(grads.jacobian(narrow, method="ones")(jnp.ones(200)), np.ones((5, 200)))
        assert grads.explain(narrow, jnp.ones(200)).method != "ones"
    finally:
        registry.REGISTERED.pop("ones")


def test_ties_go_to_fewer_operations():
    """A few dispatches tell nothing apart: under `vmap` they are shared, the operations are not."""
    cost = lambda seconds, operations: grads.Cost(operations, 0, seconds, 0)
    costs = {"fwd": cost(9e-6, 300), "rev": cost(8e-6, 500), "chain": cost(1e-5, 100), "batched": cost(1e-3, 1)}
    rows = [select.Candidate(grads.get_method(name), c, None) for name, c in costs.items()]
    ranked = select.ranked(traced(jnp.sin, jnp.ones(2)), rows)
    assert [r.method.name for r in ranked] == ["chain", "fwd", "rev", "batched"]


def test_passes_of_a_batch_one_by_one():
    """A convolutional decoder of many examples: the temporaries of all tangents at once would be fresh memory."""
    kernel, start = (w.astype(jnp.float32) for w in (weight(12, 4, 4, 16, 16), weight(13, 6, 16 * 7 * 7)))

    def decode(z):
        h = jnp.tanh(z @ start).reshape(-1, 7, 7, 16)
        for _ in range(2):
            h = jnp.tanh(jax.lax.conv_transpose(h, kernel, (2, 2), "SAME"))
        return h[..., :1]

    z = weight(14, 16, 6).astype(jnp.float32)
    assert grads.explain(decode, z, batch_axis=0).cost.note == "6 tangents of the whole batch, one by one"
    single = lambda v: decode(v[None])[0]
    mapped, expected = jax.vmap(grads.jacobian(single)), jax.vmap(jax.jacfwd(single))
    got = jax.jit(lambda z: (grads.jacobian(decode, batch_axis=0)(z), mapped(z), expected(z)))(z)
    np.testing.assert_allclose(got[0], got[2], atol=1e-5)
    np.testing.assert_allclose(got[1], got[2], atol=1e-5)
    passes = lambda J, z: str(jax.make_jaxpr(J)(z)).count("conv_general_dilated[")
    assert passes(mapped, z) == 2 + 2 * 6  # an outer `vmap` is seen
    assert passes(grads.jacobian(single), z[0]) == 2 + 2
