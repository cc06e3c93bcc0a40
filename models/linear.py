"""Linear baselines in closed form: principal components, and their probabilistic model.

Both are computed in float64 on the host and serve as oracles: no linear autoencoder has a smaller squared
error than PCA of its width, no linear VAE a larger likelihood than probabilistic PCA of its width.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Table = Float[Array | np.ndarray, "n d"]


class PCA(NamedTuple):
    """The `k` directions of largest variance of rows x: mean (d,), components (k, d), variances (k,)."""

    mean: Array
    components: Array
    variances: Array

    def encode(self, x: Table) -> Float[Array, "n k"]:
        """Return the coordinates of x - mean along the components."""
        return (jnp.asarray(x) - self.mean[None]) @ self.components.T

    def decode(self, z: Float[Array | np.ndarray, "n k"]) -> Table:
        """Return mean + Σ_j z_j component_j."""
        return self.mean[None] + z @ self.components

    def reconstruct(self, x: Table) -> Table:
        """Return the projection of x on the affine space of the components."""
        return self.decode(self.encode(x))


class PPCA(NamedTuple):
    """Probabilistic PCA x = mean + W z + noise, fitted by maximum likelihood (Tipping & Bishop 1999).

    weights W (d, k) with W Wᵀ = Σ_j (variance_j - noise) u_j u_jᵀ, noise: variance of the rest (mean of the
    discarded ones), components (k, d) the u_j, variances (k,).
    """

    mean: Array
    components: Array
    variances: Array
    noise: Array

    @property
    def weights(self) -> Float[Array, "d k"]:
        """Return W, up to a rotation of the code: columns u_j sqrt(variance_j - noise)."""
        return self.components.T * jnp.sqrt(jnp.maximum(self.variances - self.noise, 0))[None]

    def log_likelihood(self, x: Table) -> Float[Array, " n"]:
        """Return log N(x; mean, W Wᵀ + noise I) of every row, nats."""
        d, k = self.mean.shape[0], self.variances.shape[0]
        centred = x - self.mean[None]
        z = centred @ self.components.T
        inside = jnp.sum(z * z / self.variances[None], axis=1)
        # the residual itself: |centred|² - |z|² is a difference of near-equal numbers where the noise is small
        outside = jnp.sum(jnp.square(centred - z @ self.components), axis=1) / self.noise
        log_det = jnp.sum(jnp.log(self.variances)) + (d - k) * jnp.log(self.noise)
        return -0.5 * (inside + outside + log_det + d * math.log(2 * math.pi))


def _spectrum(x: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mean, the right singular vectors (rows) and all d variances of flattened rows, 1/n form."""
    rows = np.asarray(x, np.float64).reshape(len(x), -1)
    mean = rows.mean(0)
    centred = rows - mean[None]
    if len(rows) > rows.shape[1]:
        centred = np.linalg.qr(centred, mode="r")  # same singular values and right vectors, far smaller
    _, singular, vectors = np.linalg.svd(centred, full_matrices=False)
    # a vector's sign is free: fix it so that its largest entry is positive
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(1)[:, None], axis=1)
    variances = np.zeros(rows.shape[1])
    variances[: len(singular)] = singular**2 / len(rows)
    return mean, vectors * np.where(largest < 0, -1, 1), variances


def pca(x: Any, k: int) -> PCA:
    """Return PCA of the rows of `x` (n, ...) with `k` components; variances divide by n.

    Raises ValueError unless 1 <= k <= min(n, d).
    """
    mean, vectors, variances = _spectrum(x)
    if not 1 <= k <= len(vectors):
        raise ValueError(f"k must be between 1 and min(rows, columns) = {len(vectors)}, got {k}")
    return PCA(*(jnp.asarray(a, float) for a in (mean, vectors[:k], variances[:k])))


def ppca(x: Any, k: int) -> PPCA:
    """Return the maximum likelihood probabilistic PCA of rows `x` (n, ...) with a `k`-dimensional code.

    Raises ValueError unless 1 <= k < d and the discarded variances are positive.
    """
    mean, vectors, variances = _spectrum(x)
    if not 1 <= k < len(mean) or k > len(vectors):
        raise ValueError(f"k must be at least 1, below columns = {len(mean)} and at most rows, got {k}")
    noise = variances[k:].mean()
    if noise <= 1e-14 * variances[0]:  # rounding
        raise ValueError(f"no variance is left outside {k} components: the likelihood is unbounded, take less")
    return PPCA(*(jnp.asarray(a, float) for a in (mean, vectors[:k], variances[:k], noise)))
