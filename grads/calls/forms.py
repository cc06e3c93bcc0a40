"""The forms in which a Jacobian is returned, and the pytrees of jacfwd around them.

A method returns a list of lists of blocks, a `Factored`, a flat `BCOO`, or `PerExample` blocks (see
`grads.methods.registry`); `Checked` around one of them where it rests on a claim of the user's.
"""

import itertools
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from grads.calls.problem import Call, FlatProblem
from grads.matrices.factored import DenseFactor, Factored

if TYPE_CHECKING:
    import jax.experimental.sparse

OUTPUTS = ("dense", "transposed", "factored", "bcoo", "operator")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PerExample:
    """Independent examples: `blocks[i][j]` has shape (batch, *output_i of one example, *input_j of one example)."""

    blocks: list
    in_axes: tuple[int, ...] = field(metadata={"static": True})
    out_axes: tuple[int, ...] = field(metadata={"static": True})

    def expand(self, problem: FlatProblem) -> list:
        """The full blocks, zero between different examples."""
        rows = []
        for i, out in enumerate(problem.outputs):
            row = []
            for j, inp in enumerate(problem.inputs):
                rank = len(out.shape) - 1
                block = jnp.expand_dims(self.blocks[i][j], 1 + rank)  # (B, out, 1, in)
                count = block.shape[0]
                eye = jnp.eye(count, dtype=bool)
                mask = eye.reshape((count,) + (1,) * rank + (count,) + (1,) * (len(inp.shape) - 1))
                full = jnp.where(mask, block, 0)
                full = jnp.moveaxis(full, len(out.shape), len(out.shape) + self.in_axes[j])
                row.append(jnp.moveaxis(full, 0, self.out_axes[i]))
            rows.append(row)
        return rows


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Checked:
    """A Jacobian that rests on a claim of the user's (a pattern, a batch axis), with a test of the claim.

    `wrong` is a real scalar, positive where the program finds the claim false: every entry then becomes nan, also under
    `jit`, `vmap` and `grad`, where no exception can be raised. Called outside of them, `jacobian` raises
    `error(constants, leaves, wrong)`.
    """

    jac: Any
    wrong: jax.Array
    error: Callable[..., Exception] = field(metadata={"static": True})


def poisoned(jac: Any, wrong: jax.Array) -> Any:
    """The arrays of `jac` as they are where `wrong` is zero, else nan, and so are their derivatives."""

    def one(a: Any) -> Any:
        real = jnp.finfo(a.dtype).dtype if jnp.issubdtype(a.dtype, jnp.inexact) else None
        return a if real is None else a * jnp.where(wrong > 0, jnp.nan, 1).astype(real)

    return jax.tree.map(one, jac)


def is_bcoo(x: Any) -> bool:
    """True for a BCOO; does not import its module, which loads SciPy: without the module there is none."""
    sparse = sys.modules.get("jax.experimental.sparse")
    return sparse is not None and isinstance(x, sparse.BCOO)


def cut(array: jax.Array, avals: Sequence[Any], axis: int) -> list[jax.Array]:
    """Split one axis, along which values like `avals` lie raveled and end to end, into those values' own axes."""
    at = axis % array.ndim
    ends = list(itertools.accumulate([a.size for a in avals]))[:-1]
    parts = jnp.split(array, ends, axis=at) if ends else [array]
    return [p.reshape(*p.shape[:at], *a.shape, *p.shape[at + 1 :]) for p, a in zip(parts, avals, strict=True)]


def blocks_of(matrix: jax.Array, problem: FlatProblem) -> list:
    """The flat (m, n) matrix as blocks `[i][j]` of shape outputs[i].shape + inputs[j].shape."""
    return [cut(rows, problem.inputs, -1) for rows in cut(matrix, problem.outputs, 0)]


def to_blocks(jac: Any, problem: FlatProblem) -> list:
    """Blocks `[i][j]` of shape outputs[i].shape + inputs[j].shape, in the dtype of the output."""
    if isinstance(jac, PerExample):
        jac = jac.blocks if problem.options.batch_axis is not None else jac.expand(problem)
    elif isinstance(jac, Factored) or is_bcoo(jac):
        jac = blocks_of(jac.materialize() if isinstance(jac, Factored) else jac.todense(), problem)
    return [[b.astype(a.dtype) for b in row] for row, a in zip(jac, problem.outputs, strict=True)]


