"""A Jacobian as a linear operator: products without forming it, and norms, traces and spectra from its factors.

Where the function has a narrow waist of width r, J = L R with L (m, r) and R (r, n), and
    ||J||_F^2 = sum (L^T L) * (R R^T),   tr J = sum L * R^T,   singular values of J = those of the r x r
    matrix R_1 R_2^T
from the QR decompositions L = Q_1 R_1, R^T = Q_2 R_2. Every functional returns an `Estimate`: exact, or with
its standard
error. Log-determinants come from QR, never from a Cholesky factor of J^T J, which squares the condition
number.
"""

import math
from collections.abc import Callable
from functools import cached_property, reduce
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Inexact, Key

from grads import arguments
from grads.matrices import estimators
from grads.matrices.estimators import Estimate, exactly
from grads.matrices.factored import DiagonalFactor, Factored, IdentityFactor, multiply

__all__ = ["JacobianOperator"]

_SMALL = 2**22  # entries: a matrix this small is formed without asking
_TRACES = ("hutchinson", "hutchpp", "xtrace")
_OPTIONS = ["method", "key", "samples", "distribution"]


class JacobianOperator:
    """The matrix J (m, n) behind its products; see the module's text. `@` and `T` give operators, still factored."""

    def __init__(
        self,
        shape: tuple[int, int],
        dtype: Any,
        push: Callable,
        pull: Callable,
        factor: Callable,
        entries: Callable = lambda: None,
    ):
        self.shape, self.dtype = shape, jnp.dtype(dtype)
        self._push, self._pull, self._factor, self._entries = push, pull, factor, entries

    def __repr__(self) -> str:
        return f"JacobianOperator(shape={self.shape}, dtype={self.dtype})"

    @cached_property
    def factored(self) -> Factored:
        """J = factors[0] @ factors[1] @ ..., computed when first needed."""
        return self._factor()

    @cached_property
    def entries(self) -> Any:
        """J as its few nonzeros (BCOO) where it is large and its program shows that most are zero; else None."""
        return self._entries() if math.prod(self.shape) > _SMALL else None

    @property
    def rank(self) -> int:
        """The narrowest width of the factors: an upper bound on the rank of J. Shapes say it: nothing is evaluated."""
        if "factored" in vars(self):
            return self.factored.rank
        found: list[int] = []

        def shapes() -> tuple:
            found.append(self._factor().rank)
            return ()

        jax.eval_shape(shapes)
        return found[0]

    def mv(self, v: Inexact[Array, " n"]) -> Inexact[Array, " m"]:
        """J v, one forward pass."""
        return self._push(_sized(v, self.shape[1], "v"))

    def rmv(self, u: Inexact[Array, " m"]) -> Inexact[Array, " n"]:
        """u^T J, one reverse pass."""
        return self._pull(_sized(u, self.shape[0], "u"))

    def mm(self, v: Inexact[Array, "n k"]) -> Inexact[Array, "m k"]:
        """J V, all columns at once."""
        return jax.vmap(self.mv, 1, 1)(v)

    def rmm(self, u: Inexact[Array, "k m"]) -> Inexact[Array, "k n"]:
        """U J, all rows at once."""
        return jax.vmap(self.rmv)(u)

    @property
    def T(self) -> "JacobianOperator":
        """J^T."""
        return JacobianOperator(self.shape[::-1], self.dtype, self._pull, self._push, lambda: self.factored.T)

    def __matmul__(self, other: Any) -> Any:
        if not isinstance(other, JacobianOperator):
            other = jnp.asarray(other)
            return self.mv(other) if other.ndim == 1 else self.mm(other)
        if self.shape[1] != other.shape[0]:
            raise ValueError(f"cannot multiply operators of shapes {self.shape} and {other.shape}")
        return JacobianOperator(
            (self.shape[0], other.shape[1]),
            jnp.result_type(self.dtype, other.dtype),
            lambda v: self._push(other._push(v)),
            lambda u: other._pull(self._pull(u)),
            lambda: Factored((*self.factored.factors, *other.factored.factors)),
        )

    def materialize(self) -> Inexact[Array, "m n"]:
        """J as an array."""
        return self.factored.materialize()

    def gram(self) -> Inexact[Array, "n n"]:
        """J^T J = R^T (L^T L) R, exact."""
        return _gram(self.factored)

    def frobenius(self, *, squared: bool = False, **how: Any) -> Estimate:
        """||J||_F (or its square). JacobianOptions as `trace`; "hutchinson" is the mean of |J v|^2."""
        if self._exact(**how):
            out = exactly(_frobenius(self.factored))
        else:
            out = self._estimate(lambda v: self._pull(self._push(v)), self.shape[1], **how)
        if squared:
            return out
        root = jnp.sqrt(out.value)
        # d sqrt(y) = dy / (2 sqrt y)
        error = jnp.zeros_like(root) if out.exact else out.standard_error / (2 * root)
        return Estimate(root, error, out.exact, out.method)

    def trace(self, **how: Any) -> Estimate:
        """tr J of a square J.

        method    "exact" from the factors; "hutchinson", "hutchpp", "xtrace" from `samples` products (default
        32)
                  with `key`; "auto": exact where J is small or its waist under half its sides, else "xtrace"
        Raises ValueError where J is not square, an estimate has no key, or for another method.
        """
        self._square("trace")
        if (known := self._known_diagonal(**how)) is not None:
            return exactly(jnp.sum(known))
        if self._exact(**how):
            return exactly(_trace(self.factored))
        return self._estimate(self._push, self.shape[1], **how)

    def diagonal(self, **how: Any) -> Estimate:
        """diag J of a square J; estimates only by "hutchinson"."""
        self._square("diagonal")
        if (known := self._known_diagonal(**how)) is not None:
            return exactly(known)
        if self._exact(**how):
            return exactly(_diagonal(self.factored))
        _only_hutchinson(how, "diagonals")
        key, samples = _sampling(how)
        probes = {"dtype": self.dtype, "distribution": how.get("distribution", "rademacher")}
        return estimators.hutchinson_diagonal(self._push, self.shape[1], key, samples, **probes)

    def row_norms(self, **how: Any) -> Estimate:
        """|J_i| of every row; estimates are roots of the mean of (J v)_i^2."""
        if self._exact(**how):
            return exactly(_row_norms(self.factored))
        _only_hutchinson(how, "row norms")
        key, samples = _sampling(how)
        v = estimators.probes(key, samples, self.shape[1], how.get("distribution", "rademacher"), self.dtype)
        squares = jax.vmap(self._push)(v) ** 2
        root = jnp.sqrt(squares.mean(0))
        spread = squares.std(0, ddof=1) / samples**0.5
        return Estimate(root, spread / (2 * jnp.maximum(root, jnp.finfo(self.dtype).tiny)), False, "hutchinson")

    def svdvals(self) -> Estimate:
        """All min(m, n) singular values, falling: exact, from the small QRs of the factors (zeros past the waist)."""
        return exactly(_svdvals(self.factored))

    def slogdet_gram(self, **how: Any) -> Estimate:
        """log det J^T J (of J J^T where m < n), in nats; -inf where J is rank deficient by its waist.

        Exact by QR of J: 2 sum log |R_ii|. method="lanczos": stochastic Lanczos quadrature with `key`, `samples`
        (default 32) and `steps` (default 30), unsafe beyond a condition number of about 1e3 in float32.
        """
        if how.get("method") == "lanczos":
            key, samples = _sampling(how)
            tall = self if self.shape[0] >= self.shape[1] else self.T
            product = lambda v: tall._pull(tall._push(v))
            steps = how.get("steps", 30)
            return estimators.lanczos_logdet(product, tall.shape[1], key, samples, steps, dtype=self.dtype)
        if not self._exact(**(how | {"method": how.get("method", "exact")})):
            raise ValueError(f"unknown method {how['method']!r} for a log-determinant; there are: exact, lanczos")
        return exactly(_slogdet_gram(self.factored))

    def _square(self, what: str) -> None:
        if self.shape[0] != self.shape[1]:
            raise ValueError(f"the {what} needs a square Jacobian, got shape {self.shape}")

    def _known_diagonal(self, method: str = "auto", **how: Any) -> Array | None:
        """The diagonal by as many products as colours, where J is large and sparse: no n x n array is formed."""
        if method not in ("auto", "exact") or self.entries is None:
            return None
        row, column = self.entries.indices.T
        return jnp.zeros(self.shape[0], self.dtype).at[row].add(jnp.where(row == column, self.entries.data, 0))

    def _exact(self, method: str = "auto", **unknown: Any) -> bool:
        arguments.one_of("method", method, ["auto", "exact", *_TRACES])
        for name in unknown:
            arguments.one_of("option", name, _OPTIONS)
        small = math.prod(self.shape) <= _SMALL
        return method == "exact" or (method == "auto" and (small or 2 * self.rank < min(self.shape)))

    def _estimate(self, product: Callable, n: int, method: str = "auto", **how: Any) -> Estimate:
        key, samples = _sampling(how)
        estimator = getattr(estimators, "xtrace" if method == "auto" else method)
        options = {k: how[k] for k in ("distribution",) if k in how}
        return estimator(product, n, key, samples, dtype=self.dtype, **options)


