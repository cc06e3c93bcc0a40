"""`python -m experiments.apply`: verbs on a trained run, files out, names carried along."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import train
from experiments import apply
from training.pictures import drawing

X = load_digits().images[..., None]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("apply") / "run"
    assert train.main(["--run-dir", str(folder), "--epochs", "1", "--no-figures"]) == 0
    return folder


@pytest.fixture(scope="module")
def some(tmp_path_factory):
    path = tmp_path_factory.mktemp("some") / "some.npy"
    np.save(path, X[:6].astype(np.uint8))
    return path


def call(*argv):
    return apply.main(list(map(str, argv)))


def test_encode_to_npz_and_csv_are_the_run_s_codes(run, some, tmp_path, capsys):
    wanted = train.load_run(run).encode(X[:6])
    assert call(run, "encode", "--data", some, "--out", tmp_path / "z.npz") == 0
    found = np.load(tmp_path / "z.npz")
    np.testing.assert_array_equal(found["z"], wanted)
    assert call(run, "encode", "--data", some, "--out", tmp_path / "z.csv") == 0
    rows = list(csv.reader((tmp_path / "z.csv").read_text().splitlines()))
    assert rows[0][:3] == ["name", "z1", "z2"]
    np.testing.assert_allclose(np.array([row[1:] for row in rows[1:]], float), wanted, rtol=1e-6)
    assert "(6, 20)" in capsys.readouterr().out


def test_names_of_files_travel_along(run, tmp_path):
    (tmp_path / "pictures").mkdir()
    for i in (3, 1):
        Image.fromarray(X[i, ..., 0].astype(np.uint8)).save(tmp_path / "pictures" / f"digit{i}.png")
    assert call(run, "score", "--data", tmp_path / "pictures", "--out", tmp_path / "s.csv") == 0
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    assert [row["name"] for row in rows] == ["digit1.png", "digit3.png"]
    assert float(rows[0]["mse"]) == pytest.approx(float(train.load_run(run).score(X[1])["mse"]), rel=1e-4)


@pytest.mark.parametrize("verb", ["reconstruct", "sample", "interpolate"])
def test_pictures_are_drawn(run, some, verb, tmp_path):
    data = () if verb == "sample" else ("--data", some)
    assert call(run, verb, *data, "--out", tmp_path / "p.png", "--n", 5) == 0
    with Image.open(tmp_path / "p.png") as image:
        pixels = np.asarray(image.convert("L"), float)
    assert pixels.std() > 10  # not blank


def test_captions_name_the_file_that_was_given(run, some, tmp_path, monkeypatch):
    said = []
    for name in ("reconstructions", "latent_scatter"):
        monkeypatch.setattr(drawing, name, lambda *args, source="", **_: said.append(source or args[-1]))
    assert call(run, "reconstruct", "--data", some, "--out", tmp_path / "p.png") == 0
    assert call(run, "figures", "--data", some, "--out", tmp_path / "f") == 0
    assert call(run, "reconstruct", "--out", tmp_path / "p.png") == 0
    assert said == ["some.npy", "some.npy", "some.npy", "test set"]


def test_figures_and_export_make_folders(run, some, tmp_path):
    assert call(run, "figures", "--data", some, "--out", tmp_path / "figures") == 0
    assert {"reconstructions.png", "latent.png", "directions.png"} <= {p.name for p in (tmp_path / "figures").iterdir()}
    assert call(run, "export", "--out", tmp_path / "hub") == 0
    assert call(tmp_path / "hub", "encode", "--data", some, "--out", tmp_path / "z.npz") == 0


def test_without_data_the_run_s_own_test_split_is_used(run, tmp_path):
    assert call(run, "reconstruct", "--out", tmp_path / "r.npz") == 0
    assert np.load(tmp_path / "r.npz")["reconstruction"].shape == (450, 8, 8, 1)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("encode", "--out", "z.png"), "makes no pictures"),
        (("encode", "--out", "z.pdf"), "must end in .npz, .csv, .png, .txt or .wav"),
        (("encode", "--out", "none/z.npz"), "does not exist"),
        (("encode", "--data", "none.npy"), "no such file"),
        (("interpolate", "--between", "0", "9999"), "no row of the 450 examples"),
        (("interpolate", "--n", "1"), "at least 2"),
        (("sample", "--n", "0"), "at least 1"),
        (("sample", "--seed", str(10**20)), "--seed must be below 2^31"),
        (("sample", "--top-k", "3"), "of draws of steps in turn"),
    ],
)
def test_mistakes_are_one_line(run, tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert call(run, *argv) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A run on lines, with word dropout, annealing and free bits by command."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "x.txt").write_text("to be\nor not\nthat is\n" * 12)
    parts = ("recurrent", "--model.encoder.width", "8", "--model.encoder.drop-words", "0.3", "--model.latent", "3")
    weights = ("--objective.warmup-steps", "9", "--objective.free-bits", "0.1")
    argv = ("--dataset", f"file:{folder / 'x.txt'}#line", "--model.encoder", *parts, *weights, "--lr", "0.03")
    assert (
        train.main([*argv, "--epochs", "3", "--batch-size", "8", "--run-dir", str(folder / "run"), "--no-figures"]) == 0
    )
    return folder / "run"


def test_texts_are_drawn_by_temperature_among_the_likeliest(texts, tmp_path, capsys):
    def drawn(*argv):
        assert call(texts, "sample", "--n", 20, "--out", tmp_path / "s.txt", *argv) == 0
        return (tmp_path / "s.txt").read_text().splitlines()

    likeliest = drawn()
    assert drawn("--top-k", 1, "--temperature", 9) == drawn("--temperature", 1e-6) == likeliest
    assert len(set(drawn("--temperature", 1))) > len(set(likeliest))
    assert call(texts, "sample", "--temperature", 0, "--out", tmp_path / "s.txt") == 1
    assert "temperature must be above 0" in capsys.readouterr().err


def test_a_run_on_ratings_recommends_what_a_user_has_not_chosen(run, tmp_path, capsys):
    rng = np.random.default_rng(0)
    pairs = [(f"u{u}", f"i{i}") for u in range(40) for i in rng.choice(9, 4, replace=False)]
    (tmp_path / "a.csv").write_text("user,item\n" + "\n".join(map(",".join, pairs)))
    small = ["--epochs", "1", "--batch-size", "8", "--no-figures", "--kind", "ratings"]
    assert train.main(["--dataset", f"file:{tmp_path / 'a.csv'}", "--run-dir", str(tmp_path / "run"), *small]) == 0
    (tmp_path / "new.csv").write_text("user,item\nme,i3\nme,i5\n")
    new = tmp_path / "run", "recommend", "--data", tmp_path / "new.csv"
    assert call(*new, "--n", 3, "--out", tmp_path / "r.csv") == 0
    ((name, *said),) = list(csv.reader((tmp_path / "r.csv").read_text().splitlines()))[1:]
    loaded = train.load_run(tmp_path / "run")
    x = np.isin(loaded.facts.columns, ["i3", "i5"]).astype(np.uint8)
    share = loaded.reconstruct(x)
    order = [i for i in np.argsort(-share, kind="stable") if not x[i]]
    assert (name, said[:3]) == ("me", [loaded.facts.columns[i] for i in order[:3]])
    np.testing.assert_allclose(np.array(said[3:], float), share[order[:3]], rtol=1e-6)
    every = loaded.recommend(x, 9)
    assert every.items[7:].tolist() == ["", ""]
    assert np.isnan(every.scores[7:]).all()
    assert call(*new, "--n", 10, "--out", tmp_path / "r.csv") == 1
    assert call(run, "recommend", "--out", tmp_path / "r.csv") == 1
    assert call(*new, "--out", tmp_path / "r.png") == 1
    said = capsys.readouterr().err
    assert all(w in said for w in ("n must be at most 9", "digits has no items to recommend", "makes no pictures"))