def to_matrix(jac: Any, problem: FlatProblem) -> jax.Array:
    """The flat (m, n) matrix."""
    if isinstance(jac, Factored):
        return jac.materialize().astype(problem.dtype)
    if is_bcoo(jac):
        return jac.todense().astype(problem.dtype)
    flat = lambda b, out, inp: b.reshape(out.size, inp.size).astype(problem.dtype)
    rows = [
        jnp.concatenate([flat(b, out, inp) for b, inp in zip(row, problem.inputs, strict=True)], axis=1)
        for row, out in zip(to_blocks(jac, problem), problem.outputs, strict=True)
    ]
    return jnp.concatenate(rows, axis=0)


def to_factored(jac: Any, problem: FlatProblem) -> Factored:
    """The product form; a method that does not factor gives one dense factor."""
    return jac if isinstance(jac, Factored) else Factored((DenseFactor(to_matrix(jac, problem)),))


def to_bcoo(jac: Any, problem: FlatProblem) -> "jax.experimental.sparse.BCOO":
    """The flat (m, n) matrix in coordinate form; independent examples keep only their diagonal blocks."""
    from jax.experimental.sparse import BCOO

    if isinstance(jac, BCOO):
        return jac
    if isinstance(jac, PerExample) and len(problem.inputs) == len(problem.outputs) == 1:
        return _block_diagonal(jac, problem)
    return BCOO.fromdense(to_matrix(jac, problem), nse=problem.m * problem.n)


def _block_diagonal(jac: PerExample, problem: FlatProblem) -> "jax.experimental.sparse.BCOO":
    from jax.experimental.sparse import BCOO

    block = jac.blocks[0][0]
    place = lambda aval, axis: np.moveaxis(np.arange(aval.size).reshape(aval.shape), axis, 0)
    rows = place(problem.outputs[0], jac.out_axes[0]).reshape(block.shape[0], -1)
    cols = place(problem.inputs[0], jac.in_axes[0]).reshape(block.shape[0], -1)
    i, j = np.broadcast_arrays(rows[:, :, None], cols[:, None, :])
    indices = jnp.asarray(np.stack([i.ravel(), j.ravel()], axis=1))
    return BCOO((block.astype(problem.dtype).reshape(-1), indices), shape=(problem.m, problem.n))


def in_form(jac: Any, problem: FlatProblem, output: str) -> Any:
    """What a method returned, in the form that was asked for ("dense": blocks)."""
    if output in ("factored", "bcoo"):
        return (to_factored if output == "factored" else to_bcoo)(jac, problem)
    blocks = to_blocks(jac, problem)
    return transpose_blocks(blocks, problem) if output == "transposed" else blocks


def transpose_blocks(blocks: list, problem: FlatProblem) -> list:
    """Blocks `[j][i]` of shape inputs[j].shape + outputs[i].shape."""
    lead = int(problem.options.batch_axis is not None)

    def swap(b, j):
        rank = len(problem.inputs[j].shape) - lead
        return b if rank == 0 else jnp.moveaxis(b, range(-rank, 0), range(lead, lead + rank))

    return [[swap(row[j], j) for row in blocks] for j in range(len(problem.inputs))]


def assemble(blocks: list, call: Call, transposed: bool) -> Any:
    """Put blocks of the float leaves into jacfwd's pytree (outputs outside, inputs inside).

    Integer inputs get float0 as in jacrev, integer outputs integer zeros as in jacfwd.
    """
    out_tree, rows = call.store["out_tree"], call.store["out_where"]
    full = [[_zero(out, x, transposed) for x in call.all_leaves] for out in call.store["all_outputs"]]
    for i, j in itertools.product(range(len(rows)), range(len(call.where))):
        full[rows[i]][call.where[j]] = blocks[j][i] if transposed else blocks[i][j]
    if transposed:
        columns = [jax.tree.unflatten(out_tree, [row[k] for row in full]) for k in range(len(call.all_leaves))]
        return jax.tree.unflatten(call.in_tree, columns)
    return jax.tree.unflatten(out_tree, [jax.tree.unflatten(call.in_tree, row) for row in full])


def _zero(out: Any, x: Any, transposed: bool) -> Any:
    shape = (*x.shape, *out.shape) if transposed else (*out.shape, *x.shape)
    if jnp.issubdtype(x.dtype, jnp.inexact):
        return None if jnp.issubdtype(out.dtype, jnp.inexact) else jnp.zeros(shape, out.dtype)
    return np.zeros(shape, jax.dtypes.float0)
