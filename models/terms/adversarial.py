"""A second player: a critic that tells ours from theirs, and the loss of making them alike."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from models.batch import Pass, Sizes
from models.codes import prior_codes
from models.config import ConfigError, config, setting
from models.distributions import softplus
from models.networks import Conv, Dense


@config
class Adversarial:
    """A critic C tells ours from theirs; the term is what makes ours pass for theirs (Goodfellow et al. 2014).

    data: decoded draws of the prior, and with an encoder decoded codes, against examples (GAN; VAE-GAN, Larsen et
    al. 2016). code: codes against draws of the prior (AAE, Makhzani et al. 2016; WAE-GAN, Tolstikhin et al. 2018).
    factors: codes against codes shuffled unit by unit, and the term is C itself, log q(z) / Π q(z_j) where C is at its
    best: the total correlation (FactorVAE, Kim & Mnih 2018). C gives logits of "theirs" (factors: of "ours").
    """

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""
    on: Literal["data", "code", "factors"] = "data"
    """what the critic sees: data, code (against the prior), factors (codes against shuffled codes)"""
    network: Dense | Conv = Dense((256,), "leaky_relu")  # type: ignore[call-arg]
    """the critic's network (conv only on data)"""

    @property
    def matches_prior(self) -> bool:
        """Whether draws of the prior are among what the critic sees."""
        return self.on != "factors"

    def check(self) -> None:
        """Raise ConfigError for a critic whose training mode matters: it has none."""
        if self.network.norm == "batch" or self.network.dropout:
            raise ConfigError("adversarial.network takes norm none or layer and no dropout")

    def build(self, sizes: Sizes, latent: int, rngs: nnx.Rngs) -> Any:
        """Return the critic, which sees the labels where the model does."""
        seen = sizes if self.on == "data" else Sizes((latent,))
        return self.network.build_encoder(seen, 1, self.classes(sizes.classes), rngs)

    def classes(self, classes: int) -> int:
        """Return how many numbers of a label the critic sees."""
        return classes if self.on == "data" else 0

    def critic(self, done: Pass, net: Any, values: Array) -> Float[Array, " batch"]:
        """Return the critic's logits."""
        classes = self.classes(done.model.classes)
        return net(values, None, done.model.hot(done.batch.label) if classes else None)[:, 0]

    def ours(self, done: Pass) -> list[Array]:
        """Return what is to pass for theirs."""
        if self.on != "data":
            return [done.z]
        if not jnp.issubdtype(done.batch.x.dtype, jnp.floating):
            raise ConfigError("adversarial on data needs a mean that has a gradient, symbols have none: use on code")
        if done.q is None:  # objective sampling: the pass decodes draws of the prior
            return [done.p.mean]
        z = prior_codes(done.model, done.key, done.batch.size, done.batch.label)
        return [done.p.mean, done.model.decode(z, None, done.batch.label).mean]

    def theirs(self, done: Pass) -> Array:
        """Return what ours are to pass for."""
        if self.on == "data":
            return done.batch.x
        if self.on == "code":
            return prior_codes(done.model, done.key, done.batch.size, done.batch.label)
        keys = jax.random.split(done.key, done.z.shape[1])
        return jax.vmap(jax.random.permutation, (0, 1), 1)(keys, done.z)

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return -log sigmoid(C(ours)), nats (the non-saturating loss); on factors C(ours)."""
        logits = [self.critic(done, net, values) for values in self.ours(done)]
        if self.on == "factors":
            return logits[0]
        return jnp.mean(jnp.stack([softplus(-c) for c in logits]), axis=0)

    def opponent(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the critic's cross-entropy, nats: twice log 2 where it cannot tell."""
        sign = -1.0 if self.on == "factors" else 1.0
        ours = [softplus(sign * self.critic(done, net, values)) for values in self.ours(done)]
        return jnp.mean(jnp.stack(ours), axis=0) + softplus(-sign * self.critic(done, net, self.theirs(done)))
