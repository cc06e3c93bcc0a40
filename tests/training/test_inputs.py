"""Between data and a run: likelihood auto, supports, the line, dry runs, batches, streams equal to memory."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import data
import train
from models import ConfigError, Recurrent, Sampling, likelihoods, priors
from models.autoencoder import Model
from models.objectives import Reconstruction
from models.objectives.corruption import corrupt
from models.terms import MMD, Adversarial
from training.cli.closing import closing
from training.inputs import load_inputs
from training.inputs.resolve import resolved
from training.trained.facts import Facts

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(200, 3)) * [1, 100, 1e4] + [0, 5, 1e5]


@pytest.fixture
def files(tmp_path):
    pictures = RNG.integers(0, 256, (100, 4, 4), dtype=np.uint8)
    arrays = {"table": TABLE, "bits": pictures > 99, "pictures": pictures, "deep": pictures.astype(np.uint16) * 200}
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
    return lambda name: f"file:{tmp_path / name}.npy"


def config(files, name, **changes):
    likelihood = changes.pop("likelihood", likelihoods.AutoLikelihood())
    changes = {"batch_size": 16} | changes
    return train.Config(dataset=files(name), model=Model(likelihood=likelihood, latent=2), **changes)


@pytest.mark.parametrize(
    ("name", "changes", "kind"),
    [
        ("table", {}, likelihoods.NormalLikelihood),
        ("bits", {}, likelihoods.BernoulliLikelihood),
        ("pictures", {}, likelihoods.DiscretizedLogisticLikelihood),
        ("deep", {}, likelihoods.NormalLikelihood),
        ("pictures", {"binarise": "dynamic"}, likelihoods.BernoulliLikelihood),
        ("pictures", {"objective": Reconstruction(error="cross_entropy")}, likelihoods.BernoulliLikelihood),
        ("pictures", {"objective": Reconstruction()}, likelihoods.NormalLikelihood),
    ],
)
def test_auto_is_resolved_by_the_data(files, name, changes, kind):
    inputs = load_inputs(config(files, name, **changes), None)
    assert type(inputs.config.model.likelihood) is kind
    assert "(auto)" in inputs.line
    again = load_inputs(inputs.config, None)  # what a run records resolves to itself
    assert again.config == inputs.config


@pytest.mark.parametrize("likelihood", [likelihoods.BernoulliLikelihood(), likelihoods.ContinuousBernoulliLikelihood()])
@pytest.mark.parametrize("read", ["memory", "stream"])
@pytest.mark.parametrize(
    ("name", "scale"), [("table", "auto"), ("table", "none"), ("pictures", "none"), ("deep", "auto")]
)
def test_values_outside_the_support_are_refused(files, name, scale, likelihood, read):
    asked = config(files, name, scale=scale, likelihood=likelihood, read=read)
    if name == "pictures":  # 8-bit numbers with scale none: 0..255 as they are
        low_high = r"values 0\.\.255, 0\.\.255 with scale none"
    else:
        low_high = r"values .* with scale (standardise|none)"
    with pytest.raises(data.DataError, match=f"{low_high}: likelihood .* needs values in .0, 1.; use .*normal"):
        load_inputs(asked, None)


def test_values_within_the_support_pass(files):
    for name in ("bits", "pictures"):
        load_inputs(config(files, name, likelihood=likelihoods.BernoulliLikelihood()), None)
    load_inputs(config(files, "deep", scale="unit", likelihood=likelihoods.BernoulliLikelihood()), None)


@pytest.mark.parametrize(
    "likelihood", [likelihoods.CategoricalLikelihood(), likelihoods.DiscretizedLogisticLikelihood()]
)
def test_values_between_levels_are_refused(tmp_path, likelihood):
    levels = RNG.integers(0, 256, (100, 4, 4)) / 255
    np.save(tmp_path / "on.npy", levels)
    np.save(tmp_path / "between.npy", levels * 0.9 + 0.01)
    asked = lambda name: train.Config(dataset=f"file:{tmp_path / name}.npy", model=Model(likelihood=likelihood))
    load_inputs(asked("on"), None)
    load_inputs(train.Config(model=Model(likelihood=likelihood)), None)  # digits: 17 levels
    with pytest.raises(data.DataError, match=r"needs values on 256 levels .* --model.likelihood normal"):
        load_inputs(asked("between"), None)


def test_levels_are_checked_where_a_likelihood_names_them(files):
    digits = data.load("digits")
    of = lambda likelihood: train.Config(model=Model(likelihood=likelihood))
    assert resolved(of(likelihoods.CategoricalLikelihood()), digits).model.likelihood.levels == 17
    with pytest.raises(data.DataError, match="levels"):
        resolved(of(likelihoods.CategoricalLikelihood(levels=18)), digits)


def test_grey_values_and_symbols_are_told_from_the_data(files):
    """Bernoulli of grey values is named cross-entropy, of bits a likelihood; symbols are counted, codes checked."""
    of = lambda name, **changes: load_inputs(config(files, name, **changes), None).config.model.likelihood
    assert of("pictures", likelihood=likelihoods.BernoulliLikelihood()).grey
    assert not of("pictures", likelihood=likelihoods.BernoulliLikelihood(), binarise="dynamic").grey
    assert not of("bits", likelihood=likelihoods.BernoulliLikelihood()).grey
    assert of("bits", likelihood=likelihoods.TokensLikelihood(), scale="none").symbols == 2
    assert of("pictures", likelihood=likelihoods.TokensLikelihood(), scale="none").symbols == 256
    of("pictures", likelihood=likelihoods.MultinomialLikelihood(), scale="none")
    of("table", likelihood=likelihoods.ColumnsLikelihood())  # all numeric: any data
    for likelihood in (likelihoods.TokensLikelihood(symbols=9), likelihoods.MultinomialLikelihood()):
        with pytest.raises(data.DataError, match=r"values 0..255 .* whole numbers from 0.*--scale none"):
            of("pictures", likelihood=likelihood)


@pytest.mark.parametrize(
    "likelihood", [likelihoods.TokensLikelihood(symbols=9), likelihoods.LogisticMixtureLikelihood()]
)
def test_a_training_split_on_disk_is_checked_too(tmp_path, likelihood):
    """One value in training alone: found before the first step, in memory and streamed."""
    levels = 8 if hasattr(likelihood, "symbols") else 1
    x = RNG.integers(0, levels + 1, (100, 3)).astype(np.float64)
    np.savez(tmp_path / "a.npz", x_train=x, x_validation=x, x_test=x)
    x[7, 1] = 0.3
    np.savez(tmp_path / "b.npz", x_train=x, x_validation=np.rint(x), x_test=np.rint(x))
    for read in ("memory", "stream"):
        asked = lambda name, read=read: train.Config(
            dataset=f"file:{tmp_path / name}", read=read, scale="none", model=Model(likelihood=likelihood)
        )
        load_inputs(asked("a.npz"), None)
        with pytest.raises(data.DataError, match=r"needs (whole numbers|values on 256 levels)"):
            load_inputs(asked("b.npz"), None)


def test_the_default_batch_is_lowered_for_few_examples_and_another_one_refused(files):
    inputs = load_inputs(config(files, "pictures", batch_size=128), None)
    assert inputs.config.batch_size == 10
    assert "batches of 10" in inputs.line
    with pytest.raises(ValueError, match="batch_size must be at most 80"):
        load_inputs(config(files, "pictures", batch_size=100), None)


@pytest.mark.parametrize("name", ["table", "bits", "pictures", "deep"])
def test_a_stream_gives_the_numbers_of_memory_to_the_bit(files, name):
    memory, stream = (load_inputs(config(files, name, read=read), None) for read in ("memory", "stream"))
    assert memory.config == dataclasses.replace(stream.config, read="memory")
    assert memory.range == stream.range
    known = {np.asarray(row).tobytes() for row in memory.splits["train"].x}
    for _ in range(3):
        assert all(row.tobytes() in known for row in next(stream.stream)["x"])


@pytest.mark.parametrize("name", ["table", "pictures"])
def test_a_dry_run_says_one_line_and_leaves_nothing(files, name, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    code = train.main(["--dataset", files(name), "--dry-run", "--run-dir", str(tmp_path / "run")])
    said = capsys.readouterr().out
    assert (code, said.count("\n")) == (0, 1)
    assert all(word in said for word in ("values", "scale", "train", "random", "no labels", "likelihood"))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_table_trains_and_its_record_scales_raw_values_as_in_training(files, tmp_path):
    run = tmp_path / "run"
    code = train.main(["--dataset", files("table"), "--epochs", "1", "--no-figures", "--run-dir", str(run)])
    assert code == 0
    record = json.loads((run / "env.json").read_text())["data"]
    dataset = data.load(files("table"))
    scale = data.Scale.from_json(record["scale"])
    np.testing.assert_array_equal(scale.apply(dataset.splits["test"].x), dataset.scale.apply(dataset.splits["test"].x))
    written = json.loads((run / "config.json").read_text())
    assert written["model"]["likelihood"]["kind"] == "Normal"
    assert written["read"] == "memory"


def test_a_divergence_at_step_0_names_the_data(files, tmp_path, capsys):
    unit = load_inputs(config(files, "table", scale="none"), None).unit
    end = {"term": "nll", "step": 0, "data": unit}
    closing(tmp_path, {"end": end, "status": "diverged", "seconds": 1.0})
    said = capsys.readouterr().out
    low, high = TABLE.min(), TABLE.max()
    assert f"the data are values {low:g}..{high:g} with scale none: try --scale standardise" in said


def test_values_beyond_float32_need_a_scale(tmp_path):
    np.save(tmp_path / "a.npy", TABLE * 1e40)
    with pytest.raises(data.DataError, match="do not fit float32; use --scale standardise"):
        data.load(f"file:{tmp_path / 'a.npy'}", options=data.Options(scale="none"))
    assert np.isfinite(load_inputs(train.Config(dataset=f"file:{tmp_path / 'a.npy'}"), None).splits["test"].x).all()


def test_a_raw_table_has_a_finite_kl_at_the_start(tmp_path):
    import jax

    np.save(tmp_path / "a.npy", RNG.normal(size=(200, 3)) * 1e6)
    inputs = load_inputs(train.Config(dataset=f"file:{tmp_path / 'a.npy'}", scale="none"), None)
    state = train.init(inputs.config, jax.random.key(0), inputs.splits["train"])
    found = train.evaluate(inputs.config, state, inputs.splits["test"], jax.random.key(1))
    assert np.isfinite(found["kl_nats"])


def test_a_text_is_symbols_for_a_recurrent_network(tmp_path):
    place = tmp_path / "a.txt"
    place.write_text("to be or not\nthat is\n" * 40)
    found = load_inputs(train.Config(dataset=f"file:{place}#line", batch_size=16), None)
    model, reading = found.config.model, found.dataset.reading
    assert model.likelihood == likelihoods.TokensLikelihood(len(reading["vocabulary"]) + 2)
    assert model.encoder == Recurrent()
    assert "encoder recurrent (auto)" in found.line
    assert found.splits["train"].take(jnp.arange(2)).tolist() == found.dataset.splits["train"].x[:2].tolist()
    with pytest.raises(data.DataError, match="symbols of a text have no distance"):
        load_inputs(train.Config(dataset=f"file:{place}", objective=Reconstruction()), None)
    known = {"name": "", "range": (0, 9), "shape": found.dataset.shape, "splits": {"train": 64}, "dtype": "uint8"}
    facts = Facts("", (12,), 64, 0.0, 9.0, True, found.dataset.scale, (), 0, known | {"reading": dict(reading)})
    both = facts.values(["that is", "to be"])
    assert both.shape == (2, 12)
    assert facts.strings(both) == ["that is", "to be"]
    np.testing.assert_array_equal(facts.values("to be"), both[1])


def test_corrupted_symbols_are_unknown_and_the_end_stays():
    x = jnp.asarray([[5.0, 4, 3, 0, 0]] * 4000)
    seen = np.asarray(corrupt("unknown", x, jax.random.key(0), 0.3))
    assert set(np.unique(seen[seen != np.asarray(x)])) == {1.0}
    assert (seen[:, 3:] == 0).all()
    np.testing.assert_allclose((seen[:, :3] == 1).mean(), 0.3, atol=5 * (0.21 / 12000) ** 0.5)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"objective": Sampling(), "terms": (Adversarial(),)}, "never encodes.*--model.encoder none"),
        ({"objective": Sampling()}, "--terms adversarial"),
        ({"objective": Sampling(), "terms": (MMD(), Adversarial(on="code"))}, "mmd, adversarial see codes alone"),
        ({"model": Model(labels="inferred")}, "--objective semisupervised, or labels given"),
    ],
)
def test_a_network_that_nothing_trains_is_refused(parts, words):
    """Its error and its labels were those of the first weights, said to be the run's."""
    with pytest.raises(ConfigError, match=words):
        resolved(train.Config(**parts), data.load("digits"))


def test_a_prior_of_each_class_says_itself_that_there_are_no_labels(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    with pytest.raises(ConfigError, match=r"prior labelled needs .* use prior mixture"):
        load_inputs(train.Config(dataset=f"file:{tmp_path / 'a.npy'}", model=Model(prior=priors.LabelledPrior())), None)
