"""Where geometry has no answer: every fault at every place is one line that names the way out, or a stated fallback."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from models import ConfigError, Dense, terms
from models.batch import Batch
from models.metrics import Shown, Subject, registry, report_card, travel
from models.terms import WrongPenaltyError, check_penalty
from tests.models.metrics.test_geometry_metrics import X as MORE
from tests.models.metrics.test_geometry_metrics import linear
from tests.models.terms.test_geometry_terms import KEY, LINEAR, X, made, passed
from tests.training.test_latent_page import LIKELIHOODS, run_of
from tests.training.test_latent_page import X as PICTURES
from training.pictures.directions import directions
from training.pictures.latent.page import page_data

CODES = np.random.default_rng(0).normal(size=(3, 3))
STEP = 0.1 * np.ones((3, 3))
NARROW = dataclasses.replace(LINEAR, latent=7)
ONE = dataclasses.replace(LINEAR, latent=1)


def folded():
    """A linear model whose third unit does what its first one does: the metric has rank 2 of 3."""
    kernel = np.random.default_rng(0).normal(size=(3, 6))
    kernel[2] = kernel[0]
    return linear(kernel, np.random.default_rng(1).normal(size=(6, 3)))


def broken():
    """A model with a weight that is not a number."""
    model = made(LINEAR)
    model.decoder.last.kernel[...] = model.decoder.last.kernel[...].at[0, 0].set(jnp.nan)
    model.encoder.head.kernel[...] = model.encoder.head.kernel[...].at[0, 0].set(jnp.nan)
    return model


def broken_surface():
    """A surface that is nowhere finite."""
    return travel.surface(lambda z: jnp.sqrt(z - 99) @ jnp.ones((3, 4)))


def batch_statistics():
    """A model whose examples share their statistics in training."""
    return made(dataclasses.replace(LINEAR, encoder=Dense((4,), norm="batch")))


def reasons(model):
    """Why the list of metrics has no report card; ConfigError with that reason, as a command line says it."""
    why = registry.measure(Subject(model, Shown(Batch(np.asarray(MORE)))), ["geometry"])[1]
    raise ConfigError(why["geometry"])


def page(**parts):
    """The data of a latent page."""
    return page_data(run_of(encoder=Dense((4,)), likelihood=LIKELIHOODS[1], **parts), PICTURES)


def page_of_nan():
    """The same with a weight that is not a number."""
    run = run_of(encoder=Dense((4,)), likelihood=LIKELIHOODS[1])
    run.model.decoder.last.bias[...] = run.model.decoder.last.bias[...] * jnp.nan
    return page_data(run, PICTURES)


REFUSED = {
    "term, batch statistics in training": (
        lambda: terms.Contractive()(passed(batch_statistics(), training=True), None),
        ConfigError,
        "batch statistics have none: use norm layer or none",
    ),
    "term, probe without key": (
        lambda: terms.Contractive(way="probe")(passed(made(LINEAR))._replace(key=None), None),
        ConfigError,
        "give one, or use way exact",
    ),
    "check, probe without key": (
        lambda: check_penalty(terms.Contractive(way="probe"), made(LINEAR), X),
        ConfigError,
        "give one, or use way exact",
    ),
    "card, no key": (lambda: report_card(made(LINEAR), MORE, None), ConfigError, "give a key"),
    "card, one example": (lambda: report_card(made(LINEAR), MORE[:1], KEY), ConfigError, "at least 2 examples"),
    "term, code of one": (
        lambda: terms.Orthogonal()(passed(made(ONE)), None),
        ConfigError,
        "must be at least 2, got 1",
    ),
    "page, code of one": (lambda: page(latent=1), ConfigError, "at least 2 units, got 1"),
    "ellipses, code of one": (
        lambda: travel.indicatrices(travel.surface(made(ONE)), CODES[:, :1]),
        ValueError,
        "choose two of them",
    ),
    "term, narrow": (lambda: terms.LogVolume()(passed(made(NARROW)), None), ConfigError, "got 6 values for 7 units"),
    "card, narrow": (lambda: report_card(made(NARROW), MORE, KEY), ConfigError, "got 6 values for 7 units"),
    "surface, narrow": (lambda: travel.surface(made(NARROW)), ConfigError, "got 6 values for 7 units"),
    "walk, singular": (
        lambda: travel.exponential(travel.surface(folded()), CODES, STEP),
        ValueError,
        "3 of 3 walks are not finite, first number 0: the metric is singular",
    ),
    "card, not finite": (lambda: report_card(broken(), MORE, KEY), ValueError, "11 of 11 Jacobians are not finite"),
    "metric by name, not finite": (lambda: reasons(broken()), ConfigError, "11 of 11 Jacobians are not finite"),
    "check, not finite": (lambda: check_penalty(terms.Contractive(), broken(), X), ValueError, "nothing to compare"),
    "penalty, not finite": (
        lambda: check_penalty(lambda m, x: jnp.nan * m.encode(x).mean.sum(1), made(LINEAR), X),
        WrongPenaltyError,
        r"not finite where \|\|J\|\|²_F is",
    ),
    "geodesics, not finite": (
        lambda: travel.geodesics(broken_surface(), CODES, CODES + STEP, points=4, steps=1),
        ValueError,
        "move the ends",
    ),
    "walk, not finite": (
        lambda: travel.exponential(broken_surface(), CODES, STEP, steps=2),
        ValueError,
        "3 of 3 walks are not finite",
    ),
    "magnification, not finite": (
        lambda: travel.magnification(broken_surface(), CODES),
        ValueError,
        "3 of 3 Jacobians are not finite, first number 0: the surface is not finite there; choose other codes",
    ),
    "ellipses, not finite": (
        lambda: travel.indicatrices(travel.surface(lambda z: jnp.sqrt(z - 99)), CODES[:, :2]),
        ValueError,
        "choose other codes",
    ),
    "page, not finite": (page_of_nan, ConfigError, "16 of 16 decoded pictures are not finite"),
    "directions, not finite": (lambda: directions(broken(), X), ValueError, "no directions to draw"),
}
STATED = {
    "card, code of one": lambda: report_card(made(ONE), MORE, KEY)["orthogonality_distance"] == 0,
    "geodesics, code of one": lambda: np.isfinite(
        travel.geodesics(travel.surface(made(ONE)), CODES[:, :1], CODES[:, 1:2], points=4, steps=2).length
    ),
    "card, singular: counted and left out": lambda: (
        (card := report_card(folded(), MORE, KEY))["singular_share"] == 1 and np.isnan(card["decoder_log_volume_nats"])
    ),
    "term, singular: far below any volume": lambda: terms.LogVolume()(passed(folded()), None) < -30,
    "magnification, singular: far below": lambda: travel.magnification(travel.surface(folded()), CODES) < -30,
    "geodesics, singular: held in place": lambda: np.isfinite(
        travel.geodesics(travel.surface(folded()), CODES, CODES + STEP, points=4, steps=2).energy
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_answer_says_so_in_one_line(name):
    call, error, words = REFUSED[name]
    with pytest.raises(error, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", STATED)
def test_what_has_a_fallback_keeps_to_it(name):
    assert np.all(STATED[name]())
