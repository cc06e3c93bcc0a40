"""The modules of a likelihood with one scale for all values: fixed, a parameter, or that of the batches seen."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array

from models.batch import Batch
from models.distributions import Normal, OptimalNormal, at_least_float32
from models.distributions.finite import DATA_HIGHEST, bounded
from models.networks.held import Held

MOMENTUM = 0.9  # of the running variance


def with_scale(cfg: Any) -> Any:
    """Return the module for `cfg.scale`."""
    modules = {"learned": LearnedScale, "optimal": OptimalScale}
    return modules.get(cfg.scale, Held)(cfg)


class LearnedScale(nnx.Module):
    """One log scale, trained with the rest and cut to [-20, 10] (see `bounded`)."""

    def __init__(self, cfg: Any):
        self.held = Held(cfg)
        self.log_scale = nnx.Param(jnp.asarray(cfg.initial_log_scale(), float))

    def __call__(self, out: Array, key: Any) -> Any:
        """Return p(x|z)."""
        return self.held().distribution(out, bounded(at_least_float32(self.log_scale[...]), DATA_HIGHEST))


class OptimalScale(nnx.Module):
    """In training the batch's best scale, in evaluation the running one."""

    def __init__(self, cfg: Any):
        self.held = Held(cfg)
        self.variance = nnx.BatchStat(jnp.asarray(jnp.exp(2 * cfg.initial_log_scale()), float))

    def __call__(self, out: Array, key: Any) -> Normal | OptimalNormal:
        """Return p(x|z)."""
        return (Normal if key is None else OptimalNormal)(
            out[..., 0], 0.5 * jnp.log(at_least_float32(self.variance[...]))
        )

    def track(self, p: OptimalNormal, batch: Batch) -> None:
        """Move the running variance towards that of this batch."""
        new = jax.lax.stop_gradient(p.variance(batch.x, batch.mask)).astype(self.variance[...].dtype)
        self.variance[...] = MOMENTUM * self.variance[...] + (1 - MOMENTUM) * new
