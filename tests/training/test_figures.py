"""The pictures of a run show what they say; progress, table and export say the numbers."""

import io
import subprocess
import sys
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from data import Scale
from models import Autoencoder, ConfigError, Dense, Model, Sizes, posteriors, priors
from models.likelihoods import NormalLikelihood
from tests.conftest import ROOT
from training.cli.progress import Progress, result_table
from training.pictures import drawing, figures
from training.pictures.directions import directions
from training.pictures.names import words


class Normal(NamedTuple):
    mean: jax.Array
    log_std: jax.Array

    def sample(self, key):
        return self.mean + jnp.exp(self.log_std) * jax.random.normal(key, self.mean.shape)


class Point(NamedTuple):
    mean: jax.Array


@jax.tree_util.register_pytree_node_class
class Linear:
    """A linear autoencoder with random weights, as small as the contract allows."""

    def __init__(self, weight, shape, variational):
        self.weight, self.shape, self.variational = weight, shape, variational

    def tree_flatten(self):
        return (self.weight,), (self.shape, self.variational)

    @classmethod
    def tree_unflatten(cls, aux, leaves):
        return cls(*leaves, *aux)

    def encode(self, x, key=None):
        mean = x.reshape(len(x), -1) @ self.weight
        return Normal(mean, mean * 0) if self.variational else Point(mean)

    def decode(self, z, key=None):
        return Point(jax.nn.sigmoid(z @ self.weight.T).reshape(len(z), *self.shape))

    def prior(self):
        zero = jnp.zeros((1, self.weight.shape[1]))
        return Normal(zero, zero)


def make(shape, latent, variational=True, labels=4, n=50):
    rng = np.random.default_rng(0)
    image = len(shape) == 3
    x = rng.integers(0, 256, (n, *shape)).astype(np.uint8) if image else rng.normal(size=(n, *shape))
    y = None if labels is None else rng.integers(0, labels, n)
    weight = jnp.asarray(rng.normal(size=(int(np.prod(shape)), latent)) / np.prod(shape) ** 0.5, jnp.float32)
    test = SimpleNamespace(x=x, y=y)
    scale = Scale("unit", 0.0, 1 / 255) if image else Scale()
    return Linear(weight, shape, variational), SimpleNamespace(
        splits={"test": test}, range=(0, 255), scale=scale, display=lambda x: x
    )


ROWS = [
    {
        "step": 10 * e,
        "epoch": e,
        "train": {"loss": 9.0 - e},
        "validation": {"loss": 9.5 - e, "kl_nats": "nan"},
    }
    for e in range(1, 5)
]


@pytest.mark.parametrize(
    ("shape", "latent", "variational", "labels"),
    [((8, 8, 1), 2, True, 4), ((6, 5, 3), 18, False, None), ((12,), 3, True, 30), ((4, 3), 1, False, 12)],
)
def test_every_figure_is_written_and_not_blank(tmp_path, shape, latent, variational, labels):
    model, dataset = make(shape, latent, variational, labels)
    paths = figures.write_all(tmp_path / "figures", model, dataset, ROWS, jax.random.key(0))
    names = {"curves.png", "reconstructions.png", "samples.png", "latent.png", "traversal.png"}
    assert {p.name for p in paths} == names == {p.name for p in (tmp_path / "figures").iterdir()}
    for path in paths:
        with Image.open(path) as image:
            picture = np.asarray(image.convert("RGB"), float)
        assert min(picture.shape[:2]) > 100
        assert picture.std() > 5, path.name
        rows_with_ink = (picture.min(axis=(1, 2)) < 200).mean()
        assert rows_with_ink > 0.3, path.name


def test_few_examples_and_no_metrics(tmp_path):
    model, dataset = make((4, 4, 1), 2, labels=None, n=3)
    paths = figures.write_all(tmp_path, model, dataset, [], jax.random.key(0))
    assert "curves.png" not in {p.name for p in paths}
    assert len(paths) == 4


def test_tiles_keep_every_pixel_in_its_place():
    images = np.random.default_rng(0).uniform(size=(6, 5, 4, 1))
    picture = drawing.tiles(images, 2, 3)
    assert picture.shape == (2 * 5 + 1, 3 * 4 + 2, 3)
    for i, image in enumerate(images):
        top, left = (i // 3) * 6, (i % 3) * 5
        np.testing.assert_array_equal(picture[top : top + 5, left : left + 4, 1], image[..., 0])
    np.testing.assert_array_equal(picture[5], np.ones((14, 3)))


def test_examples_are_scaled_as_the_model_sees_them():
    _, dataset = make((3, 3, 1), 2)
    x, labels = figures.examples(dataset, 7)
    np.testing.assert_allclose(x, dataset.splits["test"].x[:7] / 255, rtol=1e-6)
    assert len(labels) == 7
    binary = SimpleNamespace(
        splits={"test": SimpleNamespace(x=np.eye(3, dtype=np.uint8), y=None)}, range=(0, 1), scale=Scale()
    )
    np.testing.assert_array_equal(figures.examples(binary, 3)[0], np.eye(3))


@pytest.mark.parametrize("variational", [True, False])
def test_traversal_moves_one_latent_and_no_other(variational):
    rng = np.random.default_rng(1)
    codes = rng.normal(size=(500, 3)) * [1.0, 5.0, 2.0] + [0.0, 1.0, -4.0]
    model, _ = make((2, 2, 1), 3, variational)
    plan = figures.latents(model, codes, variational, jax.random.key(0))
    assert list(plan["order"]) == [1, 2, 0]  # those that vary most come first
    moved = plan["moved"].reshape(3, len(plan["values"]), 3)
    mean, deviation = (np.zeros(3), np.ones(3)) if variational else (codes.mean(0), codes.std(0))
    for row, latent in enumerate(plan["order"]):
        standard = (moved[row] - mean) / deviation
        np.testing.assert_allclose(standard[:, latent], np.linspace(-3, 3, len(plan["values"])), atol=1e-12)
        np.testing.assert_allclose(np.delete(standard, latent, axis=1), 0, atol=1e-12)


def test_draws_for_a_plain_autoencoder_have_the_moments_of_its_codes():
    rng = np.random.default_rng(2)
    codes = rng.normal(size=(800, 2)) @ np.array([[2.0, 1.5], [0.0, 0.5]]) + [3.0, -1.0]
    drawn = figures.latents(None, codes, False, jax.random.key(0), 20_000)["samples"]
    np.testing.assert_allclose(drawn.mean(0), codes.mean(0), atol=0.1)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(codes.T), atol=0.2)


