"""The evidence lower bound with its weights and schedules."""

from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from models.batch import Batch
from models.codes import draw
from models.config import ConfigError, config, setting, with_traced
from models.distributions import sum_event
from models.objectives.corruption import CORRUPTIONS
from models.objectives.passing import PerExample, Result, Step, bound_terms, run, watched


@config
class ELBO:
    """nll + beta |KL_free - capacity|: minus the evidence lower bound at beta = 1 and the other fields at 0.

    beta: Higgins et al. 2017. Warm-up: Bowman et al. 2016, Sønderby et al. 2016. Capacity: Burgess et al.
    2018, with beta as their gamma. Free bits: Kingma et al. 2016, equation 15. Needs a posterior
    with a density; free bits and the refusal of a dimension act on the whole KL where it has no closed form. It is then
    log q(z) - log p(z) of a draw, which may be negative: without free bits and capacity it counts as it is.
    """

    beta: float = setting(1.0, at_least=0)
    """weight of the KL term"""
    warmup_steps: int = setting(0, at_least=0)
    """steps over which the weight rises linearly from 0 to beta; 0: no warm-up"""
    free_bits: float = setting(0.0, at_least=0)
    """nats of KL per code dimension, on average over the batch, below which it costs a constant; 0: none"""
    capacity: float = setting(0.0, at_least=0)
    """nats of KL that the code should hold: the distance from it is penalised; 0: the KL itself"""
    capacity_steps: int = setting(0, at_least=0)
    """steps over which the capacity rises linearly from 0; 0: constant from the start"""

    refine_steps: int = setting(0, at_least=0)
    """semi-amortised: gradient steps on each example's own posterior before the draw (Kim et al. 2018); 0: none"""
    refine_rate: float = setting(0.01, at_least=0)
    """size of these steps"""
    hide: Literal["none", "mask", "block"] = "none"
    """in training the encoder is not shown a part of what was observed, which the likelihood still judges, so that
    codes of examples that miss different values agree. mask: values here and there; block: a square of an image"""
    hide_share: float = setting(0.5, at_least=0, at_most=1)
    """share of the values (block: of the area of a square image) that is hidden"""

    criterion = staticmethod(watched)

    def __call__(self, model: Any, batch: Batch | Any, key: PRNGKeyArray, training: bool = True) -> Result:
        """Return the loss with the terms nll, kl (closed where it can be) and negative_elbo = nll + kl, all nats.

        Raises ConfigError for symbols, of which nothing can be hidden, and for a posterior without a density.
        """
        hide = self.hidden if training and self.hide != "none" else None
        if hide and getattr(model, "symbolic", False):
            raise ConfigError(f"hide {self.hide} is for numbers, not for symbols: use the decoder's drop_words")
        done = run(model, batch, key, training, refine=self.refine if self.refine_steps else None, hide=hide)
        nll, kl_terms = bound_terms(done, "ELBO")
        kl = sum_event(kl_terms)
        loss = nll + self.beta * self.distance(self.free(kl_terms))
        return loss, {"nll": nll, "kl": kl, "negative_elbo": nll + kl}, done

    def refine(self, model: Any, batch: Batch, numbers: Float[Array, "batch n"], key: PRNGKeyArray) -> Any:
        """Return the encoder's numbers after gradient ascent on each example's own one-draw bound, differentiable.

        The numbers are each example's own whatever the posterior makes of them; the noise is that of every step.
        """
        prior = model.prior(batch.label, key)

        def bound(numbers: Array) -> Array:
            z, log_q = draw(model.posterior(numbers), key)
            log_x = model.decode(z, None, batch.label).log_prob(batch.x, batch.mask)
            return jnp.sum(log_x + prior.log_prob(z) - log_q)

        for _ in range(self.refine_steps):
            step = jax.grad(bound)(numbers)
            if getattr(model.posterior_module, "sees_example", False):  # the example beside them stays what it is
                step = step.at[:, -model.dimensions :].set(0)
            numbers = numbers + self.refine_rate * step
        return numbers

    def hidden(self, batch: Batch, key: PRNGKeyArray) -> Batch:
        """Return what the encoder is shown: a batch that observed less, 0 elsewhere."""
        shown = CORRUPTIONS[self.hide](jnp.ones_like(batch.x), key, self.hide_share) > 0
        shown = shown if batch.mask is None else shown & batch.mask
        return batch._replace(x=jnp.where(shown, batch.x, 0), mask=shown)

    def free(self, kl_terms: Float[Array, "batch latent"]) -> PerExample:
        """Return Σ_j of KL_j where its batch mean exceeds `free_bits`, else of `free_bits`; Σ_j KL_j at 0.

        The mean over the batch is Σ_j max(free_bits, mean KL_j), and so is its gradient.
        """
        used = jnp.mean(kl_terms, axis=0, keepdims=True) > self.free_bits
        none = jnp.asarray(self.free_bits) <= 0  # the mean of one draw's terms may lie below 0
        return sum_event(jnp.where(used | none, kl_terms, self.free_bits))

    def distance(self, kl: PerExample) -> PerExample:
        """Return |KL - capacity|, KL itself at capacity 0: the absolute value of a draw's would be no bound."""
        return jnp.where(jnp.asarray(self.capacity) > 0, jnp.abs(kl - self.capacity), kl)

    @property
    def ramp_steps(self) -> int:
        """Steps after which every weight is at its full value."""
        return max(self.warmup_steps, self.capacity_steps)

    def at(self, step: Step) -> "ELBO":
        """Return the objective of that (possibly traced) step: beta and capacity on their ramps."""
        return with_traced(
            self,
            beta=self.beta * ramp(step, self.warmup_steps),
            capacity=self.capacity * ramp(step, self.capacity_steps),
            warmup_steps=0,
            capacity_steps=0,
        )


def ramp(step: Step, steps: int) -> Any:
    """Return min(1, step / steps); 1 when `steps` is 0."""
    return 1.0 if steps == 0 else jnp.clip(jnp.asarray(step) / steps, 0, 1)
