"""Sparse Jacobians: as many products as colours, instead of as many as columns or rows.

`sparse(pattern)` makes a method for `jacobian(..., method=...)`; the registered "sparse" finds the pattern itself from
the traced program. A given pattern that covers the structural one is right for sure; any other (narrower, because the
caller knows better) is tried on every evaluation with a random product, which costs one more: where J v from the
coloured entries differs from the true J v, `jacobian` raises WrongPatternError naming the row; under `jit`, `vmap` or
`grad` the result is nan. Never a wrong number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from grads import arguments
from grads.calls.forms import Checked
from grads.calls.problem import FlatProblem, over, raveled
from grads.matrices.pattern import Pattern, colour_columns, colour_rows
from grads.methods.registry import Method, UnsupportedMethodError, register
from grads.programs.primitives import REVERSE_ONLY, names_inside
from grads.programs.sparsity import graph_sparsity, known_integers

__all__ = ["WrongPatternError", "check_pattern", "colour", "coloured", "sparse"]


MODES = ("auto", "fwd", "rev")
_WAY_OUT = "Pass a larger pattern, or none: grads.jacobian_sparsity finds a safe one"


class WrongPatternError(ValueError):
    """A sparsity pattern leaves out a nonzero of the Jacobian; the message names where."""


@dataclass(frozen=True, eq=False)
class Colouring:
    """A pattern with a colour per column (forward products) or per row (reverse products)."""

    pattern: Pattern
    colours: Int[np.ndarray, " n"]
    reverse: bool

    @property
    def count(self) -> int:
        """Number of colours: of products with J."""
        return int(self.colours.max(initial=-1)) + 1


def colour(pattern: Pattern, mode: str = "auto") -> Colouring:
    """Colour a pattern: mode "fwd" (columns), "rev" (rows) or "auto" (the fewer colours)."""
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r} for a coloured Jacobian; there are: {', '.join(MODES)}")
    forward = Colouring(pattern, colour_columns(pattern), False) if mode != "rev" else None
    # no colouring has fewer colours than the fullest column has entries: rows cannot win below that
    if forward is not None and (mode == "fwd" or forward.count <= pattern.fullest[1]):
        return forward
    reverse = Colouring(pattern, colour_rows(pattern), True)
    return reverse if forward is None or reverse.count < forward.count else forward


def coloured(
    product: Callable[[Array], Array], colouring: Colouring, dtype: Any, chunk_size: int | None = None
) -> Array:
    """Return the entries of J in the pattern's order, from `product`: v -> J v, or u -> u^T J if colouring.reverse."""
    rows, columns = colouring.pattern.rows, colouring.pattern.columns
    # seeds kept in the program save building them at every call, up to a size that a program can well hold
    xp = np if colouring.count * colouring.colours.size <= 2**22 else jnp
    seeds = jnp.asarray(xp.asarray(colouring.colours)[None, :] == xp.arange(colouring.count)[:, None], dtype)
    compressed = over(product, seeds, chunk_size)
    group, place = (rows, columns) if colouring.reverse else (columns, rows)
    colour = colouring.colours[group].astype(np.int32)
    return compressed.at[colour, place].get(mode="promise_in_bounds", unique_indices=True)


def sparse(pattern: Any = None, *, mode: str = "auto", chunk_size: int | None = None) -> Method:
    """Return the method that evaluates a Jacobian of this pattern (dense array, BCOO, SciPy matrix or `Pattern`).

    The pattern is of the flat (m, n) matrix: outputs and inputs raveled and concatenated. With None it is found from
    the traced program. Raises ValueError where a given pattern has another shape than the Jacobian; where it misses a
    nonzero, `jacobian` raises WrongPatternError, or under `jit` gives nan.
    """
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r} for a coloured Jacobian; there are: {', '.join(MODES)}")
    arguments.count("chunk_size", chunk_size)
    given = None if pattern is None else Pattern.of(pattern)

    def supports(problem: FlatProblem) -> str | None:
        if problem.is_complex:
            return "a coloured Jacobian needs real values: use 'fwd' or 'rev'"
        forward, reverse = problem.no_forward, problem.no_reverse
        if mode == "auto":
            return forward and reverse
        return forward if mode == "fwd" else reverse

    def build(problem: FlatProblem) -> Callable:
        every = graph_sparsity(problem.graph, known_integers(problem.session.get("constants", ())))
        inside = every.rows < problem.m  # the last rows are integer outputs, which have no derivative
        found = Pattern.at(every.rows[inside], every.columns[inside], (problem.m, problem.n))
        if given is not None and given.shape != found.shape:
            raise ValueError(f"the pattern has shape {given.shape}, the Jacobian {found.shape}")
        # a line's entries all need colours of their own, so a full row and a full column say enough
        full = given is None and min(found.fullest) >= min(found.shape) > 1
        chosen = None if full else _colouring_of(problem, found if given is None else given, mode)
        if chosen is None or (given is None and chosen.count >= min(found.shape) > 1):
            raise UnsupportedMethodError(
                "method 'sparse' cannot differentiate this function: no sparsity was found (it needs as many "
                "colours as rows or columns): pass sparse(pattern), or use 'fwd' or 'rev'"
            )
        size = chunk_size or problem.options.chunk_size
        sure = chosen.pattern.covers(found)
        return lambda constants, leaves: _evaluate(problem, chosen, sure, size, constants, leaves)

    # no prediction: finding and colouring a pattern costs more than `auto` may spend on one analysis
    return Method("sparse", supports, lambda problem: None, build, reads_integers=True, automatic=False)


