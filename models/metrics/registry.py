"""The list of metrics: what each is called, what it needs, and the function that measures it.

    function(subject) -> {name: Measured(value, unit, error)}

A new metric is one function and one line of METRICS; the command line (`python -m experiments.evaluate`) chooses by
name. They run on the host, for tables and sweeps as well (`experiments.running.listed`).
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch
from models.config import ConfigError, nearest
from models.distributions import VonMisesFisher
from models.metrics import annealed, discrete, information, probes
from models.metrics.compression import compression
from models.metrics.compression import why_not as no_compression
from models.metrics.estimates import Measured, mean_of
from models.metrics.geometry import report_card
from models.metrics.known import factors, ranking
from models.metrics.likelihood import log_likelihood
from models.metrics.samples import samples
from models.metrics.subject import Subject
from models.networks.held import Held
from models.priors.deeper import Inner

Need = Callable[[Subject], str]
"""Why a subject cannot have a metric, in one line; empty where it can."""


class Metric(NamedTuple):
    """One entry: some numbers that are measured together."""

    name: str
    about: str
    function: Callable[[Subject], dict[str, Measured]]
    needs: tuple[Need, ...] = ()
    cheap: bool = True
    """seconds for a test set: measured when nobody names metrics"""
    shown: tuple[str, ...] = ()
    """which of many numbers are columns of a table (none named: all)"""

    def why_not(self, subject: Subject) -> str:
        """Return why the subject cannot have this metric, empty where it can."""
        return next((why for need in self.needs if (why := need(subject))), "")


def an_encoder(subject: Subject) -> str:
    """Need an encoder."""
    return "" if subject.posterior is not None else "the model has no encoder, so there are no codes"


def a_density(subject: Subject) -> str:
    """Need a posterior with a density."""
    return an_encoder(subject) or ("" if subject.dense else "codes are points (posterior point): they have no density")


def a_continuous_density(subject: Subject) -> str:
    """Need a density that can be asked about any code."""
    if why := a_density(subject):
        return why
    if subject.discrete:
        return "codes are discrete: see the metric codes"
    known = hasattr(subject.posterior, "log_prob")
    return "" if known else "the posterior knows the density of its own draws only (posterior flow)"


def one_prior(subject: Subject) -> str:
    """Need a prior that is the same for every example."""
    try:
        jax.eval_shape(lambda model: model.prior(None, jax.random.key(0)), subject.model)
    except ValueError:
        return "the prior is one for each label: there is no one p(z)"
    return ""


def discrete_codes(subject: Subject) -> str:
    """Need codes that are choices among entries."""
    return an_encoder(subject) or (
        "" if subject.discrete else "codes are not discrete: use posterior vq, fsq or gumbel"
    )


def known_factors(subject: Subject) -> str:
    """Need factors that the examples were made from."""
    known = subject.test.factors is not None
    return an_encoder(subject) or ("" if known else "the data have no known factors (dataset sprites has)")


def labels_in_training(subject: Subject) -> str:
    """Need labelled training examples."""
    if subject.train is None:
        return "the training examples are not at hand (a stream, or --data)"
    known = subject.train.labels is not None and subject.test.labels is not None
    if why := an_encoder(subject) or ("" if known else "the data have no labels"):
        return why
    one = len(np.unique(np.asarray(subject.train.labels))) < 2
    return "all training examples have the same label: there is nothing to tell apart" if one else ""


def labelled_training(subject: Subject) -> str:
    """Need labelled training examples, with or without an encoder."""
    if subject.train is None:
        return "the training examples are not at hand (a stream, or --data)"
    return "" if subject.train.labels is not None else "the data have no labels to train a classifier of features on"


def two_classes(subject: Subject) -> str:
    """Need labels 0 and 1."""
    if subject.test.labels is None:
        return "the data have no labels"
    found = np.unique(subject.test.labels)
    return "" if found.tolist() == [0, 1] else f"it takes the labels 0 and 1, the data have {len(found)} classes"


def two_examples(subject: Subject) -> str:
    """Need more than one example."""
    return "" if subject.test.size > 1 else "there is only one example"


def choices_of_users(subject: Subject) -> str:
    """Need rows of choices, some user with two."""
    if why := an_encoder(subject):
        return why
    if not subject.ratings:
        return "the data are no ratings, who chose which items (--kind ratings): there is nothing to recommend"
    if subject.model.classes:
        return "a model with labels ranks no items"
    two = (np.asarray(subject.test.batch.x) > 0).sum(1) > 1
    return "" if two.any() else "no user has two choices: with one hidden none is left to go by"


def a_prior(subject: Subject) -> str:
    """Need a prior that training knew."""
    if subject.posterior is None or subject.dense or subject.matched:
        return ""
    return "codes are points that no term drew to the prior: train with mmd, sliced_wasserstein or adversarial"


def five_examples(subject: Subject) -> str:
    """Need enough examples, of training as well, for third neighbours and spreads without a part of them."""
    fewest = min(subject.test.size, subject.train.size if subject.train else 0)
    return "" if fewest >= 5 else f"it takes 5 examples, of training as well, here are {fewest}"


def _geometry(subject: Subject) -> dict[str, Measured]:
    """Return the report card; its numbers have units in their names, and no standard errors."""
    try:
        card = report_card(subject.model, subject.test.batch, subject.key("geometry"))
    except ValueError as error:  # Jacobians that are not finite
        raise ConfigError(str(error)) from None
    return {name: Measured(value, "nats" if name.endswith("_nats") else "", None) for name, value in card.items()}


def free_codes(subject: Subject) -> str:
    """Need a density p(z) on all of space, known exactly, that a model samples from, and a trained one p(x|z)."""
    if subject.posterior is not None and (why := a_density(subject)):
        return why
    held = subject.model.likelihood_module
    if subject.posterior is None and not (isinstance(held, Held) and held().channels() == 1):
        return "the model has no encoder: samples trained the mean of p(x|z) alone, not the spread of its density"
    if subject.discrete or subject.model.classes:
        return "it moves codes freely: not discrete ones, and in a model without labels"
    if not hasattr(jax.eval_shape(lambda m: m.prior(None, jax.random.key(0)), subject.model), "log_prob"):
        return "the prior has no density"
    inner = isinstance(subject.model.prior_module, Inner) or isinstance(subject.posterior, VonMisesFisher)
    return "the prior's density is a bound, or that of a sphere" if inner else ""


def _annealed(subject: Subject) -> dict[str, Measured]:
    """Return the bound of the examples, and how far it may be from the truth: on examples that the model makes."""
    bound = lambda m, b, k: annealed.annealed(m, b, k)["annealed_lower_nats"]
    lower = subject.each(bound, "annealed", chunk=64)

    def gap(model: Autoencoder, batch: Batch, key: PRNGKeyArray) -> Array:
        x, z = annealed.simulated(model, key, batch.x.shape[0])
        both = annealed.annealed(model, x, jax.random.fold_in(key, 1), exact=z)
        return both["annealed_upper_nats"] - both["annealed_lower_nats"]

    return {
        "annealed_lower_nats": mean_of(lower, "nats"),
        "annealed_gap_nats": mean_of(subject.each(gap, "annealed_gap", chunk=64), "nats"),
    }


def _log_likelihood(subject: Subject) -> dict[str, Measured]:
    bound = lambda m, b, k: log_likelihood(m, b, k, subject.samples)["log_likelihood_nats"]
    values = subject.each(bound, "log_likelihood")
    return {"log_likelihood_nats": mean_of(values, "nats")}


METRICS: tuple[Metric, ...] = (
    Metric("errors", "errors and the bound, as training reports them", information.errors, (an_encoder,)),
    Metric("rate_distortion", "rate and distortion", information.rate_distortion, (a_density,)),
    Metric("kl", "KL of every dimension of the code, and of every level", information.kl, (a_density,)),
    Metric("active_units", "units that the examples move", information.active_units, (a_density,)),
    Metric(
        "aggregate",
        "mutual information, KL of the mean posterior, total correlation: over all examples",
        information.aggregate,
        (a_continuous_density, one_prior, two_examples),
    ),
    Metric(
        "minibatch",
        "mutual information and total correlation by stratified batches",
        information.minibatch,
        (a_continuous_density, two_examples),
    ),
    Metric("codes", "entropy, perplexity and use of discrete codes", discrete.codes, (discrete_codes,)),
    Metric("mig", "mutual information gap between the two best units", factors.mig, (known_factors, two_examples)),
    Metric("sap", "gap between the two most predictive units", factors.sap, (known_factors, two_examples)),
    Metric("modularity", "whether a unit tells of one factor only", factors.modular, (known_factors, two_examples)),
    Metric(
        "factor_vae",
        "FactorVAE's score: votes of the steadiest unit",
        factors.factor_vae,
        (known_factors, two_examples),
    ),
    Metric(
        "dci",
        "disentanglement, completeness, informativeness",
        factors.dci_of,
        (known_factors, two_examples),
        cheap=False,
    ),
    Metric("probes", "labels read from codes: linear, nearest neighbours", probes.probes, (labels_in_training,)),
    Metric("ndcg", "hidden choices among the first 100 items, by place", ranking.ndcg_of, (choices_of_users,)),
    Metric("recall", "hidden choices among the first 20 and 50 items", ranking.recall_of, (choices_of_users,)),
    Metric("detection", "the loss as a score of class 1 against class 0", probes.detection, (an_encoder, two_classes)),
    Metric("log_likelihood", "importance-weighted log p(x)", _log_likelihood, (a_density,), cheap=False),
    Metric(
        "annealed",
        "log p(x) by annealed importance sampling, and its gap on examples that the model makes",
        _annealed,
        (one_prior, free_codes),
        cheap=False,
    ),
    Metric(
        "samples",
        "samples beside data, by features of our own classifier: Fréchet distance, MMD, precision, recall",
        samples,
        (labelled_training, five_examples, a_prior),
        cheap=False,
    ),
    Metric(
        "compression",
        "bits of a file that decodes exactly, beside gzip, bz2, PNG and WebP",
        compression,
        (no_compression,),
        cheap=False,
    ),
    Metric(
        "geometry",
        "the report card of both Jacobians",
        _geometry,
        (an_encoder, two_examples),
        cheap=False,
        shown=(
            "encoder_jacobian_squared",
            "decoder_jacobian_squared",
            "orthogonality_distance",
            "metric_condition_median",
            "log_volume_gap_nats",
        ),
    ),
)
BY_NAME = {metric.name: metric for metric in METRICS}


def chosen(names: Iterable[str] | None) -> list[Metric]:
    """Return the metrics of these names, in the order of the list; None: the cheap ones. Raises ConfigError."""
    if names is None:
        return [metric for metric in METRICS if metric.cheap]
    wanted = list(names)
    for name in wanted:
        if name not in BY_NAME:
            raise ConfigError(f"no metric is called {name!r}; nearest: {', '.join(nearest(name, BY_NAME))}")
    return [metric for metric in METRICS if metric.name in wanted]


def measure(
    subject: Subject, names: Iterable[str] | None = None
) -> tuple[dict[str, dict[str, Measured]], dict[str, str]]:
    """Return what the chosen metrics say, by metric, and for those that the subject cannot have: why.

    names: None for the cheap ones. A metric that finds out only on its way that it does not fit (ConfigError) is among
    the reasons. Raises ConfigError for an unknown name.
    """
    found: dict[str, dict[str, Measured]] = {}
    reasons: dict[str, str] = {}
    for metric in chosen(names):
        reasons[metric.name] = metric.why_not(subject)
        if not reasons[metric.name]:
            try:
                found[metric.name] = metric.function(subject)
            except ConfigError as error:
                reasons[metric.name] = str(error)
    return found, {name: why for name, why in reasons.items() if why}
