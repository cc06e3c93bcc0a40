"""Total correlation of the code, estimated within the batch."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.codes import posterior_name
from models.config import ConfigError, config, setting
from models.distributions import LOG_2PI, Normal


def stratified(batch: int, examples: int) -> Float[Array, "batch batch"]:
    """Return log weights with which Σ_j W_ij q(z_i|x_j) estimates q(z_i), z_i drawn from q(z|x_i).

    Example i itself is one of `examples`, 1 / N on the diagonal; the other B - 1 stand for the other N - 1. Every row
    sums to 1 (Chen et al. 2018, appendix C.2: minibatch stratified sampling, with the weight of x_i where it belongs).
    """
    others = jnp.log((examples - 1) / (examples * (batch - 1.0)))
    return jnp.where(jnp.eye(batch, dtype=bool), -jnp.log(float(examples)), others)


@config
class TotalCorrelation:
    """KL(q(z) || Π_j q(z_j)), nats, q(z) the mean posterior of the training set (beta-TCVAE, Chen et al. 2018).

    Needs posterior normal: the densities of single units. From a batch it is biased, and more so the larger the set.
    """

    NAME = "total_correlation"

    weight: float = setting(5.0)
    """factor of the term: beta - 1 of a beta-TCVAE"""
    examples: int = setting(0, at_least=0)
    """number of training examples that q(z) is over; 0: those of the run (the batch, in a model built without data)"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return log q(z) - Σ_j log q(z_j) of each code, by stratified weights."""
        joint, units = aggregate(done, self.examples or done.model.examples)
        return joint - jnp.sum(units, axis=1)


def aggregate(done: Pass, examples: int) -> tuple[Float[Array, " batch"], Float[Array, "batch latent"]]:
    """Return log q(z_i) and log q(z_ij), nats: the aggregate posterior at the batch's codes, whole and by unit.

    Raises ConfigError for another posterior than normal, a batch of one, or a batch above `examples`.
    """
    q, z = done.q, done.z
    if not isinstance(q, Normal):
        raise ConfigError(f"total_correlation needs posterior normal, got {posterior_name(q)}")
    batch = z.shape[0]
    n = examples or batch
    if batch < 2 or n < batch:
        raise ConfigError(f"total_correlation.examples must be at least the batch, 2 or more: got {n}, batch {batch}")
    gap = (z[:, None] - q.mean[None]) * jnp.exp(-q.log_std[None])
    each = -0.5 * (gap * gap + LOG_2PI) - q.log_std[None]  # (code, example, unit)
    weight = stratified(batch, n)
    joint = jax.nn.logsumexp(jnp.sum(each, axis=2) + weight, axis=1)
    return joint, jax.nn.logsumexp(each + weight[..., None], axis=1)
