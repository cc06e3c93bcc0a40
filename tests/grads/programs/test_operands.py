"""Each operand of a primitive differentiated alone, with more inputs than outputs (where reverse is cheaper): the
value of jacfwd also where JAX cannot transpose the primitive with respect to that operand.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import grads

MATRIX = 3 * jnp.eye(3) + 1
A, B, S = jnp.asarray([0.3, -0.2, 0.9]), jnp.asarray([1.1, 0.4, -0.6]), jnp.asarray(0.7)
WINDOW = ((2,), (1,), "VALID")


def solved(b, **how):
    return lax.custom_linear_solve(lambda v: MATRIX @ v, b, lambda _, b: jnp.linalg.solve(MATRIX, b), **how)


def branched(a, v):
    pad = lambda low, high: lambda: (lax.pad(a, v, [(low, high, 0)]), low)
    return lax.cond(a[0] > 5, pad(1, 0), pad(0, 1))[0]


CASES = {
    "pad": (lambda a, v: lax.pad(a, v, [(1, 2, 1)]), (A, S)),
    "pad, in a branch": (branched, (A, S)),
    "pad, recomputed": (jax.checkpoint(lambda a, v: lax.pad(a, v, [(1, 0, 0)])), (A, S)),
    "custom_linear_solve": (solved, (A,)),
    "custom_linear_solve, symmetric": (lambda b: solved(b, symmetric=True), (A,)),
    "dynamic_update_slice": (lambda a, b: lax.dynamic_update_slice(a, b[:2], (1,)), (A, B)),
    "select_n": (lambda a, b: lax.select(jnp.asarray([True, False, True]), a, b), (A, B)),
    "clamp": (lax.clamp, (A - 1, A, A + 1)),
    "scatter": (lambda a, b: a.at[jnp.asarray([2, 0, 0])].set(b), (A, B)),
    "scatter-add": (lambda a, b: a.at[jnp.asarray([2, 0, 0])].add(b), (A, B)),
    "sort": (lambda a, b: lax.sort((a, b), num_keys=1), (A, B)),
    "cummax": (lax.cummax, (A,)),
    "gather": (lambda a: a[jnp.asarray([2, 0, 2])], (A,)),
    "reduce_window": (lambda a: lax.reduce_window(a, -jnp.inf, lax.max, *WINDOW), (A,)),
}


@pytest.mark.parametrize("case", CASES)
def test_one_operand_alone(case):
    fun, values = CASES[case]

    def total(operand, u):
        own = values[operand]
        moved = own + u[: own.size].reshape(own.shape) + u[own.size :].sum()
        return sum(jnp.sum(jnp.sin(y)) for y in jax.tree.leaves(fun(*values[:operand], moved, *values[operand + 1 :])))

    totals = [(partial(total, i), jnp.zeros(own.size + 3, own.dtype)) for i, own in enumerate(values)]
    ways = grads.jacobian, jax.jacfwd
    both = jax.jit(lambda us: [[way(f)(u) for (f, _), u in zip(totals, us, strict=True)] for way in ways])
    for got, want in zip(*both([u for _, u in totals]), strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("case", ["pad", "custom_linear_solve"])
def test_reverse_by_name_says_why_not(case):
    fun, values = CASES[case]
    with pytest.raises(grads.UnsupportedMethodError, match=r"transposed.*use 'fwd'"):
        grads.jacobian(lambda u: fun(*values[:-1], values[-1] + u.sum()).sum(), method="rev")(jnp.zeros(4))
