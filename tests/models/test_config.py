"""Configs: float fields are leaves, all else is structure; JSON and back; errors that name the field."""

import importlib
import json
import sys
import textwrap
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.config import (
    ConfigError,
    config,
    flat,
    from_dict,
    nearest,
    replace_at,
    setting,
    static,
    to_dict,
    validate,
    with_traced,
)


@config
class Small:
    rate: float = setting(0.1, above=0, at_most=1)
    width: int = setting(3, at_least=1)


@config
class Large:
    gain: float = 2.0


@config
class Whole:
    part: Small | Large = Small()
    weight: float = 1.0
    fixed: float = static(0.5, at_least=0, below=1)
    names: tuple[str, ...] = ("a",)
    sizes: tuple[int, ...] = setting((1, 2), at_least=1)
    mode: Literal["x", "y"] = "x"
    limit: int | None = None


def test_floats_are_leaves_and_the_rest_is_structure():
    assert jax.tree.leaves(Whole()) == [0.1, 1.0]
    same = Whole(part=Small(rate=0.7), weight=-3.0)
    assert jax.tree.structure(same) == jax.tree.structure(Whole())
    for other in (
        Whole(part=Small(width=4)),
        Whole(part=Large()),
        Whole(fixed=0.2),
        Whole(mode="y"),
        Whole(sizes=(1,)),
    ):
        assert jax.tree.structure(other) != jax.tree.structure(Whole())
    paths = [jax.tree_util.keystr(p) for p, _ in jax.tree_util.tree_leaves_with_path(Whole())]
    assert paths == [".part.rate", ".weight"]


def test_postponed_annotations_stay_traced(tmp_path, monkeypatch):
    """`from __future__ import annotations` makes every hint a string: floats must stay leaves all the same."""
    source = """
        from __future__ import annotations
        from models.config import config

        @config
        class Inner:
            rate: float = 0.5

        @config
        class Outer:
            inner: Inner = Inner()
            weight: float = 1.0
            width: int = 3
    """
    (tmp_path / "postponed_config.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    try:
        outer = importlib.import_module("postponed_config").Outer()
    finally:
        sys.modules.pop("postponed_config", None)
    assert jax.tree.leaves(outer) == [0.5, 1.0]


def test_one_program_serves_configs_of_equal_structure():
    traces = []

    @jax.jit
    def f(cfg):
        traces.append(cfg)
        return cfg.weight * cfg.part.rate * cfg.part.width

    assert f(Whole()) == pytest.approx(0.3)
    assert f(Whole(weight=2.0, part=Small(rate=0.5))) == pytest.approx(3.0)
    assert len(traces) == 1
    f(Whole(part=Small(width=4)))
    assert len(traces) == 2


def test_stacked_configs_under_vmap_and_grad():
    rows = [Whole(weight=w, part=Small(rate=r)) for w, r in ((1.0, 0.5), (3.0, 0.25))]
    stack = jax.tree.map(lambda *v: jnp.asarray(v), *rows)
    product = lambda cfg: cfg.weight * cfg.part.rate
    np.testing.assert_allclose(jax.vmap(product)(stack), [0.5, 0.75])
    gradient = jax.grad(product)(rows[1])
    assert (float(gradient.weight), float(gradient.part.rate), gradient.mode) == (0.25, 3.0, "x")
    assert with_traced(rows[0], weight=stack.weight).weight is stack.weight


def test_json_round_trip():
    cfg = Whole(part=Large(gain=float("inf")), sizes=(4, 5), mode="y", limit=7)
    assert from_dict(Whole, json.loads(json.dumps(to_dict(cfg), allow_nan=False))) == cfg
    assert from_dict(Whole, {"weight": 2}) == Whole(weight=2.0)


def test_paths():
    assert dict(flat(Whole()))["part.rate"] == 0.1
    assert dict(flat(Whole()))["part"] == "small"
    assert replace_at(Whole(), "part.rate", 0.3).part.rate == 0.3
    assert replace_at(Whole(), "part", "large") == Whole(part=Large())
    assert nearest("wieght", ["weight", "mode"])[0] == "weight"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("wieght", 1.0, "weight"),
        ("part.wdith", 1, "part.width|width"),
        ("weight", "high", "weight must be of type float, got 'high'"),
        ("part.width", 2.5, "width must be of type int, got 2.5"),
        ("part.width", True, "width"),
        ("mode", "z", "'x' | 'y'"),
        ("part", "medium", "small, large"),
        ("sizes", [1, "b"], "sizes"),
        ("weight.more", 1, "plain value"),
    ],
)
def test_wrong_values_are_named(path, value, words):
    with pytest.raises(ConfigError, match=words):
        replace_at(Whole(), path, value)


@pytest.mark.parametrize(
    ("cfg", "words"),
    [
        (Whole(part=Small(rate=0.0)), "part.rate must be > 0, got 0.0"),
        (Whole(part=Small(rate=1.5)), "part.rate must be <= 1"),
        (Whole(part=Small(width=0)), "part.width must be >= 1, got 0"),
        (Whole(fixed=1.0), "fixed must be < 1"),
        (Whole(sizes=(3, 0)), "sizes must be >= 1"),
        (Whole(weight=float("nan")), "weight must be a finite number"),
        (Whole(weight=float("inf")), "weight must be a finite number"),
        (Whole(weight=1e39), "weight must be a finite number"),
        (with_traced(Whole(), mode="z"), "mode must be of type 'x'"),
        (with_traced(Whole(), part=with_traced(Small(), width=2.5)), "part.width must be of type int"),
    ],
)
def test_validate_names_field_bound_and_value(cfg, words):
    with pytest.raises(ConfigError, match=words):
        validate(cfg)


def test_valid_and_traced_configs_pass():
    validate(Whole())
    jax.jit(lambda cfg: (validate(cfg), cfg.weight)[1])(Whole())


def test_unknown_field_in_a_dict_is_named():
    with pytest.raises(ConfigError, match="weight"):
        from_dict(Whole, {"wieght": 1.0})
    with pytest.raises(ConfigError, match="medium"):
        from_dict(Whole, {"part": {"kind": "medium"}})
