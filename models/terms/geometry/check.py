"""`check_penalty`: does this contractive penalty compute ||J||²_F and its gradient, and if not, what else?

Most public ones do not: their formulas are among `suspects` here, and the message names the one that fits.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.batch import Pass, as_batch
from models.networks.encoder import Encoder
from models.terms.geometry.contractive import slopes
from models.terms.geometry.halves import Half, Map, mean_code, of_pass

Formula = Callable[[Any, Any], Array]  # (model, the model as it was first) -> a number


class WrongPenaltyError(AssertionError):
    """A penalty is not the squared Frobenius norm of a Jacobian; the message names what it is."""


class FormulaValues(NamedTuple):
    """A formula at two points of parameter space, with its gradient at the second."""

    values: Float[Array, "2"]
    slope: Float[Array, " parameters"]


def check_penalty(
    penalty: Any, model: Any, x: Array, *, of: Half = "encoder", key: Any = None, rtol: float = 1e-4
) -> dict[str, float]:
    """Compare a penalty, (model, x) -> (batch,) or a number, or a term, with the batch mean of ||J||²_F by jacrev.

    At the model's parameters and at others nearby (a copy of the weights that was taken once shows there), with the
    gradient in all parameters. Returns the relative errors {"value", "gradient"}. Raises WrongPenaltyError that names
    the formula met instead, up to a constant factor, or that none of the known ones fits. Estimates by random probes
    are right in the mean only: average them over keys first.
    """
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(17), len(leaves))
    size = lambda a: 0.3 * jnp.sqrt(jnp.mean(a * a)) + 0.05
    moved = [a + size(a) * jax.random.normal(k, a.shape, a.dtype) for a, k in zip(leaves, keys, strict=True)]
    other = jax.tree.unflatten(tree, moved)

    def profile(formula: Formula) -> FormulaValues:
        number = lambda p: jnp.mean(formula(nnx.merge(graph, p, rest), nnx.merge(graph, params, rest)))
        both = jax.jit(jax.value_and_grad(number))
        (first, _), (value, slope) = both(params), both(other)
        return FormulaValues(
            jnp.stack([first, value]), jnp.concatenate([a.reshape(-1) for a in jax.tree.leaves(slope)])
        )

    done = lambda model: passed(model, x, key)
    own = (lambda model, _: penalty(done(model), None)) if hasattr(penalty, "weight") else lambda m, _: penalty(m, x)
    dense = lambda model: of_pass(done(model), of, "check_penalty")
    found, exact = profile(own), profile(lambda model, _: jnp.sum(jnp.square(jacobians(dense(model))), (1, 2)))
    errors = {"value": _gap(found.values, exact.values), "gradient": _gap(found.slope, exact.slope)}
    if not (jnp.isfinite(exact.values).all() and jnp.isfinite(exact.slope).all()):
        raise ValueError("||J||²_F or its gradient is not finite at these examples: there is nothing to compare with")
    if not all(map(math.isfinite, errors.values())):
        raise WrongPenaltyError("the penalty or its gradient is not finite where ||J||²_F is")
    if max(errors.values()) <= rtol:
        return errors
    raise WrongPenaltyError(_name(found, exact, suspects(dense, model, of), profile, dense(model), rtol))


def passed(model: Any, x: Any, key: Any) -> Pass:
    """Return the evaluation-mode pass at the mean code."""
    batch = as_batch(x)
    q = model.encode(model.sees(batch), None, batch.label)
    z = mean_code(q, "check_penalty")
    return Pass(model, batch, q, z, None, model.decode(z, None, batch.label), key, False)


def jacobians(half: Map) -> Float[Array, "batch outputs inputs"]:
    """Return J of every example by jax.jacrev, the reference."""
    return half.each(lambda one, value: jax.jacrev(one)(value))


def suspects(dense: Callable[[Any], Map], model: Any, of: Half) -> dict[str, Formula]:
    """Return what is computed in place of mean ||J||²_F, by its description; those on kernels for dense encoders."""
    j = lambda m: jacobians(dense(m))
    square = lambda a, axes: jnp.sum(jnp.square(a), axes)
    out: dict[str, Formula] = {
        "|1ᵀJ|², the gradient of the summed outputs: row sums of J in place of J": lambda m, _: square(j(m).sum(1), 1),
        "|J 1|², the sum of J's columns in place of J": lambda m, _: square(j(m).sum(2), 1),
        "||J||_F, not squared": lambda m, _: jnp.sqrt(square(j(m), (1, 2))),
        "the root of ||J||²_F summed over the batch": lambda m, _: jnp.sqrt(square(j(m), (0, 1, 2))),
        "||mean of J over the batch||²_F": lambda m, _: square(j(m).mean(0), (0, 1)),
        "Σ |J_ij|, not squared": lambda m, _: jnp.abs(j(m)).sum((1, 2)),
        "|∇ Σ outputs²|², the gradient of the squared outputs": lambda m, _: square(
            jnp.einsum("bij,bi->bj", 2 * j(m), dense(m)(dense(m).at)), 1
        ),
    }
    if of != "encoder" or not isinstance(model.encoder, Encoder) or model.encoder.convolutions:
        return out
    kernels = lambda m: m.encoder.kernels(m.latent)
    last = lambda m: kernels(m)[-1]
    d = lambda m: slopes(m, dense(m))
    h = lambda m: dense(m)(dense(m).at)
    weights = lambda w: square(w, 0)[None]
    every = lambda m, _: jnp.sum(jnp.stack([square(w, None) for w in kernels(m)]))
    product = lambda m: jnp.linalg.multi_dot([*kernels(m), jnp.eye(m.latent)])
    out |= {
        "Σ W² of all kernels, without the activation's derivative": every,
        "Σ W² of the first kernel, without the activation's derivative": lambda m, _: square(kernels(m)[0], None),
        "Σ W² of the last kernel, without the activation's derivative": lambda m, _: square(last(m), None),
        "||W_1 ... W_L||²_F, without the activations' derivatives": lambda m, _: square(product(m), None),
        "||W_1 ... W_L||_F, not squared, without the activations' derivatives": lambda m, _: jnp.sqrt(
            square(product(m), None)
        ),
        "Σ act'², without the weights": lambda m, _: square(d(m), 1),
        "the last layer's Jacobian alone": lambda m, _: jnp.sum(d(m) ** 2 * weights(last(m)), 1),
        "h (1 - h) as the derivative of an activation that is no sigmoid": lambda m, _: jnp.sum(
            (h(m) * (1 - h(m))) ** 2 * weights(last(m)), 1
        ),
        "the last layer's closed form with detached weights: no gradient through W": lambda m, _: jnp.sum(
            d(m) ** 2 * jax.lax.stop_gradient(weights(last(m))), 1
        ),
        "the last layer's closed form with the weights of the start, frozen": lambda m, first: jnp.sum(
            d(m) ** 2 * jax.lax.stop_gradient(weights(last(first))), 1
        ),
        "Σ W² with detached weights: a constant": lambda m, _: jax.lax.stop_gradient(square(last(m), None)),
    }
    if last(model).shape[0] == last(model).shape[1]:
        wrong: Formula = lambda m, _: jnp.sum(d(m) ** 2 * square(last(m), 1)[None], 1)
        out["the closed form with W² summed over the wrong axis"] = wrong
    return out


def _gap(a: Array, b: Array) -> float:
    return float(jnp.linalg.norm(a - b) / jnp.maximum(jnp.linalg.norm(b), jnp.finfo(b.dtype).tiny))


def _name(found: FormulaValues, exact: FormulaValues, formulas: dict, profile: Any, half: Map, rtol: float) -> str:
    """Return the line that names the first formula that fits: itself, times a constant, in value alone."""
    profiles: dict[str, FormulaValues] = {}
    fits = lambda p, c: max(_gap(found.values, c * p.values), _gap(found.slope, c * p.slope)) <= rtol
    for name, formula in formulas.items():
        profiles[name] = profile(formula)
        if fits(profiles[name], 1):
            return f"the penalty computes {name}"
    for name, p in {"||J||²_F": exact, **profiles}.items():
        factor = float(found.values[1] / p.values[1])
        if fits(p, factor):
            return f"the penalty computes {factor:.6g} times {name}{_constant(factor, half) if p is exact else ''}"
    if _gap(found.values, exact.values) <= rtol:
        zero = not bool(jnp.any(found.slope))
        return f"the penalty's value is ||J||²_F, but its gradient is {'zero: it trains nothing' if zero else 'not'}"
    cosine = jnp.vdot(found.slope, exact.slope) / (jnp.linalg.norm(found.slope) * jnp.linalg.norm(exact.slope))
    ratio, cosine = float(found.values[1] / exact.values[1]), float(jnp.nan_to_num(cosine))
    trains = "" if bool(jnp.any(found.slope)) else "; its gradient is zero: it trains nothing"
    return f"the penalty is no known formula: {ratio:.3g} times ||J||²_F, gradient cosine {cosine:.3f}{trains}"


def _constant(factor: float, half: Map) -> str:
    """Return what a constant factor may come from."""
    (batch, inputs), outputs = half.at.shape, half.outputs
    known = {
        "summed over the batch": batch,
        "averaged over the batch twice": 1 / batch,
        "averaged over the outputs": 1 / outputs,
        "averaged over the inputs": 1 / inputs,
        "averaged over the entries of J": 1 / (inputs * outputs),
        "averaged over batch and entries twice": 1 / (batch * inputs * outputs),
    }
    return next((f": {name}" for name, c in known.items() if abs(factor / c - 1) < 1e-3), "")
