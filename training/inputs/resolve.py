"""From a config as asked to one that fits the data: the likelihood chosen, and every support checked."""

import dataclasses
from typing import Any

import numpy as np

import data
from models import Model, Recurrent, Sampling, SemiSupervised, likelihoods
from models.config import ConfigError, kind
from models.networks import Bag
from models.networks.nothing import Nothing
from training.inputs.support import check_support, levels_of, scaled_range

ON_CODES = ("mmd", "sliced_wasserstein", "sparsity", "codenorm")  # terms that see q and z, never what is decoded
TABLE_STD = 0.3  # first standard deviation of a table's normal, in units of the scaled values' spread


def resolved(config: Any, dataset: data.Dataset, train: Any = None) -> Any:
    """Return a `train.Config` whose likelihood fits the data: `auto` replaced, levels filled in, support checked.

    train: training examples left on disk, with `blocks()`, which are read once where the support needs every value.
    Raises data.DataError, one line with the range and the way out, where scaled values lie outside the support of the
    likelihood or of the objective's error. Raises ConfigError for a network that nothing trains.
    """
    all_trained(config)
    if dataset.text:
        config = as_text(config, dataset)
    if dataset.ratings:
        config = as_choices(config)
    likelihood = config.model.likelihood
    if isinstance(likelihood, likelihoods.AutoLikelihood):
        likelihood = suited(config, dataset)
    if getattr(likelihood, "levels", None) == 0:
        likelihood = dataclasses.replace(likelihood, levels=levels_of(dataset) or 256)
    if getattr(likelihood, "symbols", None) == 0:
        likelihood = dataclasses.replace(likelihood, symbols=max(2, round(scaled_range(dataset)[1]) + 1))
    if isinstance(likelihood, likelihoods.BernoulliLikelihood):
        likelihood = dataclasses.replace(likelihood, grey=not dataset.bits and config.binarise == "none")
    if likelihood is not config.model.likelihood:
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, likelihood=likelihood))
    if dataset.missing and config.model.marks == "auto" and not config.model.unmarked():
        config = dataclasses.replace(config, model=dataclasses.replace(config.model, marks="on"))
    check_support(config, dataset, train)
    return config


def all_trained(config: Any) -> None:
    """Raise ConfigError for an encoder, decoder or classifier that no loss reaches: its figures would be by chance.

    So too for a run without any loss.
    """
    if isinstance(config.objective, Sampling) and not config.terms:
        raise ConfigError("objective sampling has no loss of its own, only terms act: add --terms adversarial")
    kinds = {kind(type(term)): term for term in config.terms}
    at = {name: getattr(term, "on", "code" if name in ON_CODES else "data") for name, term in kinds.items()}
    if isinstance(config.objective, Sampling) and "data" not in at.values():
        raise ConfigError(
            f"objective sampling decodes, and {', '.join(at)} see codes alone, so the decoder would stay as it was "
            "drawn: add --terms adversarial, on data"
        )
    if isinstance(config.objective, Sampling) and not isinstance(config.model.encoder, Nothing):
        raise ConfigError(
            "objective sampling never encodes, so its encoder would stay as it was drawn: use --model.encoder none "
            "--model.decoder dense"
        )
    if config.model.labels == "inferred" and not isinstance(config.objective, SemiSupervised):
        raise ConfigError(
            f"labels inferred are those of a classifier, and objective {kind(type(config.objective))} trains none: use "
            "--objective semisupervised, or labels given"
        )


def as_text(config: Any, dataset: data.Dataset) -> Any:
    """Return a config for symbols: likelihood tokens for auto, a recurrent network in place of the default one.

    Raises data.DataError for an error that needs a distance between symbols.
    """
    model = config.model
    if getattr(config.objective, "error", "nll") != "nll":
        raise data.DataError(f"{dataset.name}: symbols of a text have no distance; use --objective.error nll")
    if isinstance(model.likelihood, likelihoods.AutoLikelihood):
        model = dataclasses.replace(model, likelihood=likelihoods.TokensLikelihood())
    if model.encoder == Model().encoder:
        model = dataclasses.replace(model, encoder=Recurrent())
    return dataclasses.replace(config, model=model)


def as_choices(config: Any) -> Any:
    """Return a config for what users chose: likelihood multinomial for auto, encoder bag for the default one."""
    model = config.model
    if isinstance(model.likelihood, likelihoods.AutoLikelihood) and getattr(config.objective, "error", "nll") == "nll":
        model = dataclasses.replace(model, likelihood=likelihoods.MultinomialLikelihood())
    if model.encoder == Model().encoder:
        model = dataclasses.replace(model, encoder=Bag())
    return dataclasses.replace(config, model=model)


def suited(config: Any, dataset: data.Dataset) -> Any:
    """Return the likelihood that `auto` stands for.

    Bits, and cross-entropy as error: Bernoulli. Levels of grey or colour: a logistic variable rounded to them, with one
    learned width: on digits its reconstructions are four times closer than Bernoulli's, and its bits are those of a
    code for the data. A squared error needs only a mean: normal. All else: normal with a learned scale.
    """
    error = getattr(config.objective, "error", "nll")
    if dataset.bits or config.binarise != "none" or error == "cross_entropy":
        return likelihoods.BernoulliLikelihood()
    if error == "squared":
        return likelihoods.NormalLikelihood()
    if levels_of(dataset):
        return likelihoods.DiscretizedLogisticLikelihood(scale="learned")
    return likelihoods.NormalLikelihood(scale="learned", std=TABLE_STD * spread(dataset))


def spread(dataset: data.Dataset) -> float:
    """Return the root of the mean variance of scaled values: 1 when standardised, else that of validation."""
    if dataset.scale.kind == "standardise":
        return 1.0
    x = dataset.scale.apply(dataset.splits["validation"].x).reshape(len(dataset.splits["validation"]), -1)
    return float(np.sqrt(np.mean(np.nanvar(x, axis=0, dtype=np.float64)))) or 1.0


def described(config: Any, was: Any) -> str:
    """Return the likelihood of a resolved config in words, and whether it and the encoder were chosen here."""
    likelihood = config.model.likelihood
    fields = [
        f"{f.name} {getattr(likelihood, f.name):g}" if isinstance(getattr(likelihood, f.name), float) else
        f"{f.name} {getattr(likelihood, f.name)}"
        for f in dataclasses.fields(likelihood)
    ]  # fmt: skip
    how = f" ({', '.join(fields)})" if fields else ""
    chosen = " (auto)" if isinstance(was.model.likelihood, likelihoods.AutoLikelihood) else ""
    encoder = config.model.encoder
    read = f"; encoder {kind(type(encoder))} (auto)" if encoder != was.model.encoder else ""
    marks = "; missing values marked to the encoder (auto)" if config.model.marks != was.model.marks else ""
    return f"likelihood {kind(type(likelihood))}{how}{chosen}{read}{marks}"
