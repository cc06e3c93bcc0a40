"""Second derivatives of the decoder: the Hessian penalty."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from models.batch import Pass
from models.config import config, setting
from models.terms.geometry.halves import of_pass, random_key, several, signs


@config
class HessianPenalty:
    """Var_v [vᵀ H_k v] of every output k over vectors v of signs: 2 Σ_{i≠j} (H_k)_ij², in expectation.

    Code units whose effects do not mix have diagonal Hessians (Peebles et al. 2020, "The Hessian penalty"; they take
    finite differences, here jvp of jvp: exact). Squared units of the output per fourth power of the code's unit.
    """

    NAME = "hessian_penalty"

    weight: float = setting(1.0, at_least=0)
    """factor of the term"""
    probes: int = setting(2, at_least=2)
    """random directions, whose sample variance is taken; unbiased from 2 on"""
    over: Literal["max", "mean", "sum"] = "max"
    """how the outputs are joined; max is the paper's"""

    def __call__(self, done: Pass, net: Any) -> Float[Array, " batch"]:
        """Return the penalty of each example; ConfigError for a code of one unit: it cannot mix."""
        import grads

        half = of_pass(done, "decoder", "hessian_penalty")
        several(half, "hessian_penalty")

        def curved(key: Any) -> Array:
            v = signs(key, half.at)
            return grads.jvp(lambda z: grads.jvp(lambda at: half(at), z, v)[1], half.at, v)[1]

        keys = jax.random.split(random_key(done, "hessian_penalty"), self.probes)
        variance = jnp.var(jax.vmap(curved)(keys), axis=0, ddof=1)
        return jnp.max(variance, 1) if self.over == "max" else getattr(jnp, self.over)(variance, axis=1)