def _sampling(how: dict) -> tuple[Key[Array, ""], int]:
    if how.get("key") is None:
        raise ValueError('an estimate needs a random key: pass key=..., or method="exact"')
    key = how["key"]
    if not isinstance(key, jax.Array):
        raise TypeError(f"key must be a JAX random key (jax.random.key(0)), got {key!r}")
    arguments.count("samples", how.get("samples"))
    return key, how.get("samples", 32)


def _only_hutchinson(how: dict, what: str) -> None:
    if how.get("method", "auto") not in ("auto", "hutchinson"):
        raise ValueError(f"{what} are estimated by method='hutchinson' only, got {how['method']!r}")


def _sized(v: Any, size: int, name: str) -> Array:
    v = jnp.asarray(v)
    if v.shape != (size,):
        raise ValueError(f"{name} has shape {v.shape}, expected ({size},)")
    return v


@jax.jit
def _gram(j: Factored) -> Array:
    left, right = j.left, j.right
    return right.T @ (left.T @ left) @ right


def _only_diagonal(j: Factored) -> Array | None:
    """The diagonal of a product of diagonals, which needs no matrix; None for other products."""
    if not all(isinstance(f, (DiagonalFactor, IdentityFactor)) for f in j.factors):
        return None
    out = reduce(multiply, j.factors)
    return out.d if isinstance(out, DiagonalFactor) else jnp.ones(out.shape[0], j.dtype)


