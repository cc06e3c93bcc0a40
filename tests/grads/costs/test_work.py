"""Counted operations against hand counts and against the matrix products of the emitted programs."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from grads import explain, jacobian
from grads.calls.problem import JacobianOptions, flatten_call
from grads.costs.cost import plain_cost
from grads.costs.machine import _DEFAULTS, Machine, Work, calibrate, current, using
from grads.costs.machine import operations as total
from grads.costs.work import derivative_work
from grads.methods.evaluate import problem_of as traced


def problem_of(fun, x, **options):
    return traced(flatten_call(fun, 0, (x,), {}), JacobianOptions(**options))[0]


def operations(fun, x, reverse=False):
    return total(derivative_work(problem_of(fun, x), reverse), 1)


W = jnp.ones((6, 4))


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("fun", "x", "count"),
    [
        (lambda x: x @ W, jnp.ones(6), 48),
        (lambda x: x @ W, jnp.ones((3, 6)), 144),
        (lambda x: x @ x.T, jnp.ones((3, 6)), 2 * 108),  # both operands carry the derivative
        (jnp.sin, jnp.ones(7), 7),
        (lambda x: x * x, jnp.ones(7), 14),
        (jnp.sum, jnp.ones(7), 7),
        (lambda x: x.reshape(2, 3), jnp.ones(6), 0),
        (lambda x: jax.lax.scan(lambda c, _: (c @ W @ W.T, None), x, None, length=5)[0], jnp.ones(6), 5 * 96),
        (lambda x: jax.lax.cond(True, lambda v: v @ W @ W.T, lambda v: v, x), jnp.ones(6), 96),
        (jax.checkpoint(lambda x: jnp.sin(x)), jnp.ones(7), None),
    ],
)
def test_operations_of_one_column(fun, x, count, reverse):
    if count is None:  # a checkpoint runs its body again on the way back
        count = 14 if reverse else 7
    assert operations(fun, x, reverse) == count


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2)])
def test_convolution(stride, dilation):
    kernel = jnp.ones((3, 3, 2, 5))

    def fun(x):
        return jax.lax.conv_general_dilated(
            x,
            kernel,
            (stride,) * 2,
            ((1, 1), (1, 1)),
            lhs_dilation=(dilation,) * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    x = jnp.ones((1, 8, 8, 2))
    assert operations(fun, x) == 2 * fun(x).size * 3 * 3 * 2 / dilation**2


def test_inactive_work_is_free():
    assert operations(lambda x: x * jnp.sum(W @ W.T), jnp.ones(7)) == 7
    assert operations(lambda x: jax.lax.stop_gradient(x @ W).sum() + jnp.sin(x), jnp.ones(6)) == 12


def test_time_is_the_slower_of_arithmetic_and_memory():
    machine = Machine("m", ((1, 1e9),), ((1, 1e9),), ((1, 1e9),), 1e9, 1e6, 0.5, cache=10, cached=1e9)
    seconds = lambda *work: machine.seconds([Work("dot", *work)], 1)
    assert seconds(100, 1000, 0, 1, 1, 4) == pytest.approx(1000 / 1e6 + 0.5)  # slow memory
    cached = seconds(1e9, 1, 0, 1, 1, 4)
    assert cached == pytest.approx(1 + 0.5)
    assert cached * 2 > seconds(1e9, 1, 0, 1, 1, 8) > 1.5 + 0.5


def test_rates_interpolate_and_nest():
    cpu = _DEFAULTS["cpu"]
    rates = [cpu.rate("dot", d) for d in (0.5, 1, 3, 4, 40, 1e6)]
    assert rates == sorted(rates)
    assert rates[0] == cpu.dot[0][1]
    assert rates[-1] == cpu.dot[-1][1]
    before = current()
    with using(cpu):
        assert current() is cpu
    assert current() is before


@pytest.mark.parametrize("faster", ["in a loop", "outside"])
def test_a_chain_loops_where_that_is_faster(faster):
    slow, fast = ((1, 1e7),), ((1, 1e12),)
    inside = fast if faster == "in a loop" else slow
    cpu = dataclasses.replace(_DEFAULTS["cpu"], conv_transposed=slow, variants=(("conv_transposed", 8, True, inside),
                              ("conv_transposed", 8, False, slow if inside is fast else fast)))  # fmt: skip
    kernel, last = jnp.ones((3, 1, 4)), jnp.ones((8 * 4, 6))
    layout = ("NWC", "WIO", "NWC")

    def fun(x):
        h = jax.lax.conv_general_dilated(x.reshape(1, 16, 1), kernel, (2,), "SAME", dimension_numbers=layout)
        return jnp.sin(jnp.sin(h).reshape(-1) @ last)

    x = jnp.linspace(0.0, 1.0, 16)
    with using(cpu):
        cost = next(r.cost for r in explain(fun, x).rows if r.method.name == "chain")
        program = jax.jit(jacobian(fun, method="chain"))
        assert cost.chunk == (3 if faster == "in a loop" else None)
        assert ("while" in program.lower(x).as_text()) == (faster == "in a loop")
    assert jnp.allclose(program(x), jax.jacrev(fun)(x), atol=1e-12)


def test_chunks_fit_the_memory_limit():
    x = jnp.ones(512)
    fun = lambda v: jnp.tanh(jnp.outer(v, jnp.ones(64))).sum(1)
    for limit in (20e6, 6e6):
        problem = problem_of(fun, x, memory_limit=int(limit))
        cost = plain_cost(problem, reverse=False, chunked=True)
        assert cost.memory <= limit
        assert 1 <= cost.chunk < 512


@pytest.mark.campaign
def test_calibration_is_stored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    found = calibrate()
    assert (tmp_path / "autoencoders-jax" / "rates.json").exists()
    assert current() == found
