"""Gradients of a per-example loss with respect to parameters, and their norms without forming them.

A weight W that only enters products y = a W has the gradient a^T delta, delta = d loss / d y, so its squared
norm is
    sum_(t, s) (a_t . a_s) (delta_t . delta_s)         over the positions t, s at which the example uses W,
and |a|^2 |delta|^2 for one position (Goodfellow 2015, arXiv 1510.01799; Gram form: Rochette et al. 2019,
arXiv
1912.06015, and Li et al. 2022, arXiv 2110.05679). The loss is traced, every weight used only in that way
(dense products,
convolutions, a transpose before them, several uses: tied weights) is treated so, and every other parameter
(biases,
norms' scales, weights inside loops) has its own gradient formed by `jax.grad`, so the value never rests on
the analysis.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Var
from jaxtyping import Array, Float, PyTree

from grads import arguments
from grads.calls.problem import over
from grads.programs.graph import Graph, trace

__all__ = ["per_example_gradient_norms", "per_example_gradients"]

Loss = Callable[[PyTree, PyTree], Array]


def per_example_gradients(loss: Loss, *, chunk_size: int | None = None) -> Callable[[PyTree, PyTree], PyTree]:
    """Return (params, examples) -> d loss(params, example_b) / d params, with a leading axis b on every leaf.

    Every leaf of `examples` has the batch as first axis. `chunk_size` examples are in flight at once (default: all).
    """
    arguments.callable_(loss, "per_example_gradients")
    arguments.count("chunk_size", chunk_size)
    return lambda params, examples: _over(lambda e: jax.grad(loss)(params, e), examples, chunk_size)


def per_example_gradient_norms(
    loss: Loss, *, method: str = "auto", chunk_size: int | None = None, per_leaf: bool = False
) -> Callable[[PyTree, PyTree], Any]:
    """Return the function (params, examples) -> |d loss(params, example_b) / d params| of shape (batch,).

    `per_leaf` gives the tree of `params` with every leaf's norms instead. method: "auto" as in the module's text,
    "explicit" forms all gradients (the check). Works under jit and vmap; called eagerly it compiles itself. Raises
    ValueError for another method, TypeError when `loss` of one example is not a real scalar.
    """
    arguments.callable_(loss, "per_example_gradient_norms")
    arguments.count("chunk_size", chunk_size)
    arguments.one_of("method for gradient norms", method, ["auto", "explicit"])

    @jax.jit
    def norms(params: PyTree, examples: PyTree) -> Any:
        squares = _ghost(loss, params, examples) if method == "auto" else _explicit(loss, params)
        tree = _over(squares, examples, chunk_size)
        if per_leaf:
            return jax.tree.map(jnp.sqrt, tree)
        return jnp.sqrt(sum(jax.tree.leaves(tree)))

    return norms


def _over(fun: Callable, examples: PyTree, chunk_size: int | None) -> Any:
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(examples)}
    if len(sizes) != 1 or () in sizes:
        raise ValueError(f"examples need one common first axis, got first axes {sorted(sizes)}")
    return over(fun, examples, chunk_size)


def _square(g: Array) -> Float[Array, ""]:
    return jnp.sum(jnp.real(g) ** 2) + (jnp.sum(jnp.imag(g) ** 2) if jnp.iscomplexobj(g) else 0)


def _explicit(loss: Loss, params: PyTree) -> Callable[[PyTree], PyTree]:
    return lambda example: jax.tree.map(_square, jax.grad(loss)(params, example))


def _ghost(loss: Loss, params: PyTree, examples: PyTree) -> Callable[[PyTree], PyTree]:
    """Return example -> squared norms, a tree like params."""
    leaves, tree = jax.tree.flatten(params)
    one = jax.tree.map(lambda e: jax.ShapeDtypeStruct(e.shape[1:], e.dtype), jax.tree.map(jnp.asarray, examples))
    data, data_tree = jax.tree.flatten(one)
    count = len(leaves)

    def flat(*values: Array) -> tuple[Array]:
        example = jax.tree.unflatten(data_tree, values[count:])
        return (loss(jax.tree.unflatten(tree, values[:count]), example),)

    graph, constants = trace(flat, (*leaves, *data))
    taps = _taps(graph, graph.invars[:count])
    tapped = [eqn for uses in taps.values() for eqn, *_ in uses]
    tapped = [eqn for eqn in graph.eqns if any(eqn is t for t in tapped)]
    formed = [i for i in range(count) if i not in taps]

    def perturbed(explicit: list, nudges: list, example: PyTree) -> tuple[Array, list]:
        values = list(leaves)
        for i, leaf in zip(formed, explicit, strict=True):
            values[i] = leaf
        return _run(graph, constants, (*values, *jax.tree.leaves(example)), tapped, nudges)

    def squares(example: PyTree) -> PyTree:
        nudges = [jnp.zeros(eqn.outvars[0].aval.shape, eqn.outvars[0].aval.dtype) for eqn in tapped]
        gradient = jax.grad(perturbed, (0, 1), has_aux=True)
        (own, deltas), read = gradient([leaves[i] for i in formed], nudges, example)
        out: list[Any] = [None] * count
        for i, g in zip(formed, own, strict=True):
            out[i] = _square(g)
        for i, uses in taps.items():
            at = [_index(tapped, eqn) for eqn, *_ in uses]
            pairs = [pair(read[j], deltas[j]) for j, (*_, pair) in zip(at, uses, strict=True)]
            out[i] = _product_norm(*(jnp.concatenate(side) for side in zip(*pairs, strict=True)))
        return jax.tree.unflatten(tree, out)

    return squares


def _index(items: list, item: Any) -> int:
    return next(i for i, other in enumerate(items) if other is item)


def _product_norm(left: Float[Array, "t k"], right: Float[Array, "t o"]) -> Float[Array, ""]:
    """Return ||left^T right||_F^2 by the cheaper of its two forms."""
    (t, k), o = left.shape, right.shape[1]
    if t * (k + o) <= k * o:
        return jnp.sum((left @ left.T) * (right @ right.T))
    return jnp.sum((left.T @ right) ** 2)


def _run(graph: Graph, constants: Any, inputs: Any, tapped: list, nudges: list) -> tuple[Array, list]:
    """Evaluate the program with `nudges` added to the tapped outputs; keep what they read."""
    env = dict(zip((*graph.constvars, *graph.invars), (*constants, *inputs), strict=True))
    read: list = []

    def advance(eqns: list) -> None:
        needed = dict.fromkeys(v for e in eqns for v in e.invars if isinstance(v, Var) and v in env)
        made = [v for e in eqns for v in e.outvars]
        env.update(zip(made, graph.function(eqns, list(needed), made)(*(env[v] for v in needed)), strict=True))

    waiting: list = []
    for eqn in graph.eqns:
        waiting.append(eqn)
        if any(eqn is t for t in tapped):
            advance(waiting)
            waiting = []
            read.append([env[v] if isinstance(v, Var) else None for v in eqn.invars])
            env[eqn.outvars[0]] = env[eqn.outvars[0]] + nudges[_index(tapped, eqn)]
    advance(waiting)
    (out,) = graph.outvars
    return (env[out] if isinstance(out, Var) else jnp.asarray(out.val, out.aval.dtype)), read


def _taps(graph: Graph, weights: Any) -> dict[int, list[tuple[Any, Any, Callable]]]:
    """Return {weight: uses (equation, kind, pair)} for the real weights all of whose uses are products."""
    views = {v: (i, tuple(range(len(v.aval.shape)))) for i, v in enumerate(weights)}
    uses: dict[int, list] = {i: [] for i in range(len(weights))}
    for eqn in graph.eqns:
        seen = [(slot, *views[v]) for slot, v in enumerate(eqn.invars) if isinstance(v, Var) and v in views]
        if eqn.primitive.name == "transpose" and seen:
            _, i, order = seen[0]
            views[eqn.outvars[0]] = (i, tuple(order[p] for p in eqn.params["permutation"]))
            continue
        for slot, i, order in seen:
            uses[i].append((eqn, *(_use(eqn, slot, order) if len(seen) == 1 else (None, None))))
    for out in graph.outvars:
        if isinstance(out, Var) and out in views:
            uses[views[out][0]].append((None, None, None))
    plain = lambda kinds: len(kinds) == 1 and None not in kinds
    real = [jnp.issubdtype(v.aval.dtype, jnp.floating) for v in weights]
    return {i: found for i, found in uses.items() if real[i] and plain({kind for _, kind, _ in found})}


def _use(eqn: Any, slot: int, order: tuple[int, ...]) -> tuple[Any, Callable | None]:
    """Return (kind, pair) of one use; pair(read, delta) -> (left (t, k), right (t, o)) with gradient left^T right.

    Uses of one kind index the gradient alike, so that they can be joined along t. (None, None): not a product.
    """
    name, other = eqn.primitive.name, eqn.invars[1 - slot] if len(eqn.invars) == 2 else None
    if other is None or not isinstance(other, Var) or (not eqn.outvars[0].aval.shape and name != "dot_general"):
        return None, None
    if name == "dot_general":
        return _dense_use(eqn, slot, order, other)
    if name == "conv_general_dilated" and slot == 1 and order == tuple(range(len(order))):
        return _convolution_use(eqn, other)
    return None, None


def _dense_use(eqn: Any, slot: int, order: tuple[int, ...], other: Any) -> tuple[Any, Callable | None]:
    contract, batch = eqn.params["dimension_numbers"]
    weight_axes, other_axes = contract[slot], contract[1 - slot]
    if any(batch):
        return None, None
    rank = len(other.aval.shape)
    free = [a for a in range(rank) if a not in other_axes]
    outside = [a for a in range(len(order)) if a not in weight_axes]
    # the weight's axes that are summed over, and the rest, in the order they have in the parameter itself
    summed = sorted(range(len(weight_axes)), key=lambda j: order[weight_axes[j]])
    kept = sorted(range(len(outside)), key=lambda j: order[outside[j]])
    groups = (tuple(sorted(order[a] for a in weight_axes)), tuple(sorted(order[a] for a in outside)))
    rows = math.prod(other.aval.shape[a] for a in free)
    first = 0 if slot == 1 else len(outside)  # where the other operand's free axes stand in the output

    def pair(read: list, delta: Array) -> tuple[Array, Array]:
        a = read[1 - slot].transpose(*free, *(other_axes[j] for j in summed)).reshape(rows, -1)
        d_free = range(first, first + len(free))
        d_kept = [(len(free) if slot == 1 else 0) + j for j in kept]
        d = delta.transpose(*d_free, *d_kept).reshape(rows, -1)
        return (a, d) if groups <= groups[::-1] else (d, a)  # the same side first, whichever way W is read

    return ("dense", *sorted(groups)), pair


def _convolution_use(eqn: Any, other: Any) -> tuple[Any, Callable | None]:
    p = eqn.params
    if p["feature_group_count"] != 1 or p["batch_group_count"] != 1:
        return None, None
    numbers, shape = p["dimension_numbers"], eqn.invars[1].aval.shape
    window = tuple(shape[a] for a in numbers.rhs_spec[2:])
    at = numbers.out_spec[1]

    def pair(read: list, delta: Array) -> tuple[Array, Array]:
        patches = lax.conv_general_dilated_patches(
            read[0],
            window,
            p["window_strides"],
            p["padding"],
            p["lhs_dilation"],
            p["rhs_dilation"],
            dimension_numbers=numbers,
            precision=lax.Precision.HIGHEST,
        )
        rows = lambda y: jnp.moveaxis(y, at, -1).reshape(-1, y.shape[at])
        return rows(patches), rows(delta)

    return ("convolution", numbers.rhs_spec), pair
