"""The axis of the examples through primitives that read or write at places, in windows, or one matrix at a time.

Each function takes an equation and the axis in each operand (None: no examples) and returns the axis in the results, or
None where the examples are mixed. `grads.programs.independence` follows programs with them.
"""

from collections.abc import Sequence
from typing import Any

Axes = Sequence[int | None]


def _common(axes: Axes) -> int | None:
    found = {a for a in axes if a is not None}
    return found.pop() if len(found) == 1 else None


def matrices(eqn: Any, axes: Axes, last: int = 2) -> int | None:
    """The primitive works along the last axes of every operand, one matrix (vector, block) at a time."""
    axis, rank = _common(axes), min(v.aval.ndim for v in eqn.invars)
    return axis if axis is not None and axis < rank - last else None


def fourier(eqn: Any, axes: Axes) -> int | None:
    """A Fourier transform along the last axes."""
    return matrices(eqn, axes, len(eqn.params["fft_lengths"]))


def window(eqn: Any, axes: Axes) -> int | None:
    """Windows of one element along the axis."""
    axis, p = _common(axes), eqn.params
    if axis is None:
        return None
    plain = p["window_dimensions"][axis] == 1 and p["window_strides"][axis] == 1 and tuple(p["padding"][axis]) == (0, 0)
    dilated = any(p.get(k) and p[k][axis] != 1 for k in ("base_dilation", "window_dilation"))
    return axis if plain and not dilated else None


def _pairs(numbers: Any, indices: str) -> dict[int, int]:
    """The batching axes of the operand of a gather or scatter, each with that of its indices."""
    return dict(zip(numbers.operand_batching_dims, getattr(numbers, indices), strict=True))


def gather(eqn: Any, axes: Axes) -> int | None:
    """Whole along the axis at the same places for all examples, or each example at places of its own."""
    numbers, (axis, row) = eqn.params["dimension_numbers"], axes
    pairs, (operand, out) = _pairs(numbers, "start_indices_batching_dims"), (eqn.invars[0].aval, eqn.outvars[0].aval)
    if row is not None or axis in pairs:  # each example has its own indices
        rows = [d for d in range(out.ndim) if d not in numbers.offset_dims]
        at = row if axis is None else pairs.get(axis, row)
        paired = axis is None or (axis in pairs and row in (None, at))
        return rows[at] if paired and at is not None and at < len(rows) else None
    gone = (*numbers.collapsed_slice_dims, *pairs)
    if (
        axis is None
        or axis in (*gone, *numbers.start_index_map)
        or eqn.params["slice_sizes"][axis] != operand.shape[axis]
    ):
        return None
    kept = [d for d in range(operand.ndim) if d not in gone]
    return int(numbers.offset_dims[kept.index(axis)])


def scatter(eqn: Any, axes: Axes) -> int | None:
    """Whole along the axis with the same indices for all examples, or each example with indices of its own."""
    numbers, (operand, _, updates) = eqn.params["dimension_numbers"], (v.aval for v in eqn.invars)
    pairs = _pairs(numbers, "scatter_indices_batching_dims")
    rows = [d for d in range(updates.ndim) if d not in numbers.update_window_dims]
    gone = (*numbers.inserted_window_dims, *pairs)
    kept = [d for d in range(operand.ndim) if d not in gone]
    for axis in range(operand.ndim):
        if axis in pairs:
            where: tuple[int, int | None, int] = axis, pairs[axis], rows[pairs[axis]]
        elif axis in kept and axis not in numbers.scatter_dims_to_operand_dims:
            where = axis, None, numbers.update_window_dims[kept.index(axis)]
            if updates.shape[where[2]] != operand.shape[axis]:
                continue
        else:
            continue
        if all(a is None or a == w for a, w in zip(axes, where, strict=True)):
            return axis
    return None
