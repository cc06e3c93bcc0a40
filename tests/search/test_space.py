"""The space of a sweep: domains over any config field, and one clear line for what cannot be."""

import json
import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from experiments.search.options import field_texts, parse
from experiments.search.space.domains import Choice, Range, SpaceError, split_list
from experiments.search.space.space import parse_domain, parse_space, read_space_file
from tests.search.fake_trials import FakeConfig, Smooth

BASE = FakeConfig()
DOMAINS = {
    "1e-4:1e-2:log": ("lr", Range(1e-4, 1e-2, log=True)),
    "0.5:8": ("objective.beta", Range(0.5, 8)),
    "2:32": ("net.latent", Range(2, 32, integer=True)),
    "2:32:log:5": ("net.latent", Range(2, 32, log=True, integer=True, points=5)),
    "2,8,32": ("net.latent", Choice((2, 8, 32))),
    "smooth,rough": ("objective", Choice(("smooth", "rough"))),
    "gaussian,mask": ("objective.kind", Choice(("gaussian", "mask"))),
    "[400,200],[64]": ("net.hidden", Choice(((400, 200), (64,)))),
    "true,false": ("shuffle", Choice((True, False))),
    "none,0.5": ("limit", Choice((None, 0.5))),
    "1": ("lr", Choice((1.0,))),
}


@pytest.mark.parametrize("text", DOMAINS)
def test_domains_of_every_kind_of_field(text):
    path, wanted = DOMAINS[text]
    got = parse_domain(FakeConfig, path, text)
    assert got == wanted
    if isinstance(wanted, Choice):
        assert [type(v) for v in got.values] == [type(v) for v in wanted.values]


BAD = [
    ("lrr", "1e-4:1e-2", "unknown field 'lrr'; did you mean one of: lr"),
    ("objective.betta", "1:2", "objective.beta"),
    ("lr", "1e-2:1e-4:log", "inverted; write 0.0001:0.01"),
    ("lr", "1:1", "is empty"),
    ("lr", "0:1:log", "the logarithm of 0 does not exist"),
    ("lr", "-1:1:log", "logarithm"),
    ("lr", "fast,slow", "lr must be of type float, got 'fast'"),
    ("lr", "1:2:lgo", "'lgo' is neither log"),
    ("lr", "a:b", "is not a range"),
    ("lr", "-1:1", "lr must be > 0"),
    ("lr", "0.1,-1", "lr must be > 0"),
    ("lr", "nan", "must be a finite number"),
    ("lr", "1e-4,1e39", "must be a finite number"),
    ("lr", "1:1e999", "finite"),
    ("lr", "1:2:1", "at least 2 grid points"),
    ("net.latent", "1.5:3", "whole ends"),
    ("net.latent", "2.5", "must be of type int"),
    ("net.latent", "2,2", "repeats a value"),
    ("objective", "smooth,vae", "must be one of smooth, rough"),
    ("objective.kind", "1:2", "not a number"),
    ("net.hidden", "400", "net.hidden"),
]


@pytest.mark.parametrize(("path", "text", "message"), BAD)
def test_what_cannot_be_is_one_line_that_names_it(path, text, message):
    with pytest.raises(SpaceError, match=r"(?s).*") as error:
        parse_space(BASE, {path: text})
    assert message in str(error.value)
    assert path in str(error.value)
    assert "\n" not in str(error.value)


def test_a_field_of_a_part_that_is_never_chosen_is_refused():
    with pytest.raises(SpaceError, match="objective is smooth, which has no such field; add --objective rough"):
        parse_space(BASE, {"objective.level": "0:1"})


def test_fields_of_alternative_parts_apply_where_they_exist():
    space = parse_space(BASE, {"objective.level": "0:1", "objective.beta": "1:2", "objective": "smooth,rough"})
    assert space.names[0] == "objective"  # the part is chosen before its fields
    values = {"objective": "rough", "objective.level": 0.25, "objective.beta": 1.5}
    assert space.active(values) == {"objective": "rough", "objective.level": 0.25}
    assert space.configure(values).objective.level == 0.25
    assert space.configure({**values, "objective": "smooth"}).objective == Smooth(1.5)


