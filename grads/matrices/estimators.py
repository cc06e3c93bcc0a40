"""Traces, diagonals and log-determinants of a matrix known by its products, each with its standard error.

A standard error is that of the mean over independent (or, in XTrace, exchangeable) samples; a 95% interval is
about two.
Probes v have E[v v^T] = I. With A symmetric, one sample v^T A v has the variance (`probe_variance`)
    gaussian 2 ||A||_F^2,   rademacher 2 (||A||_F^2 - sum_i A_ii^2),   sphere 2 n / (n + 2) (||A||_F^2 - (tr
    A)^2 / n).
The relative error is about sqrt(2 / (samples * PR)), PR = (sum s)^2 / sum s^2 over eigenvalues s: few probes
suffice
exactly when the spectrum is flat.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Inexact, Key

__all__ = [
    "Estimate",
    "exactly",
    "hutchinson",
    "hutchinson_diagonal",
    "hutchpp",
    "lanczos_logdet",
    "probe_variance",
    "probes",
    "xtrace",
]

Matvec = Callable[[Array], Array]


@dataclass(frozen=True)
class Estimate:
    """A value with its standard error (same shape); `exact` says that the value is no estimate (error 0)."""

    value: Array
    standard_error: Array
    exact: bool = False
    method: str = "exact"

    def __float__(self) -> float:
        return float(self.value)


jax.tree_util.register_dataclass(Estimate, ["value", "standard_error"], ["exact", "method"])


def exactly(value: Array, method: str = "exact") -> Estimate:
    """Return a value known exactly (to rounding)."""
    return Estimate(value, jnp.zeros(value.shape, jnp.finfo(value.dtype).dtype), True, method)


def probes(key: Key[Array, ""], samples: int, n: int, distribution: str, dtype: Any) -> Inexact[Array, "samples n"]:
    """Return rows v with E[v v^T] = I: "gaussian", "rademacher" or "sphere" (radius sqrt n)."""
    if distribution == "rademacher":
        return jax.random.rademacher(key, (samples, n), dtype)
    if distribution not in ("gaussian", "sphere"):
        raise ValueError(f"unknown distribution {distribution!r}; there are: gaussian, rademacher, sphere")
    v = jax.random.normal(key, (samples, n), dtype)
    if distribution == "gaussian":
        return v
    return v * jnp.sqrt(n / jnp.sum(v**2, 1, keepdims=True))


def probe_variance(a: Float[Array, "n n"], distribution: str) -> Float[Array, ""]:
    """Return Var[v^T A v] of one probe for a symmetric A (formulas above)."""
    n, squares, diagonal = a.shape[0], jnp.sum(a**2), jnp.diagonal(a)
    if distribution == "gaussian":
        return 2 * squares
    if distribution == "rademacher":
        return 2 * (squares - jnp.sum(diagonal**2))
    if distribution == "sphere":
        return 2 * n / (n + 2) * (squares - jnp.sum(diagonal) ** 2 / n)
    raise ValueError(f"unknown distribution {distribution!r}; there are: gaussian, rademacher, sphere")


def _mean(samples: Array, method: str) -> Estimate:
    """Return the mean over axis 0 with its standard error; nan where a single sample tells nothing."""
    count = samples.shape[0]
    spread = jnp.std(samples, 0, ddof=1) if count > 1 else jnp.full(samples.shape[1:], jnp.nan, samples.dtype)
    return Estimate(jnp.mean(samples, 0), spread / count**0.5, False, method)


def _at_least(samples: int, least: int, what: str) -> None:
    if samples < least:
        raise ValueError(f"{what} needs at least {least} products, got {samples}")


def hutchinson(
    matvec: Matvec, n: int, key: Key[Array, ""], samples: int = 32, distribution: str = "rademacher", dtype: Any = float
) -> Estimate:
    """Estimate tr A as the mean of v^T A v (Girard 1989; Hutchinson 1990), unbiased for any square A."""
    _at_least(samples, 1, "hutchinson")
    v = probes(key, samples, n, distribution, dtype)
    return _mean(jnp.sum(v * jax.vmap(matvec)(v), 1), "hutchinson")


def hutchinson_diagonal(
    matvec: Matvec, n: int, key: Key[Array, ""], samples: int = 32, distribution: str = "rademacher", dtype: Any = float
) -> Estimate:
    """Estimate diag A as the mean of v * (A v) (Bekas, Kokiopoulou & Saad 2007), unbiased."""
    _at_least(samples, 1, "hutchinson_diagonal")
    v = probes(key, samples, n, distribution, dtype)
    return _mean(v * jax.vmap(matvec)(v), "hutchinson")


def hutchpp(
    matvec: Matvec, n: int, key: Key[Array, ""], samples: int = 32, distribution: str = "rademacher", dtype: Any = float
) -> Estimate:
    """Estimate tr A by Hutch++ (Meyer, Musco, Musco & Woodruff 2021, algorithm 1), unbiased.

    A third of the products finds the range Q of A on probes, a third gives tr Q^T A Q exactly, and Hutchinson estimates
    the rest, tr (I - Q Q^T) A (I - Q Q^T); the standard error is that of the rest, given Q.
    """
    _at_least(samples, 6, "hutchpp")
    third = min(samples // 3, n)
    key_range, key_rest = jax.random.split(key)
    columns = jax.vmap(matvec, 1, 1)
    q, _ = jnp.linalg.qr(columns(probes(key_range, third, n, distribution, dtype).T))
    v = probes(key_rest, samples - 2 * third, n, distribution, dtype).T
    v = v - q @ (q.T @ v)
    known = jnp.trace(q.T @ columns(q))
    rest = _mean(jnp.sum(v * columns(v), 0), "hutchpp")
    return Estimate(known + rest.value, rest.standard_error, False, "hutchpp")


def xtrace(matvec: Matvec, n: int, key: Key[Array, ""], samples: int = 32, dtype: Any = float) -> Estimate:
    """Estimate tr A by XTrace (Epperly, Tropp & Webber 2024, algorithm 2.1 with normalised residuals, section 2.3).

    With m = samples / 2 probes on the sphere and the range Q of A on all of them, each probe in turn estimates the
    trace left over by the other m - 1; the m estimates are exchangeable, their mean unbiased. Rank-one downdates give
    all of them from one QR: column i of R^-H, normalised, is the direction s_i that leaves Q without probe i.

    The m estimates are not independent, so their spread s tells less than that of a sample. Each is unbiased given the
    other probes, so in the expansion of Hoeffding (1948) by sets of probes estimate i has terms of sets that hold i
    only; a set of k probes adds to the variance of the mean at most k (m - 1) / (m - k) times what it adds to s^2 / m.
    The standard error stated is that for pairs, sqrt(2 (m - 1) / (m - 2)) s / sqrt m: one probe against the range of
    another. It is too large by up to that root where the probes act alone, and too small where many act together: 0.83
    of the true error in a flat spectrum with m = 7, n = 12.
    """
    _at_least(samples, 6, "xtrace")
    m = min(samples // 2, n)
    columns = jax.vmap(matvec, 1, 1)
    omega = probes(key, m, n, "sphere", dtype).T
    q, r = jnp.linalg.qr(columns(omega))
    z = columns(q)
    # A of rank below m has a singular R: a tiny diagonal keeps s_i defined.
    tiny = jnp.finfo(r.dtype).eps * jnp.maximum(jnp.linalg.norm(r), jnp.finfo(r.dtype).tiny)
    diagonal = jnp.diagonal(r)
    lift = jnp.where(jnp.abs(diagonal) < tiny, tiny, 0)
    s = jax.scipy.linalg.solve_triangular((r + jnp.diag(lift)).T, jnp.eye(m, dtype=r.dtype), lower=True)
    s = s / jnp.linalg.norm(s, axis=0, keepdims=True)
    w, t, h = q.T @ omega, z.T @ omega, q.T @ z
    x = w - s * jnp.sum(s * w, 0, keepdims=True)
    residual = jnp.sum((w - x) * r, 0) - jnp.sum(t * x, 0) + jnp.sum(x * (h @ x), 0)
    left = n - jnp.sum(x**2, 0)  # squared length of the probe outside the other probes' range
    scale = jnp.where(left > tiny * n, (n - m + 1) / jnp.maximum(left, tiny), 0)
    mean = _mean(jnp.trace(h) - jnp.sum(s * (h @ s), 0) + scale * residual, "xtrace")
    pairs = (2 * (m - 1) / max(m - 2, 1)) ** 0.5  # m <= 2 means n <= 2: all is known then, the spread zero
    return Estimate(mean.value, pairs * mean.standard_error, False, "xtrace")


def lanczos_logdet(
    matvec: Matvec,
    n: int,
    key: Key[Array, ""],
    samples: int = 16,
    steps: int = 30,
    distribution: str = "rademacher",
    dtype: Any = float,
) -> Estimate:
    """Estimate log det A of a symmetric positive definite A by stochastic Lanczos quadrature (Ubaru et al. 2017).

    Mean over probes of |v|^2 e_1^T log(T) e_1, T the tridiagonal matrix of `steps` Lanczos steps from v with full
    reorthogonalisation. The standard error is the spread over probes; the quadrature's own error falls like exp(-4
    steps / sqrt(cond A)) and is zero for steps >= n.
    """
    _at_least(samples, 1, "lanczos_logdet")
    steps = min(steps, n)

    def quadrature(v: Array) -> Array:
        squared = jnp.sum(v**2)
        diagonal, beside = _lanczos(matvec, v / jnp.sqrt(squared), steps)
        values, vectors = jnp.linalg.eigh(jnp.diag(diagonal) + jnp.diag(beside, 1) + jnp.diag(beside, -1))
        weights = vectors[0] ** 2
        # a zero weight: a direction the probe never met (Lanczos stopped early)
        met = weights > jnp.finfo(values.dtype).eps ** 2
        return squared * jnp.sum(jnp.where(met, weights * jnp.log(jnp.where(met, values, 1)), 0))

    return _mean(jax.vmap(quadrature)(probes(key, samples, n, distribution, dtype)), "lanczos")


def _lanczos(matvec: Matvec, start: Array, steps: int) -> tuple[Array, Array]:
    """Return diagonal and off-diagonal of the tridiagonal matrix of Lanczos from a unit vector."""
    tiny = jnp.finfo(start.dtype).eps

    def step(basis: Array, k: Array) -> tuple[Array, tuple[Array, Array]]:
        w = matvec(basis[k])
        size = jnp.linalg.norm(w)
        alpha = basis[k] @ w
        for _ in range(2):  # twice is enough (Giraud, Langou & Rozloznik 2005)
            w = w - basis.T @ (basis @ w)
        beta = jnp.linalg.norm(w)
        done = beta <= 10 * tiny * size  # an invariant subspace: what follows has weight zero
        basis = basis.at[k + 1].set(jnp.where(done, 0, w / jnp.where(done, 1, beta)), mode="drop")
        return basis, (jnp.where(size > 0, alpha, 1), jnp.where(done, 0, beta))

    basis = jnp.zeros((steps, start.size), start.dtype).at[0].set(start)
    _, (diagonal, beside) = lax.scan(step, basis, jnp.arange(steps))
    return diagonal, beside[:-1]
