"""An autoencoder is encoder, posterior, decoder, likelihood and prior: a config, and the module it makes."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, PRNGKeyArray

from models import likelihoods
from models.config import ConfigError, config, setting, validate
from models.distributions import Distribution, Normal, OptimalNormal, Point
from models.networks import Conv, Dense, Mirror, mirrored
from models.networks.decoder import Decoder
from models.networks.encoder import Encoder
from models.networks.layers import activation
from models.priors import standard_normal

MOMENTUM = 0.9  # of the running variance that the optimal scale uses in evaluation


def full(x: Array) -> Array:
    """Return x in at least float32: distributions and losses never work in half precision."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


@config
class Model:
    """What an autoencoder is made of; the data's shape gives every size."""

    encoder: Dense | Conv = Dense()  # type: ignore[call-arg]
    """network from example to code"""
    decoder: Mirror | Dense | Conv = Mirror()
    """network from code to example; mirror: the encoder reversed"""
    latent: int = setting(20, at_least=1)
    """dimensions of the code"""
    posterior: Literal["point", "normal"] = "normal"
    """point: a plain autoencoder; normal: mean and standard deviation per code dimension"""
    code: str = "identity"
    """activation of a point code: identity, or any activation, such as sigmoid for KL sparsity"""
    likelihood: (
        likelihoods.Bernoulli
        | likelihoods.ContinuousBernoulli
        | likelihoods.Normal
        | likelihoods.Laplace
        | likelihoods.DiscretizedLogistic
        | likelihoods.Categorical
    ) = likelihoods.Bernoulli()
    """distribution of an example given its code"""

    def check(self) -> None:
        """Raise ConfigError for parts that do not fit each other."""
        activation(self.code)
        if self.posterior == "normal" and self.code != "identity":
            raise ConfigError(f"code={self.code!r} needs posterior='point': a normal code has no bounds")
        if isinstance(self.decoder, Mirror) and self.decoder.tied and self.likelihood.channels() > 1:
            raise ConfigError(
                f"tied weights need one decoder number per value, {type(self.likelihood).__name__} takes "
                f"{self.likelihood.channels()}: use decoder mirror with tied=False, or another likelihood"
            )


class Setting(nnx.Variable):
    """A float of the config: may be traced or stacked over runs, is never trained."""


class Autoencoder(nnx.Module):
    """encode(x) = q(z|x), decode(z) = p(x|z), prior() = p(z), for examples of `shape`.

    `encode` and `decode` with a key are in training mode (dropout on, batch statistics used and updated);
    without, in evaluation mode. What changes in training besides `nnx.Param` are `nnx.BatchStat`s: split them
    off and return them. Raises ConfigError for an impossible config or shape.
    """

    def __init__(self, cfg: Model, shape: tuple[int, ...], *, rngs: nnx.Rngs, pixel_mean: Array | None = None):
        validate(cfg)
        if not shape or min(shape) < 1:
            raise ConfigError(f"every axis of an example must be at least 1, got shape {tuple(shape)}")
        likelihood = cfg.likelihood
        self.shape, self.latent, self.posterior, self.code = tuple(shape), cfg.latent, cfg.posterior, cfg.code
        self.tied = isinstance(cfg.decoder, Mirror) and cfg.decoder.tied
        decoder = mirrored(cfg.encoder) if isinstance(cfg.decoder, Mirror) else cfg.decoder
        numbers = cfg.latent * (2 if cfg.posterior == "normal" else 1)
        self.encoder = Encoder(cfg.encoder, self.shape, numbers, rngs=rngs)
        self.decoder = Decoder(decoder, cfg.latent, self.shape, likelihood.channels(), tied=self.tied, rngs=rngs)
        if pixel_mean is not None:
            self.decoder.set_bias(likelihood.bias(jnp.asarray(pixel_mean, float).reshape(self.shape)))
        leaves, self._likelihood = jax.tree.flatten(likelihood)
        self._settings = nnx.List([Setting(jnp.asarray(leaf, float)) for leaf in leaves])
        scale: Any = likelihood.initial_log_scale()
        self.log_scale = nnx.Param(jnp.asarray(scale, float)) if likelihoods.learned(likelihood) else None
        optimal = likelihoods.optimal(likelihood)
        self.variance = nnx.BatchStat(jnp.asarray(jnp.exp(2 * scale), float)) if optimal else None

    @property
    def likelihood(self) -> Any:
        """Return the likelihood's config, its floats as they were given (possibly traced)."""
        return jax.tree.unflatten(self._likelihood, [s[...] for s in self._settings])

    def encode(self, x: Float[Array, "batch *shape"], key: PRNGKeyArray | None = None) -> Normal | Point:
        """Return q(z|x): codes of shape (batch, latent)."""
        if x.shape[1:] != self.shape:
            raise ValueError(f"this model takes examples of shape {self.shape}, got {x.shape[1:]}")
        numbers = full(self.encoder(self.cast(x), key))
        if self.posterior == "point":
            return Point(activation(self.code)(numbers))
        return Normal(numbers[:, : self.latent], numbers[:, self.latent :])

    def decode(self, z: Float[Array, "batch latent"], key: PRNGKeyArray | None = None) -> Distribution:
        """Return p(x|z): examples of shape (batch, *shape)."""
        out = full(self.decoder(self.cast(z), key, self.encoder.kernels(self.latent) if self.tied else ()))
        if self.variance is not None:
            log_std = 0.5 * jnp.log(self.variance[...])
            return (Normal if key is None else OptimalNormal)(out[..., 0], log_std)
        return self.likelihood.distribution(out, None if self.log_scale is None else self.log_scale[...])

    def cast(self, x: Array) -> Array:
        """Return x in the networks' dtype where that is a short one: bfloat16 parameters mean bfloat16 arithmetic."""
        dtype = self.encoder.head.kernel[...].dtype
        return x.astype(dtype) if dtype.itemsize < 4 else x

    def prior(self) -> Normal:
        """Return p(z), a standard normal with a batch of one."""
        return standard_normal(self.latent)

    def track(self, p: Distribution, x: Float[Array, "batch *shape"]) -> None:
        """Move the running variance towards that of this batch, if `p` has an optimal scale."""
        if self.variance is not None and isinstance(p, OptimalNormal):
            new = jax.lax.stop_gradient(p.variance(x)).astype(self.variance[...].dtype)
            self.variance[...] = MOMENTUM * self.variance[...] + (1 - MOMENTUM) * new

    @property
    def dimensions(self) -> int:
        """Return the number of values in an example."""
        return math.prod(self.shape)