@jax.jit
def _frobenius(j: Factored) -> Array:
    if (d := _only_diagonal(j)) is not None:
        return jnp.sum(d * d)
    if len(j.factors) == 1:
        return jnp.sum(j.materialize() ** 2)
    left, right = j.left, j.right
    return jnp.sum((left.T @ left) * (right @ right.T))


@jax.jit
def _trace(j: Factored) -> Array:
    return jnp.sum(_diagonal(j))


@jax.jit
def _diagonal(j: Factored) -> Array:
    if (d := _only_diagonal(j)) is not None:
        return d
    if len(j.factors) == 1:
        return jnp.diagonal(j.materialize())
    return jnp.sum(j.left * j.right.T, 1)


@jax.jit
def _row_norms(j: Factored) -> Array:
    if (d := _only_diagonal(j)) is not None:
        return jnp.abs(d)
    if len(j.factors) == 1:
        return jnp.sqrt(jnp.sum(j.materialize() ** 2, 1))
    left, right = j.left, j.right
    return jnp.sqrt(jnp.sum((left @ (right @ right.T)) * left, 1))


@jax.jit
def _svdvals(j: Factored) -> Array:
    left, right = (jnp.linalg.qr(a, mode="r") for a in (j.left, j.right.T))
    values = jnp.linalg.svd(left @ right.T, compute_uv=False)
    return jnp.pad(values, (0, min(j.shape) - values.size))


@jax.jit
def _slogdet_gram(j: Factored) -> Array:
    if j.rank < min(j.shape):
        return jnp.full((), -jnp.inf, j.dtype)
    matrix = j.materialize()
    r = jnp.linalg.qr(matrix if j.shape[0] >= j.shape[1] else matrix.T, mode="r")
    return 2 * jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r))))
