"""`check_jacobian`: is this Jacobian right here? Against float64, the complex step and random products."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from grads import arguments
from grads.jacobian import jacobian
from grads.methods.registry import Method, UnsupportedMethodError
from grads.products import jvp, vjp

__all__ = ["WrongJacobianError", "check_jacobian"]

REFERENCES = ("float64", "complex_step", "probes")


class WrongJacobianError(AssertionError):
    """A Jacobian differs from a reference; the message names the worst entry."""


def check_jacobian(
    fun: Callable[[PyTree], PyTree],
    x: PyTree,
    *,
    method: str | Method = "auto",
    against: str | Sequence[str] = REFERENCES,
    rtol: float | None = None,
    seed: int = 0,
    jac: Callable[[PyTree], PyTree] | None = None,
) -> dict[str, float | str]:
    """Compare the Jacobian of `fun` at x by `method` (or a function `jac` of your own) with references.

    "float64": `jax.jacfwd` (`jacrev` where that has no rule) in float64; "complex_step": in float64; "probes": J v and
    u^T J against `jvp` and `vjp` in x's own dtype. Errors are relative to the largest entry of the block; rtol defaults
    to 100 machine epsilons of the Jacobian's dtype (1e-5 in float32, 2e-14 in float64).

    Returns {reference: largest error, or why it does not apply}. Raises WrongJacobianError naming block, index, value
    and expected value of the worst entry; ValueError for an unknown reference, or where none applies.
    """
    arguments.callable_(fun, "check_jacobian")
    against = (against,) if isinstance(against, str) else tuple(against)
    for name in against:
        arguments.one_of("reference", name, REFERENCES)
    if rtol is not None and not rtol > 0:
        raise ValueError(f"rtol must be positive or None, got {rtol!r}")
    got = (jac or jacobian(fun, method=method))(x)
    finding: dict[str, float | str] = {}
    for name in against:
        if name == "probes":
            finding[name] = _probes(fun, x, got, rtol, seed)
            continue
        try:
            want = reference(fun, x, name)
        except UnsupportedMethodError as error:
            finding[name] = str(error)
        else:
            finding[name] = _compare(name, got, want, rtol)
    if all(isinstance(error, str) for error in finding.values()):
        raise ValueError(f"no reference applies: {finding}")
    return finding


def reference(fun: Callable[[PyTree], PyTree], x: PyTree, name: str = "float64") -> PyTree:
    """Return the Jacobian in float64 as NumPy arrays, by jax.jacfwd ("float64") or by "complex_step"."""
    with jax.enable_x64(True):
        wide = jax.tree.map(lambda a: jnp.asarray(np.asarray(a), _wide(a)), x)
        if name == "complex_step":
            return jax.tree.map(np.asarray, jacobian(fun, method="complex_step")(wide))
        try:
            return jax.tree.map(np.asarray, jax.jit(jax.jacfwd(fun))(wide))
        except TypeError:  # a custom_vjp has no forward rule
            return jax.tree.map(np.asarray, jax.jit(jax.jacrev(fun))(wide))


def _wide(a: Any) -> Any:
    kind = np.asarray(a).dtype
    return np.float64 if jnp.issubdtype(kind, jnp.floating) else kind


def _tolerance(a: Any, rtol: float | None) -> float:
    return 100 * float(jnp.finfo(a.dtype).eps) if rtol is None else rtol


def _compare(name: str, got: PyTree, want: PyTree, rtol: float | None) -> float:
    """Return the largest relative error; raise at the worst entry beyond tolerance."""
    worst = (0.0, "")
    trees: tuple[Any, Any] = jax.tree.structure(got), jax.tree.structure(want)
    if trees[0] != trees[1]:
        raise WrongJacobianError(f"against {name}, the Jacobian has the tree {trees[0]}, expected {trees[1]}")
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(want), strict=True):
        if np.shape(a) != np.shape(b):
            shapes = f"{np.shape(a)}, expected {np.shape(b)}"
            raise WrongJacobianError(f"against {name}, block {jax.tree_util.keystr(path)} has the shape {shapes}")
        if np.size(a) == 0:
            continue
        b = np.asarray(b, np.result_type(b, np.float64))  # the smallest scale is none in float32
        with np.errstate(invalid="ignore"):
            scale = max(np.max(np.abs(b), where=np.isfinite(b), initial=0), float(np.finfo(np.float64).tiny))
            error = np.abs(np.asarray(a, b.dtype) - b) / scale
        same = np.isnan(a) & np.isnan(b) | (np.asarray(a) == b)  # inf is inf
        error = np.where(same, 0, np.where(np.isnan(error), np.inf, error))
        at = np.unravel_index(np.argmax(error), error.shape)
        if error[at] > _tolerance(a, rtol):
            where = f"{jax.tree_util.keystr(path)}{list(map(int, at))}"
            raise WrongJacobianError(
                f"against {name}, entry {where} is {np.asarray(a)[at]:.9g}, expected {b[at]:.9g} "
                f"(error {error[at]:.1e} of the largest entry, tolerance {_tolerance(a, rtol):.1e})"
            )
        worst = max(worst, (float(error[at]), ""))
    return worst[0]


def _probes(fun: Callable, x: PyTree, jac: PyTree, rtol: float | None, seed: int) -> float:
    """Compare J v and u^T J with jvp and vjp for one random v and u."""
    rng = np.random.default_rng(seed)
    like = lambda tree: jax.tree.map(lambda a: jnp.asarray(rng.normal(size=jnp.shape(a)), jnp.result_type(a)), tree)
    v = like(x)
    y = jax.eval_shape(fun, x)
    u = like(jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), y))
    out_tree: Any = jax.tree.structure(y)
    in_tree: Any = jax.tree.structure(x)
    rows = [in_tree.flatten_up_to(r) for r in out_tree.flatten_up_to(jac)]
    pushed = [sum(jnp.tensordot(b, d, d.ndim) for b, d in zip(r, jax.tree.leaves(v), strict=True)) for r in rows]
    columns = list(zip(*rows, strict=True))
    pulled = [sum(jnp.tensordot(d, b, d.ndim) for b, d in zip(c, jax.tree.leaves(u), strict=True)) for c in columns]
    errors = []
    try:
        errors.append(_compare("probes J v", out_tree.unflatten(pushed), _numpy(jvp(fun, x, v)[1]), rtol))
    except TypeError:
        pass  # no forward rule
    errors.append(_compare("probes u^T J", in_tree.unflatten(pulled), _numpy(vjp(fun, x, u)[1]), rtol))
    return max(errors)


def _numpy(tree: PyTree) -> PyTree:
    return jax.tree.map(np.asarray, tree)