def test_float_fields_and_seeds_keep_the_structure_and_ints_do_not():
    space = parse_space(BASE, {"lr": "1e-4:1e-2", "net.latent": "2,8"})
    structure = lambda *args: jax.tree.structure(space.configure(*args))
    assert structure({"lr": 1e-4, "net.latent": 2}) == structure({"lr": 1e-2, "net.latent": 2}, 5)
    assert structure({"lr": 1e-4, "net.latent": 2}) != structure({"lr": 1e-4, "net.latent": 8})
    assert space.configure({}, 5).seed == BASE.seed + 5


@given(some.floats(0, 1, exclude_max=True), some.floats(1e-6, 1), some.floats(1.001, 1e6), some.booleans())
def test_a_float_range_stays_within_its_ends_and_is_monotone(u, low, factor, log):
    domain = Range(low, low * factor, log)
    assert domain.low <= domain.at(u) <= domain.high
    assert domain.at(u / 2) <= domain.at(u)


def test_log_ranges_are_uniform_in_the_logarithm():
    np.testing.assert_allclose(Range(1e-4, 1.0, log=True).at(0.5), 1e-2, rtol=1e-6)
    np.testing.assert_allclose(Range(1e-4, 1.0, log=True, points=5).grid(), [1e-4, 1e-3, 1e-2, 0.1, 1], rtol=1e-6)


def test_integer_ranges_give_every_value_the_same_share():
    draws = [Range(2, 5, integer=True).at(u) for u in np.linspace(0, 1, 4000, endpoint=False)]
    values, counts = np.unique(draws, return_counts=True)
    np.testing.assert_array_equal(values, [2, 3, 4, 5])
    np.testing.assert_allclose(counts, 1000, atol=2)
    assert all(type(d) is int for d in draws)
    assert Range(1, 3, integer=True).grid() == [1, 2, 3]


