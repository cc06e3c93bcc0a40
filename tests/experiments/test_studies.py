"""Studies: rows that functions compute, resumed by row and seed, with claims judged by their intervals."""

import math
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import train
from experiments.command import main
from experiments.reporting import report
from experiments.reporting.words import Words
from experiments.running import store, study
from experiments.running.claims import Claim, claim_verdict, claims_of
from experiments.running.study import Case, Study
from experiments.running.table import Profile
from experiments.running.trained import numbers_of, subject_of, trained
from experiments.tables.uses import imputation
from models import Dense, Model
from models.batch import Batch
from models.config import ConfigError
from models.distributions import Normal


class ToyProtocol(NamedTuple):
    """A study's settings."""

    scale: float = 1.0
    dataset: str = ""


calls = []


def noisy(protocol, seed, data):
    """A row: its number is known, its array goes to the figure."""
    calls.append(seed)
    return {"error": protocol.scale * (2 + seed), "curve": np.arange(3) + seed}


def drawn(path, record, arrays):
    """A figure that checks what it is given."""
    path.write_bytes(b"x" * len(arrays["a"]["curve"]) + bytes(np.stack(arrays["a"]["curve"]).shape))
    return True


CLAIMS = (
    Claim("a over b", lambda rows: rows["a"]["error"] / rows["b"]["error"], high=1, expected=0.5),
    Claim("of a row that a profile leaves out", lambda rows: rows["c"]["error"]),
)
STUDY = Study(
    rows={"a": Case(noisy, bound="b"), "b": Case(lambda p, s, d: {"error": 10.0}, exact=True), "c": Case(noisy)},
    protocol=ToyProtocol(),
    metric="error",
    claims=CLAIMS,
    figures=(drawn,),
    profiles={
        "smoke": Profile(3, {"scale": 2.0}, ("a", "b")),
        "bad": Profile(1, {"scael": 2.0}),
    },
)


def test_a_study_goes_on_where_it_stopped_and_reports_its_claims(tmp_path, monkeypatch):
    words = Words("T", "C.", "S", "x", "y", "z", "But.")
    monkeypatch.setattr("experiments.command.describe", lambda path: words)  # no file among the tables is its own
    calls.clear()
    arguments = ["--profile", "smoke", "--results", str(tmp_path)]
    announce = study.announce

    def interrupt(metric, row, seed, *rest):
        announce(metric, row, seed, *rest)
        if seed == 1 and not rest[1]:
            raise KeyboardInterrupt

    monkeypatch.setattr(study, "announce", interrupt)
    assert main(STUDY, "beta", arguments) == 130
    monkeypatch.setattr(study, "announce", announce)
    assert main(STUDY, "beta", arguments) == 0
    assert calls == [0, 1, 2]  # none twice
    record = store.read_result(tmp_path / "beta.json")
    assert record["rows"]["a"]["metrics"]["error"] == [4, 6, 8]
    assert record["rows"]["b"]["metrics"]["error"] == [10]
    assert [claim["values"] for claim in record["claims"]] == [[0.4, 0.6, 0.8]]
    assert record["caveats"] == "But."
    assert record["figures"] == ["beta.png"]
    assert (tmp_path / "beta.png").read_bytes() == b"xxx" + bytes([3, 3])  # an array for each of 3 seeds
    text = report.text(record)
    assert "| a over b | 0.6 [0.1032, 1.097] | 0.5      | ≤ 1   | met in the mean |" in text
    assert report.verdict(record, "a") == "as b"
    assert not (tmp_path / ".partial" / "beta-smoke").exists()


def test_a_row_without_its_library_is_left_out_and_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(study.MODULES, "umap", "no_such_module")
    rows = STUDY.rows | {"b": STUDY.rows["b"]._replace(needs="umap")}
    record, _ = study.run_study(STUDY._replace(rows=rows), "toy", "smoke", folder=tmp_path)
    assert list(record["rows"]) == ["a"]
    assert record["left_out"] == {"b": "needs no_such_module: pip install -e .[umap]"}
    assert "b is left out: it needs no_such_module" in capsys.readouterr().err


def test_what_a_profile_changes_must_exist():
    with pytest.raises(ConfigError, match="scael"):
        study.protocol_of(STUDY, STUDY.profiles["bad"])
    with pytest.raises(ValueError, match="named numbers"):
        study.parted({"curve": np.zeros(3)}, "r")


VERDICTS = [
    ((0.2, 0.3, 0.4), "met"),
    ((0.2, 0.3, 1.4), "met in the mean"),
    ((0.9, 1.1, 1.3), "missed in the mean"),
    ((1.1, 1.2, 1.3), "missed"),
    ((-math.inf, 1.2, math.inf), "missed (1 seed)"),
    ((math.nan, math.nan, math.nan), "no finite value"),
]


@pytest.mark.parametrize(("interval", "verdict"), VERDICTS)
def test_a_claim_is_judged_by_its_whole_interval(interval, verdict):
    (claim,) = claims_of([Claim("t", lambda rows: 0.0, low=0, high=1)], {})
    assert claim_verdict(claim, *interval) == verdict
    assert claim_verdict(claim | {"low": -math.inf, "high": "inf"}, *interval) == ""


def test_a_trained_row_is_the_run_alone_and_may_be_asked_for_any_metric():
    data = study.data_of(ToyProtocol(dataset="digits"), None)
    assert (data.x("test", 3).shape, len(data.y("test"))) == ((3, 64), len(data.splits["test"]))
    config = train.Config(model=Model(Dense((8,), "tanh"), latent=2), lr=0.02, epochs=1, batch_size=600)
    found = trained(config, 3, data)
    (alone,) = study.group.fitting([config], data.dataset)
    alone = train.train(alone, jax.random.key(3), dict(data.splits)).state.model
    gap = jax.tree.map(lambda a, b: float(np.abs(a - b).max()), *map(jax.tree.leaves, (alone, found)))
    assert max(gap) < 1e-6
    numbers = numbers_of(subject_of(found, 3, data, limit=40), ["active_units", "rate_distortion"])
    assert {"rate_nats", "distortion_nats"} <= set(numbers)
    with pytest.raises(ConfigError, match="mig: the data have no known factors"):
        numbers_of(subject_of(found, 3, data), ["mig"])


def test_what_is_expected_of_hidden_values_is_the_conditional_mean():
    """x_i = z + noise of variance 1/4, z standard normal: E[x_2 | x_1] = x_1 / 1.25, though q is not p(z | x_1)."""
    model = SimpleNamespace(
        sees=lambda batch: batch.x,
        encode=lambda x: Normal(jnp.zeros((len(x), 1)), jnp.full((len(x), 1), np.log(1.5))),
        prior=lambda: Normal(jnp.zeros((1, 1)), jnp.zeros((1, 1))),
        decode=lambda z: Normal(jnp.repeat(z, 2, axis=1), jnp.full((len(z), 2), np.log(0.5))),
    )
    seen = jnp.asarray([[1.0, 0.0], [-0.5, 0.0]])
    filled = imputation.expected(model, Batch(seen, None, jnp.asarray([[True, False]] * 2)), samples=40_000)
    np.testing.assert_allclose(filled[:, 1], [0.8, -0.4], atol=0.02)  # its standard error is 0.003
