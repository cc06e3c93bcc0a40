"""A trained run used: raw values in, the data's units out, from the folder alone."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import train
from models.config import ConfigError
from models.terms import MMD
from training import RunError

X = load_digits().images[..., None]  # 0..16, as the set's file holds them


def trained(folder, *argv):
    epochs = () if "--epochs" in argv else ("--epochs", "2")
    assert train.main(["--run-dir", str(folder), *epochs, "--no-figures", *argv]) == 0
    return folder


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("digits") / "run")


@pytest.fixture(scope="module")
def run(digits):
    return train.load_run(digits)


def test_scores_are_those_of_the_run(digits, run):
    """The test numbers of summary.json, from raw values and the folder alone."""
    import data
    from training.store.run_folder import read_json

    test = data.load("digits").splits["test"].x
    scores = run.score(test)
    wanted = read_json(digits / "summary.json")["test"]
    assert np.mean(scores["mse"]) == pytest.approx(wanted["mse"], rel=1e-5)
    assert np.mean(scores["kl_nats"]) == pytest.approx(wanted["kl_nats"], rel=1e-5)
    raw_error = np.mean((run.reconstruct(test) - test) ** 2) / 16**2  # raw values are 16 times the scaled ones
    assert raw_error == pytest.approx(wanted["mse"], rel=1e-4)


def test_one_example_a_batch_and_any_chunk_agree(run, monkeypatch):
    codes = run.encode(X)
    assert codes.shape == (len(X), run.latent)
    np.testing.assert_allclose(run.encode(X[7]), codes[7], atol=1e-5)
    np.testing.assert_allclose(run.encode(jax.numpy.asarray(X[:3, ..., 0])), codes[:3], atol=1e-5)
    monkeypatch.setattr("training.trained.run.CHUNK", 50)
    np.testing.assert_allclose(run.encode(X[:130]), codes[:130], atol=1e-5)
    assert {k: v.shape for k, v in run.score(X[0]).items()}["mse"] == ()


def test_a_copied_folder_is_enough_for_a_process_of_its_own(digits, run, tmp_path):
    copy = shutil.copytree(digits, tmp_path / "elsewhere")
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    np.testing.assert_array_equal(train.load_run(copy).encode(X[:5]), run.encode(X[:5]))
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


def test_interpolation_ends_at_the_reconstructions(run):
    line = run.interpolate(X[0], X[1], 5)
    assert line.shape == (5, 8, 8, 1)
    np.testing.assert_allclose(line[[0, -1]], run.reconstruct(X[:2]), atol=1e-3)
    batch = run.interpolate(X[:2], X[2:4], 4)
    np.testing.assert_allclose(batch[:, 0], run.reconstruct(X[:2]), atol=1e-3)


def test_samples_follow_the_key(run):
    first = run.sample(4, jax.random.key(1))
    np.testing.assert_array_equal(first, run.sample(4, 1))
    assert np.abs(first - run.sample(4, 2)).max() > 0.01
    assert first.shape == (4, 8, 8, 1)
    assert 0 <= run.sample(4, 1, mean=False).min()


def test_the_importance_weighted_bound_is_no_worse_than_the_elbo(run):
    scores = run.score(X[:40], samples=50)
    assert np.mean(scores["log_likelihood_nats"]) > -np.mean(scores["negative_elbo_nats"])


def test_export_comes_back_the_same(run, tmp_path):
    files = run.export(tmp_path / "hub")
    assert {p.name for p in files} == {"model.safetensors", "config.json", "data.json", "README.md"}
    again = train.load_run(tmp_path / "hub")
    np.testing.assert_array_equal(again.reconstruct(X[:9]), run.reconstruct(X[:9]))
    from safetensors.numpy import load_file

    assert sum(a.size for a in load_file(tmp_path / "hub" / "model.safetensors").values()) > 10_000
    card = (tmp_path / "hub" / "README.md").read_text()
    assert "library_name: flax" in card
    assert "| mse |" in card
    (tmp_path / "hub" / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        run.export(tmp_path / "hub")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:, :5], r"examples of shape \(8, 8, 1\)"),
        (X + 100, "values must lie in 0 to 16, as in training; got 100 to 116"),
        (X / 16, "fractions of 1"),
        (np.full((1, 8, 8, 1), np.nan), "64 of 64 values are not finite"),
        (X[:0], "no example"),
        (np.full((1, 8, 8, 1), "a"), "must be numbers"),
    ],
)
def test_other_values_are_refused_in_one_line(run, x, message):
    with pytest.raises(ConfigError, match=message) as error:
        run.encode(x)
    assert "\n" not in str(error.value)


def test_a_plain_autoencoder_offers_a_prior_fitted_to_its_codes(tmp_path):
    plain = ("--model.posterior", "point", "--objective", "reconstruction", "--model.latent", "3", "--epochs", "20")
    folder = trained(tmp_path / "run", *plain)
    run = train.load_run(folder, "last")
    with pytest.raises(ConfigError, match=r"no prior .* run.with_prior\(x\)"):
        run.sample(3)
    drawn = dataclasses.replace(run.config, terms=(MMD(),))  # codes that a term drew to the prior have one
    assert type(run)(run.path, drawn, run.facts, run.model, run.which).sample(3).shape == (3, *run.shape)
    with pytest.raises(ConfigError, match="no likelihood"):
        run.score(X[:3], samples=2)
    with pytest.raises(ConfigError, match="needs at least 40 examples, got 39"):
        run.with_prior(X[:39])
    fitted, seen = run.with_prior(X), run.reconstruct(X)
    drawn = fitted.sample(4000, 3)  # the same distribution, nearly
    np.testing.assert_allclose(drawn.mean(0), seen.mean(0), atol=0.15 * seen.std(0).max())
    np.testing.assert_allclose(drawn.std(0), seen.std(0), atol=0.15 * seen.std(0).max())
    far, near = fitted.score(X[:50] * 0)["log_prior_nats"], fitted.score(X[:50])["log_prior_nats"]
    assert far.mean() < near.mean()
    fitted.export(tmp_path / "out")
    again = train.load_run(tmp_path / "out")
    np.testing.assert_allclose(again.sample(5, 3), fitted.sample(5, 3), rtol=1e-5)


def test_a_table_is_used_in_its_own_units_after_its_file_is_gone(tmp_path):
    rng = np.random.default_rng(0)
    base = rng.normal(size=(300, 1))
    table = np.hstack([1000 + 200 * base, 0.01 * base + 0.001 * rng.normal(size=(300, 1)), np.full((300, 1), 7.0)])
    path = tmp_path / "t.csv"
    np.savetxt(path, table, delimiter=",", header="mass,width,constant", comments="")
    run = train.load_run(trained(tmp_path / "run", "--dataset", f"file:{path}", "--epochs", "40"))
    path.unlink()
    again = run.reconstruct(table)
    assert run.facts.columns == ("mass", "width", "constant")
    np.testing.assert_allclose(again[:, 2], 7.0)
    for column in (0, 1):  # closer than the column's own spread, in its own units
        assert np.sqrt(np.mean((again[:, column] - table[:, column]) ** 2)) < 0.6 * table[:, column].std()


def test_a_folder_of_pictures_is_used_after_it_is_gone(tmp_path):
    rng = np.random.default_rng(1)
    shades = rng.integers(0, 256, (60, 1, 1, 1))
    pictures = np.broadcast_to(shades, (60, 6, 5, 3)).astype(np.uint8)
    (tmp_path / "pictures").mkdir()
    for i, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "pictures" / f"{i:03d}.png")
    run = train.load_run(trained(tmp_path / "run", "--dataset", f"file:{tmp_path / 'pictures'}", "--epochs", "60"))
    shutil.rmtree(tmp_path / "pictures")
    again = run.reconstruct(pictures)
    assert again.shape == pictures.shape
    assert np.corrcoef(again.mean((1, 2, 3)), shades.ravel())[0, 1] > 0.95


def test_what_is_no_run_is_one_line(digits, tmp_path):
    with pytest.raises(RunError, match="there is no run folder"):
        train.load_run(tmp_path / "none")
    with pytest.raises(RunError, match=r"config\.json"):
        train.load_run(tmp_path)
    with pytest.raises(ConfigError, match="which must be"):
        train.load_run(digits, "newest")
    copy = shutil.copytree(digits, tmp_path / "copy")
    (copy / "env.json").write_text('{"data": 3}')
    with pytest.raises(RunError, match=r"env\.json"):
        train.load_run(copy)
    shutil.copy(digits / "env.json", copy / "env.json")
    for path in (copy / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(RunError, match="refused"):
        train.load_run(copy, "best")
