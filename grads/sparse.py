"""Sparse Jacobians: as many products as colours, instead of as many as columns or rows.

`sparse(pattern)` makes a method for `jacobian(..., method=...)`; the registered "sparse" finds the pattern
itself from the traced program. A given pattern that covers the structural one is right for sure; any other
(narrower, because the caller knows better) is tried on every evaluation with a random product, which costs
one more: where J v from the coloured entries differs from the true J v, the result is nan, never a wrong
number. `check_pattern` names the row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Int

from grads.basis import supports_forward, supports_reverse
from grads.flat import Problem
from grads.pattern import Pattern, colour_columns, colour_rows
from grads.registry import Method, register_method
from grads.sparsity import graph_sparsity

__all__ = ["WrongPatternError", "check_pattern", "coloured", "plan", "sparse"]


class WrongPatternError(ValueError):
    """A sparsity pattern leaves out a nonzero of the Jacobian; the message names where."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A pattern with a colour per column (forward products) or per row (reverse products)."""

    pattern: Pattern
    colours: Int[np.ndarray, " n"]
    reverse: bool

    @property
    def count(self) -> int:
        """Number of colours: of products with J."""
        return int(self.colours.max(initial=-1)) + 1


def plan(pattern: Pattern, mode: str = "auto") -> Plan:
    """Colour a pattern: mode "fwd" (columns), "rev" (rows) or "auto" (the fewer colours)."""
    if mode not in ("auto", "fwd", "rev"):
        raise ValueError(f"unknown mode {mode!r} for a coloured Jacobian; there are: auto, fwd, rev")
    forward = Plan(pattern, colour_columns(pattern), False) if mode != "rev" else None
    # no colouring has fewer colours than the fullest column has entries: rows cannot win below that
    fullest = np.bincount(pattern.columns, minlength=1).max() if len(pattern.columns) else 0
    if forward is not None and (mode == "fwd" or forward.count <= fullest):
        return forward
    reverse = Plan(pattern, colour_rows(pattern), True)
    return reverse if forward is None or reverse.count < forward.count else forward


def coloured(product: Callable[[Array], Array], plan: Plan, dtype: Any, chunk_size: int | None = None) -> Array:
    """Return the entries of J in the pattern's order, from `product`: v -> J v, or u -> u^T J if
    plan.reverse.
    """
    rows, columns = plan.pattern.rows, plan.pattern.columns
    # seeds kept in the program save building them at every call, up to a size that a program can well hold
    xp = np if plan.count * plan.colours.size <= 2**22 else jnp
    seeds = jnp.asarray(xp.asarray(plan.colours)[None, :] == xp.arange(plan.count)[:, None], dtype)
    if chunk_size:
        compressed = jax.lax.map(product, seeds, batch_size=chunk_size)
    else:
        compressed = jax.vmap(product)(seeds)
    group, place = (rows, columns) if plan.reverse else (columns, rows)
    colour = plan.colours[group].astype(np.int32)
    return compressed.at[colour, place].get(mode="promise_in_bounds", unique_indices=True)


def sparse(pattern: Any = None, *, mode: str = "auto", chunk_size: int | None = None) -> Method:
    """Return the method that evaluates a Jacobian of this pattern (dense array, BCOO, SciPy matrix or
    `Pattern`).

    The pattern is of the flat (m, n) matrix: outputs and inputs raveled and concatenated. With None it is
    found from the traced program. Raises ValueError where a given pattern has another shape than the
    Jacobian.
    """
    given = None if pattern is None else Pattern.of(pattern)
    made: dict[int, tuple[Problem, Plan, bool]] = {}

    def prepared(problem: Problem) -> tuple[Plan, bool]:
        if id(problem) not in made:
            every = graph_sparsity(problem.graph)  # its last rows are integer outputs, which have no derivative
            inside = every.rows < problem.m
            found = Pattern.at(every.rows[inside], every.columns[inside], (problem.m, problem.n))
            if given is not None and given.shape != (problem.m, problem.n):
                raise ValueError(f"the pattern has shape {given.shape}, the Jacobian ({problem.m}, {problem.n})")
            chosen = found if given is None else given
            made.clear()
            made[id(problem)] = (problem, plan(chosen, mode), chosen.covers(found))
        return made[id(problem)][1:]

    def supports(problem: Problem) -> str | None:
        if problem.is_complex:
            return "a coloured Jacobian needs real values: use 'fwd' or 'rev'"
        if not problem.n or not problem.m:
            return None
        chosen, _ = prepared(problem)
        if given is None and chosen.count >= min(problem.n, problem.m) > 1:
            return f"no sparsity was found ({chosen.count} colours): pass sparse(pattern), or use 'fwd' or 'rev'"
        return supports_reverse(problem) if chosen.reverse else supports_forward(problem)

    def build(problem: Problem) -> Callable:
        chosen, sure = prepared(problem)
        size = chunk_size or problem.options.chunk_size
        return lambda constants, leaves: _evaluate(problem, chosen, sure, size, constants, leaves)

    # no prediction: finding and colouring a pattern costs more than `auto` may spend on one analysis
    return Method("sparse", supports, lambda problem: None, build)


