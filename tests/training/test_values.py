"""What a trained model is given: values that its training data could hold, else one line."""

import dataclasses

import jax
import numpy as np
import pytest

import train
from data import Scale
from models import likelihoods as like
from models.config import ConfigError
from models.objectives import Denoising
from training.trained.facts import Facts
from training.trained.values import as_key, as_seen, check_whole

GREY = np.full((2, 2, 2, 1), 100)
CODES = np.array([[0.0, 3.0, 1.5]])
MIXED = like.ColumnsLikelihood(("numeric", "categorical:2", "ordinal:4"))


def facts(shape, high, factor=1.0, bits=False, whole=True):
    scale = Scale.from_json({"kind": "none", "shift": 0.0, "factor": factor})
    record = {"binarisation": "published" if bits else "none"}
    return Facts("made", shape, 10, 0.0, high, whole, scale, (), 0, record)


def config(likelihood, **more):
    return dataclasses.replace(
        train.Config(model=dataclasses.replace(train.Config().model, likelihood=likelihood)), **more
    )


@pytest.mark.parametrize(
    ("known", "likelihood", "good", "bad", "message"),
    [
        (facts((2, 2, 1), 255.0, 1 / 255, bits=True), like.BernoulliLikelihood(), GREY * 0, GREY, "as 0 and 255"),
        (facts((3,), 1.0, bits=True), like.NormalLikelihood(), CODES * 0 + 1, CODES, "threshold the values first"),
        (facts((2, 2, 1), 255.0, 1 / 255), like.DiscretizedLogisticLikelihood(levels=256), GREY, GREY + 0.5, "levels"),
        (facts((2, 2, 1), 16.0, 1 / 16), like.CategoricalLikelihood(levels=17), GREY // 10, GREY / 30, "levels"),
        (facts((3,), 1.0, whole=False), like.ContinuousBernoulliLikelihood(), CODES / 3, CODES, r"in \[0, 1\]"),
        (facts((3,), 3.0), like.TokensLikelihood(symbols=4), np.rint(CODES), CODES, "whole numbers from 0 and below 4"),
        (facts((3,), 3.0), like.TokensLikelihood(symbols=4), np.rint(CODES), CODES * 2, "got 6"),
        (facts((3,), 3.0), like.StrokesLikelihood(), CODES - [[0, 0, 0.5]], CODES, "whole numbers from 0 and below 3"),
        (facts((3,), 3.0), MIXED, np.minimum(np.rint(CODES), [9, 1, 3]), np.rint(CODES), "below 2 in column 2, got"),
        (facts((3,), 9.0), like.MultinomialLikelihood(), np.rint(CODES), CODES, "whole numbers from 0, got 1.5"),
    ],
)  # fmt: skip
def test_values_that_training_could_not_hold_are_refused_in_one_line(known, likelihood, good, bad, message):
    seen, _ = as_seen(known, config(likelihood), good)
    assert seen.shape == good.shape
    with pytest.raises(ConfigError, match=message) as error:
        as_seen(known, config(likelihood), bad)
    assert "\n" not in str(error.value)


def test_a_denoiser_takes_noise_between_the_levels_and_scores_none_of_it():
    known, noisy = facts((2, 2, 1), 255.0, 1 / 255), config(like.DiscretizedLogisticLikelihood(levels=256))
    noisy = dataclasses.replace(noisy, objective=Denoising())
    assert as_seen(known, noisy, GREY + 0.5)[0].shape == GREY.shape
    with pytest.raises(ConfigError, match="levels"):
        as_seen(known, noisy, GREY + 0.5, exact=True)


@pytest.mark.parametrize("value", [2.5, "3", None, True, -1, 2**70])
def test_numbers_and_keys_that_are_none_are_one_line(value):
    if value != 2**70:
        with pytest.raises(ConfigError, match="n must be"):
            check_whole("n", value, 0)
    with pytest.raises(ConfigError, match=r"key must be a key of jax.random, or a whole number"):
        as_key(value)
    for key in (np.int64(7), jax.random.key(7)):
        assert jax.random.key_data(as_key(key)).tolist() == [0, 7]
