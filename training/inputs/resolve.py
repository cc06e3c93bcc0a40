"""From a config as asked to one that fits the data: the likelihood chosen, and every support checked.

A support is the set of values that a likelihood or loss gives a meaning to. Values outside it do not fail: they
make nonsense that is called finished. So they are refused before the first step.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np

import data
from models import Model, Recurrent, likelihoods
from models.config import kind

UNIT = ("auto", "bernoulli", "continuousbernoulli")
LEVELS = ("discretizedlogistic", "categorical")
TABLE_STD = 0.3  # first standard deviation of a table's normal, in units of the scaled values' spread
LEVELS_OF_8_BITS = 256
WHOLE = ("symbols", "counts", "columns")
EXACT = 1e-3  # a value may be this far from a level, in units of levels


def resolved(config: Any, dataset: data.Dataset, train: Any = None) -> Any:
    """Return a `train.Config` whose likelihood fits the data: `auto` replaced, levels filled in, support checked.

    train: training examples left on disk, with `blocks()`, which are read once where the support needs every value.
    Raises data.DataError, one line with the range and the way out, where scaled values lie outside the support of the
    likelihood or of the objective's error.
    """
    if dataset.text:
        config = as_text(config, dataset)
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
    check_support(config, dataset, train)
    return config


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
    return float(np.sqrt(np.mean(np.var(x, axis=0, dtype=np.float64)))) or 1.0


def levels_of(dataset: data.Dataset) -> int:
    """Return how many levels in [0, 1] the scaled values of pictures have; 0 where they are no levels."""
    low, high = dataset.range
    if dataset.bits and dataset.picture and dataset.scale.kind in ("unit", "none"):
        return 2
    raw = next(iter(dataset.splits.values())).x
    whole = raw.dtype.kind in "bui" and dataset.picture and dataset.scale.kind in ("unit", "none")
    if not whole or dataset.scale.kind == "none":
        return 0
    return int(high - low) + 1


def scaled_range(dataset: data.Dataset) -> tuple[float, float]:
    """Return the lowest and highest scaled value: possible ones where one number scales all, else those in memory."""
    if np.ndim(dataset.scale.factor) == 0:
        ends = [dataset.scale.apply(np.asarray(dataset.range))]
    else:
        flat = [split.x.reshape(-1, split.x.shape[-1]) for split in dataset.splits.values()]
        ends = [dataset.scale.apply(end) for x in flat for end in (x.min(0), x.max(0))]
    return float(min(e.min() for e in ends)), float(max(e.max() for e in ends))


def check_support(config: Any, dataset: data.Dataset, train: Any = None) -> None:
    """Raise data.DataError unless every scaled value lies in the support of the likelihood and of the loss."""
    likelihood = config.model.likelihood
    name = kind(type(likelihood))
    support = getattr(likelihood, "support", None) or (
        "unit" if name in UNIT else "levels" if name in LEVELS else "real"
    )
    if support == "real" or config.binarise != "none":
        return
    if support in WHOLE:
        _check_whole(likelihood, name, dataset, train)
        return
    low, high = scaled_range(dataset)
    loss = "cross-entropy" if getattr(config.objective, "error", "") == "cross_entropy" else f"likelihood {name}"
    raw = dataset.range
    where = f"{dataset.name}: values {raw[0]:g}..{raw[1]:g}, {low:g}..{high:g} with scale {dataset.scale.kind}"
    if low < 0 or high > 1:
        scales = "--scale unit, or " if dataset.picture and raw[0] >= 0 else ""
        raise data.DataError(f"{where}: {loss} needs values in [0, 1]; use {scales}--model.likelihood normal (or auto)")
    levels = getattr(likelihood, "levels", None) or LEVELS_OF_8_BITS
    if support == "levels" and not _on_levels(dataset, levels, hasattr(likelihood, "levels"), train):
        raise data.DataError(
            f"{where}: {loss} needs values on {levels} levels from 0 to 1, these are not; use --model.likelihood "
            "normal (or auto)"
        )


def _check_whole(likelihood: Any, name: str, dataset: data.Dataset, train: Any) -> None:
    """Raise data.DataError unless symbols, counts and codes are whole numbers from 0, below the number there is."""
    limits = [np.inf]  # codes of a column are below its limit; 0: any number
    if name == "tokens":
        limits = [likelihood.symbols]
    if name == "columns":
        limits = [abs(size) for size in likelihood.sizes()]
    coded = np.flatnonzero(limits)
    if not len(coded):
        return
    top = np.array(limits, float)[coded]
    low, high = dataset.range
    for x in _scaled_blocks(dataset, train):
        flat = x.reshape(len(x), -1)
        if name == "columns" and flat.shape[1] != len(limits):
            raise data.DataError(f"{dataset.name}: {len(limits)} columns are named, the data have {flat.shape[1]}")
        codes = flat[:, coded] if name == "columns" else flat
        bad = ~((codes >= 0) & (codes < top) & (codes == np.rint(codes)))
        if bad.any():
            way = "--scale none, " if dataset.scale.kind != "none" and low >= 0 else ""
            more = f" and below {top.max():g}" if np.isfinite(top).all() else ""
            raise data.DataError(
                f"{dataset.name}: values {low:g}..{high:g} with scale {dataset.scale.kind}: likelihood {name} needs "
                f"whole numbers from 0{more}, got {codes[bad][0]:g}; use {way}--model.likelihood normal (or auto)"
            )


def _on_levels(dataset: data.Dataset, levels: int, exactly: bool, train: Any) -> bool:
    """Whether every scaled value is a level; where 256 are fixed, fewer are rounded to the nearest of them."""
    known = levels_of(dataset)
    if known:
        return (levels - 1) % (known - 1) == 0 if exactly else known <= levels
    return all(
        bool(np.all(np.abs(x * (levels - 1) - np.rint(x * (levels - 1))) < EXACT))
        for x in _scaled_blocks(dataset, train)
    )


def _scaled_blocks(dataset: data.Dataset, train: Any) -> Iterator[np.ndarray]:
    """Yield every scaled example, a block at a time: those in memory, then those of the training split on disk."""
    for split in dataset.splits.values():
        for start in range(0, len(split), 1024):
            yield dataset.scale.apply(split.x[start : start + 1024])
    for block in () if train is None else train.blocks():
        yield dataset.scale.apply(block)


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
    return f"likelihood {kind(type(likelihood))}{how}{chosen}{read}"
