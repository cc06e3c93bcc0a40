"""One catalogue of functions with analytic Jacobians, for the tests, `compare` and the benchmark.

`catalogue()` returns every `KnownProblem`. An analytic Jacobian is written by hand in NumPy and float64, from the
formula, so that it shares no code with what it judges. Shapes follow `jax.jacfwd`: output shape + input shape, output
tree outside.
"""

from typing import Any

import jax.numpy as jnp
import numpy as np

from grads.testing import formulas, networks, sparse  # noqa: F401  (they register their problems)
from grads.testing.register import BUILDERS, KnownProblem

__all__ = ["catalogue", "problem"]


def problem(name: str, dtype: Any = None) -> KnownProblem:
    """Return the problem of that name with arguments in `dtype` (default: JAX's default float).

    Raises KeyError, naming all problems, when there is none of that name.
    """
    if name not in BUILDERS:
        raise KeyError(f"no problem named {name!r}; there are: {', '.join(sorted(BUILDERS))}")
    build, tags = BUILDERS[name]
    dtype = jnp.zeros(()).dtype if dtype is None else jnp.dtype(dtype)
    rng = np.random.default_rng(sum(map(ord, name)))
    fun, args, *derivatives = build(rng, dtype)
    first, second = (*derivatives, None)[:2]
    return KnownProblem(name, fun, args, first, tags, second)


def catalogue(*tags: str, without: tuple[str, ...] = (), dtype: Any = None) -> tuple[KnownProblem, ...]:
    """Return all problems that carry every one of `tags` and none of `without`."""
    names = [n for n, (_, has) in BUILDERS.items() if has.issuperset(tags) and has.isdisjoint(without)]
    return tuple(problem(name, dtype) for name in names)
