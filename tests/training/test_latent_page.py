"""latent.html: it decodes as JAX does, works in a browser without a network, and refuses what it cannot decode."""

import io
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from data import Scale
from models import Autoencoder, ConfigError, Conv, Dense, Mirror, Model, Sizes, likelihoods, posteriors
from tests.search.browser import browser, chromium
from training.pictures import latent
from training.pictures.latent.page import page_data

LIKELIHOODS = likelihoods.DiscretizedLogisticLikelihood(), likelihoods.BernoulliLikelihood()


def run_of(shape=(9, 7, 1), **parts):
    """What the page needs of a loaded run, around a fresh model with moved biases."""
    cfg = Model(**{"latent": 3, "posterior": posteriors.PointPosterior(), **parts})
    model = Autoencoder(cfg, Sizes(shape, classes=3), rngs=nnx.Rngs(0))
    for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param)):
        value[...] = value[...] + 0.1 * jax.random.normal(jax.random.key(len(str(path))), value.shape)
    facts = types.SimpleNamespace(name="</script>", shape=shape, scale=Scale(), columns=(), low=0.0, high=1.0)
    on = lambda a: None if a is None else jnp.asarray(a)
    encode = lambda x, label=None: np.asarray(model.encode(jnp.asarray(x), None, on(label)).mean)
    return types.SimpleNamespace(
        model=model, facts=facts, latent=cfg.latent, path=types.SimpleNamespace(name="r"), encode=encode
    )


RUNS = {
    "dense": {"encoder": Dense((8,), "gelu", norm="layer"), "likelihood": LIKELIHOODS[0], "labels": "given"},
    "conv": {"encoder": Conv((4, 3), activation="elu", norm="batch"), "likelihood": LIKELIHOODS[1]},
}
X = np.random.default_rng(0).random((40, 9, 7, 1), np.float32)
Y = np.arange(40) % 3


@pytest.mark.parametrize("name", RUNS)
def test_the_page_decodes_as_jax_in_a_browser(name, tmp_path):
    if chromium() is None:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    run = run_of(**RUNS[name])
    path = latent.write(tmp_path / "latent.html", run, X, Y)
    text = path.read_text()
    assert "http" not in text.replace("http-equiv", "")
    with browser(tmp_path / "profile") as page:
        page.open(path)
        assert page.errors() == []
        z = [0.3, -0.4, 0.8]
        label = 2 if run.model.classes else 0
        found = page.run(f"const [m, t] = decode({z}, {label}, [0, 2]); return [[...m], ...t.map(a => [...a])]")
        hot = jnp.full(1, label) if run.model.classes else None
        g = lambda z: run.model.decode(z[None], None, hot).mean.reshape(-1)
        np.testing.assert_allclose(found[0], g(jnp.asarray(z)), atol=1e-5)
        np.testing.assert_allclose(found[1:], jax.jacfwd(g)(jnp.asarray(z)).T[jnp.array([0, 2])], atol=1e-5)
        assert page.run("return agreement()") < 1e-5
        first = page.run("return [state.z, document.querySelector('#image').toDataURL()]")
        x, y = page.run(
            "const b = document.querySelector('#plane').getBoundingClientRect(); return [b.x, b.y].map(Math.round)"
        )
        page.drag((x + 100, y + 100), (x + 400, y + 150))
        moved = page.run("return [state.z, document.querySelector('#image').toDataURL()]")
        assert moved[0] != first[0]
        assert moved[1] != first[1]
        low, high = page.run("return reach(state.dims[0])")
        assert abs(moved[0][page.run("return state.dims[0]")] - (low + (400 - 24) / 512 * (high - low))) < 0.02 * (
            high - low
        )
        shot = page.screenshot()
        assert page.errors() == []
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).reshape(-1, 3)
    assert len(np.unique(pixels, axis=0)) > 30
    (tmp_path / "shot.png").write_bytes(shot)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"encoder": Dense((4,)), "decoder": Mirror(tied=True), "likelihood": LIKELIHOODS[1]}, "not tied weights"),
        (
            {"encoder": Dense((4,)), "likelihood": likelihoods.CategoricalLikelihood(levels=3)},
            "and laplace, not categorical",
        ),
        ({"encoder": Dense((4,)), "latent": 1}, "at least 2 units, got 1"),
        ({"encoder": Dense((4,)), "shape": (4, 5)}, r"not examples of shape \(4, 5\)"),
    ],
)
def test_what_the_page_cannot_decode_is_refused_in_one_line(parts, words):
    with pytest.raises(ConfigError, match=words) as error:
        page_data(run_of(**parts), X.reshape(40, 9, 7, 1), Y)
    assert "\n" not in str(error.value)


def test_names_cannot_leave_their_script(tmp_path):
    text = latent.write(tmp_path / "p.html", run_of(encoder=Dense((4,)), likelihood=LIKELIHOODS[1]), X).read_text()
    assert text.count("</script>") == 2
    data = text.split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["name"] == "</script>: r"