def _evaluate(problem: Problem, plan: Plan, sure: bool, chunk_size: int | None, constants: Any, leaves: Any) -> Any:
    from jax.experimental.sparse import BCOO  # here, because it loads SciPy

    flat, unravel = ravel_pytree(tuple(leaves))
    fun = lambda x: ravel_pytree(problem.bind(constants)(*unravel(x)))[0]
    push: Any
    if plan.reverse:
        y, pull = jax.vjp(fun, flat)
        product, dtype = (lambda u: pull(u)[0]), y.dtype
        push = (lambda v: jax.jvp(fun, (flat,), (v,))[1]) if not sure else None
    else:
        y, product = jax.linearize(fun, flat)
        push, dtype = product, flat.dtype
    data = coloured(product, plan, dtype, chunk_size).astype(y.dtype)
    if not sure:
        data = jnp.where(jnp.any(mismatch(push, data, plan.pattern, flat)), jnp.nan, data)
    index = jnp.asarray(np.stack([plan.pattern.rows, plan.pattern.columns], axis=1))
    shape = plan.pattern.shape
    matrix = BCOO((data, index), shape=shape, indices_sorted=True, unique_indices=True)
    return list(problem.bind(constants)(*leaves)), matrix


def mismatch(push: Callable, data: Array, pattern: Pattern, flat: Array) -> Array:
    """Return, per row, whether sum_j J_ij v_j over the pattern differs from (J v)_i beyond rounding."""
    v = 1 + jax.random.uniform(jax.random.key(0), flat.shape, flat.dtype)
    terms = data * v[pattern.columns]
    zero = jnp.zeros(pattern.shape[0], data.dtype)
    got, size = zero.at[pattern.rows].add(terms), zero.at[pattern.rows].add(jnp.abs(terms))
    want = push(v)
    scale = jnp.maximum(jnp.maximum(size, jnp.abs(want)), jnp.max(jnp.abs(data), initial=0))
    return jnp.abs(got - want) > 1e3 * jnp.finfo(data.dtype).eps * scale


def check_pattern(fun: Callable, x: Any, pattern: Any, *, mode: str = "auto") -> None:
    """Raise WrongPatternError, naming the output, when the pattern misses a nonzero of d fun / dx at this x.

    One random product tells: a missed nonzero goes unseen only where its column's probe cancels it, a set of
    measure zero. Raises ValueError when the pattern's shape is not that of the Jacobian.
    """
    flat, unravel = ravel_pytree(x)
    y, push = jax.linearize(lambda f: ravel_pytree(fun(unravel(f)))[0], flat)
    given = Pattern.of(pattern)
    if given.shape != (y.size, flat.size):
        raise ValueError(f"the pattern has shape {given.shape}, the Jacobian ({y.size}, {flat.size})")
    chosen = plan(given, mode)
    product = (lambda u: jax.linear_transpose(push, flat)(u)[0]) if chosen.reverse else push
    data = coloured(product, chosen, (y if chosen.reverse else flat).dtype)
    bad = np.flatnonzero(np.asarray(mismatch(push, data, given, flat)))
    if len(bad):
        row = np.asarray(jax.linear_transpose(push, flat)(jnp.zeros_like(y).at[bad[0]].set(1))[0])
        missed = np.setdiff1d(np.flatnonzero(row), given.columns[given.rows == bad[0]])
        where = f"it misses columns {missed[:5].tolist()} of row {bad[0]}"
        raise WrongPatternError(
            f"the sparsity pattern is wrong in {len(bad)} rows: {where}. Pass a larger pattern, or none: "
            "grads.jacobian_sparsity finds a safe one"
        )


_default = sparse()
register_method("sparse", supports=_default.supports, cost=_default.cost, build=_default.build)
