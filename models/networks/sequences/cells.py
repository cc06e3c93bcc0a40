"""Gated cells, alone and over all steps of an example, with the derivative of a run written out."""

import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from models.networks.layers import Linear
from models.networks.sequences.steps import affine

State = tuple[Array, ...]  # (h,) of a GRU, (h, c) of an LSTM; each (batch, width)
States = tuple[State, ...]  # of each layer
Kept = tuple[Array, ...]  # what the derivative of a step needs; each (batch, width)
Steps = Float[Array, "steps batch numbers"]
Inside = Bool[Array, "steps batch one"] | None


def gru(old: State, entered: Array, recurred: Array) -> tuple[State, Kept]:
    """Return n + u (h - n), n = tanh(e + r a), r and u sigmoids of e + a (Cho et al. 2014, in the form of cuDNN)."""
    e, a = jnp.split(entered, 3, axis=-1), jnp.split(recurred, 3, axis=-1)
    reset, update = jax.nn.sigmoid(e[0] + a[0]), jax.nn.sigmoid(e[1] + a[1])
    new = jnp.tanh(e[2] + reset * a[2])
    gap, by_new = old[0] - new, (1 - update) * (1 - new * new)
    kept = (update, by_new * a[2] * reset * (1 - reset), gap * update * (1 - update), by_new, reset)
    return (new + update * gap,), kept


def gru_tangent(kept: Kept, old: State, entered: Array, recurred: Array) -> State:
    """Return the derivative of `gru` along tangents."""
    by_old, by_reset, by_update, by_new, reset = kept
    e, a = jnp.split(entered, 3, axis=-1), jnp.split(recurred, 3, axis=-1)
    gates = by_reset * (e[0] + a[0]) + by_update * (e[1] + a[1])
    return (by_old * old[0] + gates + by_new * (e[2] + reset * a[2]),)


def lstm(old: State, entered: Array, recurred: Array) -> tuple[State, Kept]:
    """Return o tanh(c) and c = f c + i tanh(g) (Hochreiter & Schmidhuber 1997), the forget gate biased by 1."""
    i, f, g, o = jnp.split(entered + recurred, 4, axis=-1)
    i, f, g, o = jax.nn.sigmoid(i), jax.nn.sigmoid(f + 1), jnp.tanh(g), jax.nn.sigmoid(o)
    c = f * old[1] + i * g
    bent = jnp.tanh(c)
    kept = (f, g * i * (1 - i), old[1] * f * (1 - f), i * (1 - g * g), bent * o * (1 - o), o * (1 - bent * bent))
    return (o * bent, c), kept


def lstm_tangent(kept: Kept, old: State, entered: Array, recurred: Array) -> State:
    """Return the derivative of `lstm` along tangents."""
    i, f, g, o = jnp.split(entered + recurred, 4, axis=-1)
    by_old, by_i, by_f, by_g, by_o, by_c = kept
    c = by_old * old[1] + by_i * i + by_f * f + by_g * g
    return by_o * o + by_c * c, c


class Cell(NamedTuple):
    """A kind of cell: gates, arrays of its state, whether it sees only the sum of input and state, step, derivative."""

    gates: int
    states: int
    sums: bool
    step: Callable[[State, Array, Array], tuple[State, Kept]]
    tangent: Callable[[Kept, State, Array, Array], State]


CELLS = {"gru": Cell(3, 1, False, gru, gru_tangent), "lstm": Cell(4, 2, True, lstm, lstm_tangent)}


def where_inside(inside: Array | None, new: State, old: State) -> State:
    """Return `new` where a step is inside the example, else `old`."""
    return new if inside is None else jax.tree.map(functools.partial(jnp.where, inside), new, old)


