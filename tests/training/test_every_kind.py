"""`load_run` of every kind of model: the verbs that it has work, the others say in one line why not."""

import shutil

import numpy as np
import pytest

import train
from models.autoencoder import Model
from models.config import ConfigError, by_kind
from training.store.run_folder import read_json

RNG = np.random.default_rng(0)
X = (RNG.random((120, 4, 4)) < RNG.random((120, 1, 1))).astype(np.uint8)
Y = np.arange(120) % 3
MOVES = np.concatenate([RNG.normal(size=(120, 5, 2)), RNG.integers(0, 2, (120, 5, 1))], axis=2)
MOVES[:, -1, 2] = 2  # the end of a drawing
SMALL = ["--epochs", "1", "--batch-size", "32", "--model.encoder.hidden", "8", "--model.latent", "4"]
OWN = {  # what a kind cannot do without
    "point": ["--objective", "reconstruction"],
    "vq": ["--model.prior", "codes", "--model.posterior.entries", "4"],
    "fsq": ["--model.prior", "codes"],
    "gumbel": ["--model.prior", "codes"],
    "vmf": ["--model.prior", "sphere"],
    "chain": ["--model.prior", "chain"],
    "jump": ["--objective", "reconstruction"],
    "gated": ["--objective", "reconstruction"],
    "tokens": ["--scale", "none"],
    "strokes": ["--scale", "none", "--kind", "series"],
    "multinomial": ["--scale", "none"],
}


def cases():
    """Yield (name, options): every posterior, prior, likelihood, objective and use of labels with what it needs."""
    for part in by_kind(Model, "posterior"):
        yield part, ["--model.posterior", part, *OWN.get(part, [])]
    for part in sorted(set(by_kind(Model, "prior")) - {"codes", "sphere", "chain"}):
        posterior = {"autoregressive": ["--model.posterior", "vq"]}.get(part, [])
        yield f"prior {part}", [*posterior, "--model.prior", part]
    for part in sorted(set(by_kind(Model, "likelihood")) - {"auto"}):
        yield part, ["--model.likelihood", part, *OWN.get(part, [])]
    yield "denoising", ["--objective", "denoising", "--model.posterior", "point"]
    yield "bound", ["--objective", "bound"]
    yield "hidden", ["--objective.hide", "block", "--model.marks", "on"]
    yield "labels given", ["--model.labels", "given"]
    yield "semisupervised", ["--objective", "semisupervised", "--model.labels", "inferred"]
    gan = ["--objective", "sampling", "--model.encoder", "none", "--model.decoder", "dense", "--terms", "adversarial"]
    yield "no encoder", gan


IN_CI = ("no encoder", "semisupervised")  # the two that differ most from the run that every other test uses


def said(call):
    """Return the one line of a refusal."""
    with pytest.raises(ConfigError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "options"),
    [pytest.param(*case, id=case[0], marks=[] if case[0] in IN_CI else pytest.mark.campaign) for case in cases()],
)
def test_every_kind_of_model_is_used(name, options, tmp_path):
    data = MOVES if name == "strokes" else X[..., None]
    np.savez(tmp_path / "a.npz", x=data, y=Y)
    small = [o for o in SMALL if name != "no encoder" or o not in ("--model.encoder.hidden", "8")]
    places = ["--dataset", f"file:{tmp_path / 'a.npz'}", "--run-dir", str(tmp_path / "run")]
    assert train.main([*places, *small, *options]) == 0
    run = train.load_run(shutil.copytree(tmp_path / "run", tmp_path / "copy"))
    drawn = {p.stem for p in (tmp_path / "run" / "figures").iterdir()}
    assert ({"samples"} if name == "no encoder" else {"reconstructions", "samples", "latent", "traversal"}) <= drawn
    label = 1 if "--model.labels" in options or "labelled" in options else None
    x, has = data[:7], {}
    if name == "no encoder":
        for verb in (run.encode, run.reconstruct, run.score):
            assert "encoder" in said(lambda verb=verb: verb(x))
    else:
        z, again = run.encode(x, label), run.reconstruct(x, label)
        assert (z.shape, again.shape) == ((7, run.latent), x.shape)
        np.testing.assert_allclose(run.encode(x[2], label), z[2], atol=1e-5)
        line = run.interpolate(x[0], x[1], 3, label)  # labels inferred of the ends go over into each other
        np.testing.assert_allclose(line[[0, 2]], again[:2], atol=1e-4)
        has = run.score(x, label=label)
        assert all(np.isfinite(v).all() and v.shape == (7,) for v in has.values())
        if name not in ("semisupervised", "tokens"):  # whose scores are a mean over labels, or of symbols
            mse = np.mean(((again - x) ** 2).reshape(7, -1), axis=1)
            np.testing.assert_allclose(has["mse"], mse, rtol=1e-4, atol=1e-6)
        wanted = read_json(tmp_path / "run" / "summary.json")["test"]
        assert set(has) & set(wanted)
    if name in ("point", "jump", "gated", "denoising"):
        assert "no prior" in said(lambda: run.sample(3))
        return
    drawn = run.sample(5, 1)
    assert drawn.shape == (5, *x.shape[1:])
    assert np.isfinite(drawn).all()
    run.export(tmp_path / "out")
    np.testing.assert_allclose(train.load_run(tmp_path / "out").sample(5, 1), drawn, rtol=1e-5, atol=1e-6)
