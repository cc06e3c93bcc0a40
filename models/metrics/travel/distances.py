"""Distances along the surface, for neighbours and clusters."""

from typing import Any

import numpy as np
from jaxtyping import Float

from models.metrics.travel.geodesics import geodesics
from models.metrics.travel.surface import Surface, checked


def distances(surface: Surface, a: Any, b: Any, **how: Any) -> Float[np.ndarray, " n"]:
    """Return the length of the geodesic between each a and b (n, latent), units of the surface; see `geodesics`."""
    return geodesics(surface, a, b, **how).length


def distance_matrix(
    surface: Surface, codes: Any, *, neighbours: int | None = None, **how: Any
) -> Float[np.ndarray, "n n"]:
    """Return the Riemannian distances between all codes (n, latent), as `metric="precomputed"` of scikit-learn takes.

    By a geodesic for every pair; with `neighbours`, by one for every pair of nearest neighbours (in the code) and
    shortest paths through that graph (Tenenbaum et al. 2000): n * neighbours geodesics in place of n² / 2. Pairs in
    different parts of the graph get inf.
    """
    (z,) = checked(surface, codes)
    codes = np.asarray(z)
    n = len(codes)
    if neighbours is None:
        i, j = np.triu_indices(n, 1)
    else:
        if not 1 <= neighbours < n:
            raise ValueError(f"neighbours must lie in 1..{n - 1}, got {neighbours}")
        apart = np.square(codes[:, None] - codes[None]).sum(2)
        np.fill_diagonal(apart, np.inf)
        near = np.argpartition(apart, neighbours - 1, axis=1)[:, :neighbours]
        pairs = np.sort(np.stack([np.repeat(np.arange(n), neighbours), near.reshape(-1)], 1), axis=1)
        i, j = np.unique(pairs, axis=0).T
    lengths = distances(surface, codes[i], codes[j], **how) if len(i) else np.zeros(0)
    if neighbours is None:
        out = np.zeros((n, n))
        out[i, j] = out[j, i] = lengths
        return out
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    return dijkstra(csr_array((lengths, (i, j)), shape=(n, n)), directed=False)  # edges of length 0 stay edges