def _colouring_of(problem: FlatProblem, pattern: Pattern, mode: str) -> Colouring:
    """Colour for a function that may lack one of the two directions."""
    if mode == "auto" and problem.no_forward:
        mode = "rev"
    if mode == "auto" and problem.no_reverse:
        mode = "fwd"
    return colour(pattern, mode)


def _evaluate(
    problem: FlatProblem, colouring: Colouring, sure: bool, chunk_size: int | None, constants: Any, leaves: Any
) -> Any:
    from jax.experimental.sparse import BCOO  # here, because it loads SciPy

    fun, flat, _ = problem.raveled(constants, leaves)
    if colouring.reverse:
        y, pull = jax.vjp(fun, flat)
        product, dtype = (lambda u: pull(u)[0]), y.dtype
    else:
        y, product = jax.linearize(fun, flat)
        dtype = flat.dtype
    data = coloured(product, colouring, dtype, chunk_size).astype(y.dtype)
    index = jnp.asarray(np.stack([colouring.pattern.rows, colouring.pattern.columns], axis=1))
    matrix: Any = BCOO((data, index), shape=colouring.pattern.shape, indices_sorted=True, unique_indices=True)
    if not sure:
        wrong = jnp.sum(mismatch(product, data, colouring.pattern, colouring.reverse)).astype(data.dtype)
        matrix = Checked(matrix, wrong, partial(_wrong, problem, colouring))
    return list(problem.bind(constants)(*leaves)), matrix


def _wrong(problem: FlatProblem, colouring: Colouring, constants: Any, leaves: Any, wrong: Any) -> WrongPatternError:
    """The error of a pattern that was found wrong at this point."""
    mode = "rev" if colouring.reverse else "fwd"
    try:
        check_pattern(lambda xs: problem.bind(constants)(*xs), tuple(leaves), colouring.pattern, mode=mode)
    except WrongPatternError as error:
        return error
    side = "columns" if colouring.reverse else "rows"
    return WrongPatternError(f"the sparsity pattern is wrong in {int(wrong)} {side}. {_WAY_OUT}")


def mismatch(product: Callable, data: Array, pattern: Pattern, reverse: bool = False) -> Array:
    """Return, per row, whether sum_j J_ij v_j over the pattern differs from (J v)_i beyond rounding, for random v; with
    `reverse` per column, `product` being u -> u^T J.
    """
    groups, places = (pattern.columns, pattern.rows) if reverse else (pattern.rows, pattern.columns)
    count, length = pattern.shape[::-1] if reverse else pattern.shape
    wide = jnp.promote_types(data.dtype, jnp.float32)
    v = 1 + jax.random.uniform(jax.random.key(0), (length,), data.dtype)
    terms = data.astype(wide) * v[places]
    zero = jnp.zeros(count, wide)
    got, size = zero.at[groups].add(terms), zero.at[groups].add(jnp.abs(terms))
    want = product(v).astype(wide)
    scale = jnp.maximum(jnp.maximum(size, jnp.abs(want)), jnp.max(jnp.abs(data), initial=0).astype(wide))
    tolerance = min(1e3 * float(jnp.finfo(data.dtype).eps), 0.1)
    return jnp.abs(got - want) > tolerance * scale


def check_pattern(fun: Callable, x: Any, pattern: Any, *, mode: str = "auto") -> None:
    """Raise WrongPatternError, naming the output, when the pattern misses a nonzero of d fun / dx at this x.

    One random product tells: a missed nonzero goes unseen only where its row's probe cancels it, a set of measure zero.
    The error names the input instead where `fun` has no forward derivative. Raises ValueError when the pattern's shape
    is not that of the Jacobian.
    """
    flat_fun, flat, _ = raveled(fun, x)
    program, y = jax.make_jaxpr(flat_fun, return_shape=True)(flat)
    given = Pattern.of(pattern)
    if given.shape != (y.size, flat.size):
        raise ValueError(f"the pattern has shape {given.shape}, the Jacobian ({y.size}, {flat.size})")
    reverse = any(names_inside(e) & REVERSE_ONLY for e in program.eqns)
    chosen = colour(given, "rev" if reverse else mode)
    pull = lambda u: jax.vjp(flat_fun, flat)[1](u)[0]
    push = jax.linearize(flat_fun, flat)[1]
    data = coloured(pull if chosen.reverse else push, chosen, (y if chosen.reverse else flat).dtype)
    bad = np.flatnonzero(np.asarray(mismatch(pull if reverse else push, data, given, reverse)))
    if len(bad):
        missed = _missed(pull if reverse else push, given, int(bad[0]), reverse, y if reverse else flat)
        own, others = ("columns", "rows") if reverse else ("rows", "columns")
        where = f"it misses {others} {missed} of {own[:-1]} {bad[0]}"
        raise WrongPatternError(f"the sparsity pattern is wrong in {len(bad)} {own}: {where}. {_WAY_OUT}")


def _missed(product: Callable, given: Pattern, line: int, reverse: bool, like: Any) -> list[int]:
    """Return the first places in a row (in a column, with `reverse`) that are not zero and not in the pattern, by
    products with unit vectors.
    """
    groups, places = (given.columns, given.rows) if reverse else (given.rows, given.columns)
    found: list[int] = []
    for start in range(0, like.size, 1024):
        numbers = jnp.arange(start, min(start + 1024, like.size))
        units = (numbers[:, None] == jnp.arange(like.size)[None]).astype(like.dtype)
        values = np.asarray(jax.lax.stop_gradient(jax.vmap(lambda v: product(v)[line])(units)))
        found += np.setdiff1d(start + np.flatnonzero(values), places[groups == line]).tolist()
        if len(found) >= 5:
            break
    return found[:5]


register(sparse())