def test_projection_is_pca():
    codes = np.random.default_rng(3).normal(size=(200, 5)) * [1, 2, 9, 3, 1]
    points, names, _ = drawing.project(codes)
    variances = np.sort(np.linalg.eigvalsh(np.cov(codes.T)))[::-1]
    np.testing.assert_allclose(np.var(points, axis=0, ddof=1), variances[:2], rtol=1e-10)
    assert names[0] == f"PC 1 ({100 * variances[0] / variances.sum():.0f} % of variance)"
    flat = drawing.project(np.zeros((4, 3)))  # a collapsed posterior
    assert np.all(flat[0] == 0)
    assert np.all(drawing.project(np.ones((1, 3)))[0] == np.zeros((1, 2)))  # a test split of one example


def test_series_sorts_rows_by_metric_and_split():
    rows = [
        {
            "step": 5,
            "epoch": 1,
            "train/nll": 2.0,
            "validation": {"nll": 3.0},
            "mse_validation": 0.5,
            "time": 1.0,
        },
        {"step": 10, "epoch": 2, "train/nll": "nan", "validation": {"nll": 1.0}, "ok_train": True},
    ]
    expected = {
        "nll": {"train": ([1.0], [2.0]), "validation": ([1.0, 2.0], [3.0, 1.0])},
        "mse": {"validation": ([1.0], [0.5])},
    }
    assert drawing.series(rows) == expected
    assert drawing.series(rows, axis="step")["nll"]["validation"][0] == [5.0, 10.0]


def test_names_carry_units():
    assert words("negative_elbo_nats") == ("negative ELBO", "nats per example")
    assert words("bits_per_dim") == ("bits per dimension", "bits")
    assert words("accuracy") == ("accuracy", "")


def test_progress_in_plain_lines():
    ticks = iter(np.arange(100.0))
    out, clock = io.StringIO(), lambda: next(ticks)
    with Progress(steps=40, steps_per_epoch=10, batch_size=100, seconds=0.0, out=out, clock=clock) as progress:
        for step in (10, 20):
            progress.update(step, 0.123456)
        assert progress.rate == pytest.approx(10 * 100 / 2)  # two ticks: the update's, the line's
        progress.message("note")
    lines = out.getvalue().splitlines()
    assert lines[0] == "epoch 1/4  step 10/40  loss 0.1235"
    assert lines[1] == "epoch 2/4  step 20/40  loss 0.1235  500 images/s  0:04 left"
    assert lines[2] == "note"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_and_table_on_a_terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    with Progress(steps=4, steps_per_epoch=2, batch_size=1, out=out) as progress:
        progress.update(3, 0.5)
        progress.message("kept [as it is]")
    result_table("Test set", {"negative_elbo_nats": 103.25, "seed": 3}, out)
    for text in ("kept [as it is]", "step 3/4", "loss 0.5", "negative ELBO", "103.2500", "nats per example"):
        assert text in out.getvalue()


def test_result_table_in_plain_text():
    out = io.StringIO()
    result_table("Test set", {"negative_elbo_nats": 103.25, "mse": 1.25e-5, "count": 10_000, "a": float("nan")}, out)
    assert out.getvalue().splitlines()[:3] == [
        "Test set",
        "  negative ELBO  103.2500  nats per example",
        "  MSE            1.25e-05  scaled units squared",
    ]


def test_importing_the_package_loads_no_drawing_library():
    code = (
        "import sys, training, training.pictures.figures, training.cli.progress, training.pictures.trackers;"
        "print([m for m in ('matplotlib', 'rich', 'PIL', 'tensorboardX', 'sklearn') if m in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = run.stdout.strip()
    assert loaded == "[]"


def test_directions_are_the_singular_value_decomposition_of_the_decoder():
    """U Σ Vᵀ put together again is J by reverse mode; the largest change of each direction is up."""
    cfg = Model(Dense((5,), "tanh"), latent=3, posterior=posteriors.PointPosterior(), likelihood=NormalLikelihood())
    model = Autoencoder(cfg, Sizes((4,)), rngs=nnx.Rngs(0))
    x = jax.random.uniform(jax.random.key(0), (2, 4))
    u, s, v, decoded = directions(model, x)
    wanted = jax.vmap(jax.jacrev(lambda z: model.decode(z[None]).mean[0]))(model.encode(x).mean)
    np.testing.assert_allclose(np.einsum("nkx,nk,nkz->nxz", u, s, v), wanted, atol=1e-6)
    np.testing.assert_allclose(decoded, model.decode(model.encode(x).mean).mean, atol=1e-6)
    assert (u.max(2) >= -u.min(2) - 1e-9).all()
    one = Model(Dense((5,)), latent=2, posterior=posteriors.FSQPosterior(), prior=priors.CodesPrior())
    jumps = Autoencoder(one, Sizes((4,)), rngs=nnx.Rngs(0))
    with pytest.raises(ConfigError, match="jump"):
        directions(jumps, x)
