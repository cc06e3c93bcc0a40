"""Distances between two sets of features, and how far each covers the other."""

import numpy as np
from jaxtyping import Float

Features = Float[np.ndarray, "_ features"]

NEIGHBOURS = 3


def frechet(a: Features, b: Features) -> float:
    """Return |m_a - m_b|² + tr(S_a + S_b - 2 (S_a S_b)^½): the squared 2-Wasserstein distance of two normals.

    Of the normals with the sets' means and covariances (Fréchet 1957; Heusel et al. 2017 for features). The root's
    trace is that of the symmetric (S_a^½ S_b S_a^½)^½. Finite sets put it too high, by about the same for equal sizes.
    """
    s_a, s_b = (np.atleast_2d(np.cov(s, rowvar=False)) for s in (a, b))
    root = _root(s_a)
    middle = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ s_b @ root), 0)).sum()
    gap = a.mean(0) - b.mean(0)
    return float(gap @ gap + np.trace(s_a) + np.trace(s_b) - 2 * middle)


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


def kernel_mmd(a: Features, b: Features) -> float:
    """Return MMD² with the kernel (x · y / d + 1)³, unbiased (Bińkowski et al. 2018): 0 on average for equal laws."""
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1) ** 3
    within = lambda k: (k.sum() - np.trace(k)) / (len(k) * (len(k) - 1))
    return float(within(kernel(a, a)) + within(kernel(b, b)) - 2 * kernel(a, b).mean())


def precision_and_recall(made: Features, real: Features, k: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """Return which samples lie within the real manifold, and which real examples within that of the samples.

    A manifold is the union of balls around its points that reach to their k-th neighbour (Kynkäänniemi et al. 2019,
    equations 1 and 2): precision and recall are the shares of true values.
    """
    return _within(made, real, k), _within(real, made, k)


def _within(points: Features, manifold: Features, k: int) -> np.ndarray:
    radius = np.sort(_squared(manifold, manifold), axis=1)[:, k]  # the 0th neighbour is the point itself
    return (_squared(points, manifold) <= radius).any(1)


def _squared(a: Features, b: Features) -> np.ndarray:
    return np.maximum((a * a).sum(1)[:, None] + (b * b).sum(1) - 2 * a @ b.T, 0)