def test_files_say_the_same_as_the_command_line(tmp_path):
    toml, js = tmp_path / "s.toml", tmp_path / "s.json"
    toml.write_text('lr = {low = 1e-4, high = 1e-2, log = true}\n[net]\nlatent = [2, 8]\n[objective]\nbeta = "0.5:8"\n')
    js.write_text(json.dumps({"lr": "1e-4:1e-2:log", "net.latent": "2,8", "objective": {"beta": "0.5:8"}}))
    spaces = [parse_space(BASE, read_space_file(f)) for f in (toml, js)]
    assert spaces[0] == spaces[1]
    assert dict(spaces[0].domains)["lr"] == Range(1e-4, 1e-2, log=True)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [("s.yaml", "", "ends in .toml or .json"), ("s.toml", "lr = ", "s.toml"), ("s.json", "[1]", "a table of fields")],
)
def test_bad_files_are_named(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(SpaceError, match=message):
        read_space_file(tmp_path / name)
    with pytest.raises(SpaceError, match="No such file"):
        read_space_file(tmp_path / "absent.json")


def test_words_after_the_options_are_fields():
    words = ["--lr", "-1:1", "--net.latent=2,8", "--weight-decay", "0"]
    assert field_texts(words) == {"lr": "-1:1", "net.latent": "2,8", "weight_decay": "0"}
    for bad in (["lr", "1"], ["--lr"], ["--lr", "--net.latent", "2"], ["--lr", "1", "--lr", "2"]):
        with pytest.raises(SpaceError, match="lr"):
            field_texts(bad)


ARGS = ["--problem", "tests.search.fake_trials:problem", "--lr", "1e-4:1e-2:log"]


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--trials", "0"], "trials must be at least 1, got 0"),
        ([], "--trials is needed"),
        (["--trials", "many"], "invalid int value"),
        (["--sampler", "grid"], "a grid needs the number of points"),
        (["--trials", "2", "--sampler", "best"], "unknown sampler 'best'; known: random, sobol, grid, tpe"),
        (["--trials", "2", "--workers", "0"], "--workers must be from 1 to 4,096, got 0"),
        (["--trials", "2", "--folds", "1"], "folds must be 0"),
        (["--trials", "9", "--halving", "lr:1:9"], "needs an int field"),
        (["--trials", "9", "--halving", "epochs:9:1"], "is inverted; write 1:9"),
        (["--trials", "9", "--halving", "epochs:2:5"], "a last one of eta (3) times that, got 2:5"),
        (["--trials", "8", "--halving", "epochs:1:9"], "8 points at once reach none of the last"),
        (["--trials", "8", "--halving", "epochs:1:9:1"], "FIELD:LOW:HIGH"),
        (["--trials", "8", "--halving", "epochs:1:x"], "is not a range"),
        (["--trials", f"{2**32}"], "trials must be at most 100,000, got 4294967296"),
        (["--trials", f"{10**30}"], "trials must be at most 100,000, got 1"),
        (["--trials", "2", "--sweep-seed", "-1"], "sweep_seed must be at least 0, got -1"),
        (["--trials", "2", "--sweep-seed", f"{2**32}"], "sweep_seed must be at most 4,294,967,295"),
        (["--trials", "2", "--seeds", f"{2**64}"], "seeds must be at most"),
        (["--trials", "2", "--folds", f"{2**64}"], "folds must be at most"),
        (["--trials", "2", "--generation", f"{2**64}"], "generation must be at most"),
        (["--trials", "2", "--workers", f"{2**64}"], "--workers must be from 1 to 4,096, got 18446744073709551616"),
        (["--trials", "2", "--group", f"{2**64}"], "--group must be from 1 to 100,000"),
        (["--trials", "2", "--lease-seconds", "1e400"], "--lease-seconds must be above 0 and at most 1e6, got inf"),
        (["--trials", "2", "--eta", f"{2**64}", "--halving", "epochs:1:9"], "a last one of eta (18446744073709551616)"),
        (["--trials", "2", "--halving", f"epochs:1:{2**64}"], "epochs must be below 2**31 = 2147483648"),
        (["--trials", "2", "--halving", f"epochs:1:{'9' * 5000}"], "must have whole ends"),
        (["--trials", "2", "--epochs", f"{2**63}"], "epochs must be below 2**31 = 2147483648, got 9"),
        (["--trials", "2", "--seed", f"1,{2**32}"], "seed must be below 2**31 = 2147483648"),
        (["--trials", "2", "--net.hidden", f"[{2**70}]"], "hidden must be below 2**31 = 2147483648"),
        (["--sampler", "grid", "--lr", "0.1", "--epochs", "1:1000000000"], "grid has 1,000,000,000 points; a"),
        (["--sampler", "grid", "--lr", f"1e-4:1e-2:{10**20}"], "grid has 100,000,000,000,000,000,000 points"),
        (["--trials", "9", "--halving", "epochs"], "FIELD:LOW:HIGH"),
        (["--trials", "9", "--asha"], "--asha needs --halving"),
        (["--trials", "9", "--halving", "epochs:1:9", "--minimize", "loss,rate"], "halving ranks by one"),
        (["--trials", "9", "--halving", "epochs:1:9", "--epochs", "1,2"], "cannot be searched as well"),
        (["--trials", "9", "--minimize", "loss,loss"], "must be given and differ"),
        (["--trials", "9", "--problem", "tests.search.fake_trials:absent"], "no problem"),
        (["--trials", "9", "--problem", "tests.search.fake_trials:not_a_problem"], "not a SweepProblem"),
    ],
)
def test_bad_options_are_one_line(extra, message):
    with pytest.raises(SpaceError) as error:
        parse([*ARGS[: 2 if "--lr" in extra else 4], *extra])
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_lists_split_outside_brackets_and_quotes():
    assert split_list('[1,2],"a,b",3') == ["[1,2]", '"a,b"', "3"]
    assert not math.isnan(Range(0, 1).at(0.0))