def scanned(kind: str, start: State, entered: Steps, recur: Array, inside: Inside, keep: bool) -> tuple[State, Any]:
    """Return the last state and, of every step, (state, h before it, what its derivative needs)."""
    # values pass a barrier: XLA's CPU backend else works number by number on a slice of a stack that it has fused with
    # what is made of it
    solid = jax.lax.optimization_barrier

    def step(old: State, at: tuple[Array, Any]) -> tuple[State, Any]:
        new, kept = CELLS[kind].step(old, *solid((at[0], old[0] @ recur)))
        new = where_inside(at[1], new, old)
        return new, (new, old[0], solid(kept)) if keep else (new,)

    return jax.lax.scan(step, start, (entered, inside))


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def over_steps(kind: str, start: State, entered: Steps, recur: Array, inside: Inside) -> tuple[State, State]:
    """Return the last state and those of all steps, (steps, batch, width); outside an example a state is kept.

    entered: what the input of each step adds to the gates, of all steps at once; recur: (width, gates * width). The
    derivative is written out so that the gradient in `recur` is one product over all steps, in place of one a step that
    is added up.
    """
    last, (states,) = scanned(kind, start, entered, recur, inside, False)
    return last, states


@over_steps.defjvp
def _over_steps_jvp(kind: str, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    start, entered, recur, inside = primals
    d_start, d_entered, d_recur, _ = tangents
    last, (states, before, kept) = scanned(kind, start, entered, recur, inside, True)
    cell = CELLS[kind]
    by_recur = (before.reshape(-1, before.shape[-1]) @ d_recur).reshape(*before.shape[:-1], -1)
    if cell.sums:  # one stack of gradients in place of two
        d_entered, by_recur = d_entered + by_recur, None

    def step(d_old: State, at: tuple[Any, ...]) -> tuple[State, State]:
        kept, d_entered, by_recur, inside = at
        recurred = jax.lax.optimization_barrier(d_old[0] @ recur)
        recurred = recurred if by_recur is None else recurred + by_recur
        d_new = where_inside(inside, cell.tangent(kept, d_old, d_entered, recurred), d_old)
        return d_new, d_new

    return (last, states), jax.lax.scan(step, d_start, (kept, d_entered, by_recur, inside))


class Cells(nnx.Module):
    """The layers' cells: `enter` maps a layer's input to its gates, `recur` (width, gates * width) its state."""

    def __init__(self, kind: Literal["gru", "lstm"], inputs: int, width: int, layers: int, *, rngs: nnx.Rngs):
        self.gates, self.states = CELLS[kind].gates * width, CELLS[kind].states
        widths = [inputs] + [width] * (layers - 1)
        self.enter = nnx.List([Linear(i, self.gates, rngs=rngs) for i in widths])
        glorot = nnx.initializers.glorot_uniform()
        self.recur = nnx.List([nnx.Param(glorot(rngs.params(), (width, self.gates))) for _ in widths])
        self.kind, self.width = kind, width

    def zeros(self, batch: int, dtype: Any) -> States:
        """Return the first state of every layer of an encoder."""
        return tuple((jnp.zeros((batch, self.width), dtype),) * self.states for _ in self.recur)

    def started(self, numbers: Float[Array, "batch states"]) -> States:
        """Return the first state of every layer from the numbers that a code became."""
        each = self.states
        parts = jnp.split(jnp.tanh(numbers), len(self.recur) * each, axis=1)
        return tuple(tuple(parts[i : i + each]) for i in range(0, len(parts), each))

    def step(self, state: States, entered: Float[Array, "batch gates"], more: Any = None) -> tuple[States, Array]:
        """Return the next states and the last layer's h; `entered`: the first layer's gates from its input and all.

        more: what is added to the gates of the other layers, (batch, gates).
        """
        out: list[State] = []
        for i, (old, recur) in enumerate(zip(state, self.recur, strict=True)):
            if i:
                entered = self.enter[i](out[-1][0]) + (0 if more is None else more)
            out.append(CELLS[self.kind].step(old, entered, old[0] @ recur[...])[0])
        return tuple(out), out[-1][0]

    def run(
        self, state: States, entered: Steps, more: Any = None, inside: Inside = None
    ) -> tuple[States, Float[Array, "steps batch width"]]:
        """Return the last states and the last layer's h after every step; see `step` and `over_steps`."""
        lasts: list[State] = []
        states: State = ()
        for i, (old, recur) in enumerate(zip(state, self.recur, strict=True)):
            if i:
                entered = affine(self.enter[i], states[0]) + (0 if more is None else more[None])
            last, states = over_steps(self.kind, old, entered, recur[...], inside)
            lasts.append(last)
        return tuple(lasts), states[0]
