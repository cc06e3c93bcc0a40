"""One batch's way through a model, and the distance at its end."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, PRNGKeyArray

from models.batch import Batch, Pass, as_batch
from models.codes import draw, has_density, kl_terms, posterior_name
from models.config import ConfigError
from models.distributions import Bernoulli, sum_event

PerExample = Float[Array, " batch"]
Result = tuple[PerExample, dict[str, PerExample], Pass]
Error = Literal["squared", "cross_entropy", "nll"]
Step = Int[Array, ""] | int


class Answer(NamedTuple):
    """What a model makes of examples that it was not shown whole, for metrics and pictures."""

    name: str  # of the picture; its error is NAME_mse
    seen: Array  # what the encoder was given, (batch, *shape)
    mean: Array  # the answer
    mask: Array | None = None  # which values it is judged by; None: all observed ones


ERROR_TERMS = {"squared": "squared_error", "cross_entropy": "cross_entropy", "nll": "nll"}


def run(
    model: Any,
    batch: Batch | Array,
    key: PRNGKeyArray,
    training: bool,
    *,
    seen: Array | None = None,
    refine: Callable[..., Array] | None = None,
    patches: Array | None = None,
    hide: Callable[[Batch, PRNGKeyArray], Batch] | None = None,
) -> Pass:
    """Return the pass of a batch: q(z|x), a draw z of it and p(x|z); dropout and batch statistics in `training` only.

    seen: what the encoder is given in place of x. refine: (model, batch, numbers, key) -> better numbers of each
    example's own posterior. patches: those that an encoder of patches is to see. hide: (batch, key) -> what the encoder
    is shown of the batch; p is judged by all of it.
    """
    batch = as_batch(batch)
    for_encoder = for_decoder = None
    more = jax.random.fold_in(key, 7)
    if training:
        key, for_encoder, for_decoder = jax.random.split(key, 3)  # XLA drops what no layer uses
    shown = batch if seen is None else batch._replace(x=seen)
    shown = shown if hide is None else hide(shown, jax.random.fold_in(more, 3))
    kept: list[Any] = []
    numbers = own = model.numbers(model.sees(shown), for_encoder, batch.label, patches, kept)
    target: Batch = model.target(batch)
    if refine is not None:
        numbers = refine(model, target, numbers, more)
    q = model.posterior(numbers, for_encoder)
    z, log_q = draw(q, key)
    p = model.decode(z, for_decoder, batch.label)
    if training:
        model.track(p, target)
    if seen is not None or patches is not None or hide is not None:
        own, kept = None, []
    return Pass(model, target, q, z, log_q, p, more, training, own, numbers, tuple(kept))


def bound_terms(done: Pass, name: str) -> tuple[PerExample, Float[Array, "batch terms"]]:
    """Return -log p(x|z) and the KL terms of a pass. Raises ConfigError for a posterior without a density."""
    if not has_density(done.q):
        raise ConfigError(
            f"{name} needs a posterior with a density, got a {posterior_name(done.q)}: use posterior normal, "
            "or objective reconstruction"
        )
    prior = done.model.prior(done.batch.label, jax.random.fold_in(done.key, 1))
    nll = -done.p.log_prob(done.batch.x, done.batch.mask)
    return nll, kl_terms(done.q, prior, done.z, done.log_q)


def reconstruction_error(error: Error, p: Any, batch: Batch) -> PerExample:
    """Return the distance of x from p, summed over what was observed of the event.

    squared: Σ (x - mean)²; nll: -log p(x), nats; cross_entropy: -Σ x log m + (1 - x) log(1 - m), nats, from
    logits, so only for a Bernoulli likelihood (ConfigError otherwise).
    """
    if error == "squared":
        return sum_event(jnp.square(batch.x - p.mean), batch.mask)
    if error == "nll":
        return -p.log_prob(batch.x, batch.mask)
    if error != "cross_entropy":
        raise ConfigError(f"error must be squared, cross_entropy or nll, got {error!r}")
    if not isinstance(p, Bernoulli):
        raise ConfigError(
            f"error='cross_entropy' needs a Bernoulli likelihood, got {type(p).__name__}: use error='nll'"
        )
    return -p.log_prob(batch.x, batch.mask)


def watched(metrics: Mapping[str, Any]) -> Any:
    """Return what early stopping minimises (may be traced): the objective's own validation value at full weights."""
    return metrics["objective"]
