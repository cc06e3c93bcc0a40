"""A standard deviation of p(x|z) that grows away from the data, where a decoder knows nothing."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from models.config import ConfigError


class Spread(NamedTuple):
    """σ(z) = (Σ_k w_k exp(-½ |z - c_k|² / s_k²) + floor)^(-1/2) for every value (Arvanitidis et al. 2018, sec. 4).

    Far from every centre σ is floor^(-1/2), the largest that it becomes.
    """

    centres: Float[Array, "k latent"]
    scales: Float[Array, " k"]
    precisions: Float[Array, "k values"]
    floor: Float[Array, " values"]

    def __call__(self, z: Float[Array, "n latent"]) -> Float[Array, "n values"]:
        """Return the standard deviations."""
        apart = jnp.sum(jnp.square(z[:, None] - self.centres[None]), axis=2) / jnp.square(self.scales)[None]
        return 1 / jnp.sqrt(jnp.exp(-0.5 * apart) @ self.precisions + self.floor[None])


def fit_spread(model: Any, x: Any, *, centres: int = 32, far: float = 1.0, label: Any = None, seed: int = 0) -> Spread:
    """Return the spread of a model around the codes of examples x (n, *shape), as the model sees them.

    Centres by k-means; s_k: 1.25 times the mean distance of its codes; w_k: 1 / mean squared residual of its examples,
    value by value (at least 10⁻⁴ squared units). far: σ away from the data, units of x. Raises ConfigError for fewer
    examples than centres.
    """
    from sklearn.cluster import KMeans

    if len(x) < centres or centres < 1:
        raise ConfigError(f"a spread of {centres} centres needs at least as many examples, got {len(x)}")
    z = model.encode(jnp.asarray(x), None, label).mean
    rest = np.square(np.asarray(x - model.decode(z, None, label).mean)).reshape(len(x), -1)
    codes = np.asarray(z)
    means = KMeans(centres, n_init=1, random_state=seed).fit(codes)
    near = np.eye(centres)[means.labels_]
    count = np.maximum(near.sum(0), 1)
    distance = near.T @ np.linalg.norm(codes - means.cluster_centers_[means.labels_], axis=1) / count
    distance = np.where(distance > 0, distance, distance[distance > 0].mean() if (distance > 0).any() else 1)
    precision = 1 / np.maximum(near.T @ rest / count[:, None], 1e-4)
    floor = np.full(rest.shape[1], far**-2)
    arrays = (means.cluster_centers_, 1.25 * distance, precision, floor)
    return Spread(*(jnp.asarray(a, jnp.result_type(float)) for a in arrays))
