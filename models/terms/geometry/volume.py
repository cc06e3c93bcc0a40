"""Log-volume: how much a half of the model stretches its space, by QR and with a derivative of its own."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import ConfigError, config, setting
from models.terms.geometry.halves import encoder, of_pass, random_key, signs, tall


@jax.custom_jvp
def half_log_det(j: Float[Array, "*batch m n"]) -> Float[Array, "*batch"]:
    """Return ½ log det JᵀJ = Σ log |R_ii| of J = QR (m >= n), nats; -inf where J has not full rank.

    JᵀJ would square the condition number: in float32 it is off by nats at a condition of 1e6. The derivative is
    tr(J⁺ dJ) with J⁺ = R⁻¹ Qᵀ, one triangular solve in place of the derivative of a QR decomposition.
    """
    r = jnp.linalg.qr(j, mode="r")
    return jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1))), axis=-1)


@half_log_det.defjvp
def _half_log_det_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (j,), (dj,) = primals, tangents
    q, r = jnp.linalg.qr(j)
    value = jnp.sum(jnp.log(jnp.abs(jnp.diagonal(r, axis1=-2, axis2=-1))), axis=-1)
    inverse = jax.scipy.linalg.solve_triangular(r, jnp.swapaxes(q, -1, -2))
    return value, jnp.sum(jnp.swapaxes(inverse, -1, -2) * dj, axis=(-2, -1))


@config
class LogVolume:
    """½ log det J_gᵀJ_g of the decoder at the codes, or ½ log det J_f J_fᵀ of the encoder at the examples, nats.

    -log p(f(x)) + ½ log det J_gᵀJ_g is the exact -log-likelihood on a decoder's manifold (Caterini et al. 2021);
    with a weight on the squared error it is a free-form injective flow, whose surrogate is way "surrogate":
    -vᵀ J_f SG(J_g v), the gradient of the same quantity in the encoder where f inverts g (Sorrenson et al. 2024). The
    surrogate's value is about minus the latent dimension and means nothing: only its gradient does.
    """

    NAME = "log_volume"

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""
    of: Literal["decoder", "encoder"] = "decoder"
    """whose volume: decoder, encoder (exact only)"""
    way: Literal["exact", "surrogate"] = "exact"
    """exact: QR of the whole J; surrogate: one jvp of each half, for its gradient only"""

    def check(self) -> None:
        """Raise ConfigError for the surrogate of the encoder's volume: there is none."""
        if self.way == "surrogate" and self.of == "encoder":
            raise ConfigError("log_volume.way surrogate stands for the decoder's volume: use of decoder, or way exact")

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the log-volume of each example; ConfigError for a decoder narrower than its code."""
        half = of_pass(done, self.of, "log_volume")
        if self.way == "surrogate":
            return self.surrogate(done)
        if self.of == "encoder":
            tall(of_pass(done, "decoder", "log_volume"), "log_volume")
            return half_log_det(jnp.swapaxes(half.jacobians(), 1, 2))
        tall(half, "log_volume")
        return half_log_det(half.jacobians())

    def surrogate(self, done: Pass) -> Float[Array, " batch"]:
        """Return -vᵀ J_f(x) SG(J_g(z) v) for one v of signs."""
        g = of_pass(done, "decoder", "log_volume")
        tall(g, "log_volume")
        f = encoder(done.model, done.batch.x, done.batch.label, done.batch.mask, "log_volume")
        v = signs(random_key(done, "log_volume"), g.at)
        return -jnp.sum(v * f.push(jax.lax.stop_gradient(g.push(v))), axis=1)
