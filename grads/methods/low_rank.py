"""A low-rank approximation of a Jacobian from few products with it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from grads.calls.problem import FlatProblem
from grads.matrices.factored import DenseFactor, Factored
from grads.matrices.operator import JacobianOperator
from grads.methods.registry import Method, register

__all__ = ["low_rank", "randomized_svd"]


def randomized_svd(
    operator: JacobianOperator, rank: int, key: Key[Array, ""], *, oversample: int = 10, power: int = 1
) -> tuple[Float[Array, "m k"], Float[Array, " k"], Float[Array, "k n"]]:
    """Return U, s, V^T with J close to U diag(s) V^T (Halko, Martinsson & Tropp 2011, algorithms 4.4 and 5.1).

    2 (1 + power) (rank + oversample) products; the expected error is near sigma_(rank + 1), the nearer the larger
    `power`. Raises ValueError unless 1 <= rank <= min(m, n).
    """
    if not 1 <= rank <= min(operator.shape):
        raise ValueError(f"rank must be between 1 and {min(operator.shape)}, got {rank}")
    width = min(rank + oversample, *operator.shape)
    y = operator.mm(jax.random.normal(key, (operator.shape[1], width), operator.dtype))
    for _ in range(power):
        y = operator.mm(jnp.linalg.qr(operator.rmm(jnp.linalg.qr(y)[0].T).T)[0])
    q = jnp.linalg.qr(y)[0]
    u, s, vt = jnp.linalg.svd(operator.rmm(q.T), full_matrices=False)
    return (q @ u)[:, :rank], s[:rank], vt[:rank]


def low_rank(rank: int = 32, *, seed: int = 0, oversample: int = 10, power: int = 1) -> Method:
    """Return the method whose Jacobian is the randomised best approximation of that rank (never exact in general)."""

    def supports(problem: FlatProblem) -> str | None:
        if problem.is_complex:
            return "the values are complex: use 'fwd' or 'rev'"
        return problem.no_forward or problem.no_reverse

    def build(problem: FlatProblem) -> Callable:
        def evaluate(constants: Any, leaves: Any) -> tuple[list, Factored]:
            fun, flat, _ = problem.raveled(constants, leaves)
            y, push = jax.linearize(fun, flat)
            pull = lambda u: jax.vjp(fun, flat)[1](u)[0]
            operator = JacobianOperator((y.size, flat.size), y.dtype, push, pull, lambda: None)
            k = min(rank, *operator.shape)
            options = {"oversample": oversample, "power": power}
            u, s, vt = randomized_svd(operator, k, jax.random.key(seed), **options)
            return list(problem.bind(constants)(*leaves)), Factored((DenseFactor(u * s[None, :]), DenseFactor(vt)))

        return evaluate

    return Method("randomized_svd", supports, lambda problem: None, build, exact=False, automatic=False)


register(low_rank())
