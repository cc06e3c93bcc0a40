"""What a run watches: the objective at full weights, its baseline, its code, and when patience is over."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train as T
from models import Dense, Model, ViT, posteriors, priors, terms
from models.config import ConfigError
from models.objectives import ELBO, Denoising, Masked, Reconstruction
from training.cli.closing import collapsed
from training.evaluate import Best, measure, patience_is_over, ramp_epochs, training_mean
from training.examples import Examples
from training.inputs.guard import checked_splits
from training.optimizers import Updates

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (70, 4, 4, 1), dtype=np.uint8)
EXAMPLES = Examples(jnp.asarray(X), (0.0, 255.0))
OTHERS = Examples(jnp.asarray(RNG.integers(0, 256, (33, 4, 4, 1), dtype=np.uint8)), (0.0, 255.0))
KEY = jax.random.key(0)
BASE = T.Config(model=Model(encoder=Dense(hidden=(8,)), latent=3), epochs=2, batch_size=16)


def of_parts(**parts):
    return dataclasses.replace(BASE, model=dataclasses.replace(BASE.model, **parts))


POINT = of_parts(posterior=posteriors.PointPosterior())


def measured(config, examples=OTHERS, mean=None):
    """Metrics of the initial model."""
    return measure(config, T.init(config, KEY, EXAMPLES), examples, KEY, mean)


def test_the_objective_is_validated_at_full_weights():
    config = dataclasses.replace(BASE, objective=ELBO(beta=4.0, warmup_steps=10**6))
    values, _ = measured(config)
    np.testing.assert_allclose(values["objective"], values["nll_nats"] + 4 * values["kl_nats"], rtol=1e-9)
    plain, _ = measured(BASE)
    np.testing.assert_allclose(plain["objective"], plain["negative_elbo_nats"], rtol=1e-12)
    config = dataclasses.replace(POINT, objective=Reconstruction(), terms=(terms.Sparsity(weight=0.5),))
    sparse, _ = measured(config)
    x = OTHERS.take(jnp.arange(33))
    model = T.init(config, KEY, EXAMPLES).model
    z = model.encode(x).mean
    loss = jnp.sum((x - model.decode(z).mean) ** 2, (1, 2, 3)) + 0.5 * jnp.sum(jnp.abs(z), 1)
    np.testing.assert_allclose(sparse["objective"], jnp.mean(loss), rtol=1e-9)


def test_a_denoiser_is_judged_from_noise_to_clean_beside_clean_to_clean():
    config = dataclasses.replace(POINT, objective=Denoising(corruption="mask", level=0.5))
    values, _ = measured(config)
    np.testing.assert_allclose(values["objective"], 16 * values["noisy_mse"], rtol=1e-9)
    assert values["noisy_mse"] != values["mse"]
    clean, _ = measured(dataclasses.replace(POINT, objective=Denoising(corruption="mask", level=0.0)))
    np.testing.assert_allclose(clean["noisy_mse"], clean["mse"], rtol=1e-9)
    assert clean["mse"] == values["mse"]


def test_a_masked_autoencoder_is_judged_at_the_patches_it_was_not_shown():
    encoder = ViT(patch=2, width=4, heads=2, layers=1)
    model = dataclasses.replace(POINT.model, encoder=encoder)
    values, _ = measured(dataclasses.replace(POINT, model=model, objective=Masked(visible=0.0)))
    np.testing.assert_allclose(values["objective"], 12 * values["masked_mse"], rtol=1e-9)  # 3 of 4 patches of 4 pixels


def test_baseline_is_the_error_of_the_training_mean():
    mean = training_mean(EXAMPLES, "none")
    np.testing.assert_allclose(mean, X.mean(0) / 255, rtol=1e-12)
    values, _ = measured(BASE, mean=mean)
    np.testing.assert_allclose(values["baseline_mse"], np.mean((np.asarray(OTHERS.x) - X.mean(0)) ** 2) / 255**2)
    binary = training_mean(EXAMPLES, "threshold")
    np.testing.assert_allclose(binary, (X / 255 > 0.5).mean(0), rtol=1e-12)
    many = Examples(jnp.asarray(RNG.integers(0, 256, (1030, 2), dtype=np.uint8)), (0.0, 255.0))
    np.testing.assert_allclose(training_mean(many, "none"), np.asarray(many.x).mean(0) / 255, rtol=1e-12)


def test_the_code_is_measured_dimension_by_dimension():
    values, vectors = measured(BASE, Examples(jnp.asarray(RNG.uniform(size=(600, 4, 4, 1)))))
    assert vectors["kl_per_dim_nats"].shape == (3,)
    np.testing.assert_allclose(jnp.sum(vectors["kl_per_dim_nats"]), values["kl_nats"], rtol=1e-9)
    assert 0 <= int(values["active_units"]) <= 3
    assert measured(dataclasses.replace(POINT, objective=Reconstruction()))[1] == {}


@pytest.mark.parametrize(
    ("updates", "objective", "epochs"),
    [
        (Updates(), ELBO(), 0),
        (Updates(), ELBO(warmup_steps=9), 3),
        (Updates(), ELBO(warmup_steps=4, capacity_steps=5), 2),
        (Updates(warmup=0.25), ELBO(), 5),
        (Updates(warmup=0.25), ELBO(warmup_steps=40), 10),
        (Updates(warmup=0.01), Reconstruction(), 1),
    ],
)
def test_ramps_end_with_the_epoch_in_which_the_last_one_does(updates, objective, epochs):
    config = dataclasses.replace(BASE, epochs=20, updates=updates, objective=objective)
    assert ramp_epochs(config, 4) == epochs
    assert int(jax.jit(ramp_epochs, static_argnums=1)(config, 4)) == epochs


def test_patience_counts_from_the_best_epoch_and_from_the_end_of_the_ramps():
    over = [bool(patience_is_over(3, done, Best(1.0, 2), 0)) for done in range(8)]
    assert over == [False] * 5 + [True] * 3
    late = [bool(patience_is_over(3, done, Best(1.0, 2), 4)) for done in range(9)]
    assert late == [False] * 7 + [True] * 2
    assert not patience_is_over(0, 99, Best(), 0)


def run(config, x=EXAMPLES, validation=OTHERS):
    return jax.jit(T.train)(config, KEY, {"train": x, "validation": validation})


def test_the_pure_loop_stops_with_patience_after_the_ramp_and_keeps_the_best_state():
    config = dataclasses.replace(POINT, objective=Reconstruction(), lr=1.0, epochs=20, patience=2)
    done = run(config)
    objective = np.asarray(done.history["validation"]["objective"])
    ran = int(done.epochs)
    assert ran == int(done.best.epoch) + 2 < 20
    assert np.nanargmin(objective) == int(done.best.epoch) - 1
    assert np.all(np.isfinite(objective[:ran]))
    assert np.all(np.isnan(objective[ran:]))
    found = T.evaluate(config, done.best_state, OTHERS, jax.random.fold_in(KEY, 1))
    np.testing.assert_allclose(found["objective"], np.nanmin(objective), rtol=1e-12)
    ramped = run(dataclasses.replace(config, updates=Updates(warmup=0.5)))
    assert int(ramped.epochs) >= 12


def test_a_criterion_of_ones_own_decides():
    config = dataclasses.replace(BASE, objective=ELBO(beta=0.0), lr=1e-2, epochs=6, patience=6, criterion="kl_nats")
    done = run(config)
    assert int(done.best.epoch) - 1 == int(np.argmin(done.history["validation"]["kl_nats"]))
    assert int(done.best.epoch) - 1 != int(np.argmin(done.history["validation"]["objective"]))
    with pytest.raises(ConfigError, match=r"criterion.*'kl_nat'.*kl_nats"):
        run(dataclasses.replace(config, criterion="kl_nat"))


def test_a_metric_that_is_not_finite_stops_the_pure_loop():
    bad = Examples(jnp.asarray(OTHERS.x / 255.0).at[3, 0, 0, 0].set(jnp.inf))
    done = run(dataclasses.replace(BASE, epochs=5), validation=bad)
    assert int(done.epochs) == 1
    assert int(done.state.bad_step) == -1
    assert not np.isfinite(done.history["validation"]["mse"][0])


@pytest.mark.parametrize(
    ("config", "splits", "words"),
    [
        (BASE, {"train": EXAMPLES.x[:9] / 255}, "batch_size must be at most 9"),
        (BASE, {"train": jnp.asarray(X / 255).at[0, 0].set(jnp.nan)}, "train holds values that are not finite"),
        (BASE, {"train": jnp.arange(40.0)}, r"train: examples need a batch axis.*\(40,\).*x\[None\]"),
        (BASE, {"train": X / 255, "validation": X[0] / 255}, r"validation holds examples of shape"),
        (BASE, EXAMPLES, "splits must be a mapping"),
        (BASE, {"validation": EXAMPLES}, "splits must be a mapping"),
        (dataclasses.replace(BASE, patience=3), {"train": EXAMPLES}, 'patience needs a split "validation"'),
        (
            of_parts(posterior=posteriors.VQPosterior(entries=211), prior=priors.CodesPrior()),
            {"train": EXAMPLES},
            "posterior.entries must be at most 210, the places of 70 training examples, got 211",
        ),
        (
            of_parts(prior=priors.VampPrior(inputs=71)),
            {"train": EXAMPLES},
            "prior.inputs must be at most the 70 training examples, got 71",
        ),
        (
            of_parts(prior=priors.MixturePrior(components=71)),
            {"train": EXAMPLES},
            "prior.components must be at most the 70 training examples, got 71",
        ),
    ],
)
def test_calls_from_python_are_refused_in_one_clear_line(config, splits, words):
    with pytest.raises(ConfigError, match=words) as error:
        T.train(config, KEY, splits) if isinstance(splits, dict) else checked_splits(config, splits)
    assert "\n" not in str(error.value)


def test_batch_norm_of_single_values_is_refused():
    config = dataclasses.replace(BASE, model=Model(encoder=Dense(hidden=(8,), norm="batch"), latent=3), batch_size=1)
    with pytest.raises(ConfigError, match="norm 'batch' needs more than one value"):
        T.train(config, KEY, {"train": EXAMPLES})


def test_collapse_is_said_with_what_helps():
    fine = {"mse": 0.1, "baseline_mse": 0.2, "kl_nats": 5.0}
    assert collapsed(fine) is None
    assert "training mean" in (collapsed(fine | {"mse": 0.2}) or "")
    assert "--objective.beta" in (collapsed(fine | {"kl_nats": 0.01}) or "")
    assert collapsed({"mse": 0.1, "baseline_mse": 0.2}) is None
    assert collapsed({"mse": 0.3, "baseline_mse": 0.2, "masked_mse": 0.1}) is None  # it was shown all: no matter
