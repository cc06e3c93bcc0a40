"""Every field of every config matters: a traced one reaches an output, another one changes the program.

The fields are found by walking the types of `train.Config`, so a new part is under the law from its first day. Programs
are traced, never compiled: a step from fresh parameters and an evaluation, as one function of the config.
"""

import dataclasses
import functools
import re
import typing
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters import partial_eval

import train as T
from models.config import ConfigError, is_list, kind, part_types, replace_at, validate
from models.config.kinds import bare
from training.examples import Examples

RNG = np.random.default_rng(0)
EXAMPLES = Examples(
    jnp.asarray(RNG.integers(0, 256, (24, 8, 8, 1), dtype=np.uint8)),
    (0.0, 255.0),
    jnp.asarray(RNG.integers(0, 3, 24), jnp.int32),
    classes=3,
)
KEY = jax.random.key(0)
BASE = T.Config(batch_size=8, epochs=2)

# Fields of the host, and of the loop around the steps: their laws are in tests/data and tests/training.
HOST = set(
    "dataset seed read epochs patience criterion matmul_precision scale split label ignore resize channels kind".split()
)
PLAIN = {"model.posterior": "point", "objective": "reconstruction"}
RIVALS: dict[str, Any] = {"terms": ("adversarial",)}
# What a part or a field needs beside it, by a pattern of its name: other fields, set first.
COMPANY: dict[str, dict[str, Any]] = {
    r"model\.posterior(=Point.*)?": PLAIN,
    r"model\.posterior=Point\.among": {"model.posterior.active": 2},
    r"model\.posterior=(VQ|FSQ|Gumbel).*": {"model.prior": "codes"},
    r"model\.posterior=Gumbel\.final": {"model.posterior.steps": 2},
    r"model\.posterior=VMF.*": {"model.prior": "sphere"},
    r"model\.posterior=Chain.*": {"model.prior": "chain"},
    r"model\.prior=(Codes|Autoregressive).*": {"model.posterior": "fsq"},
    r"model\.prior=Sphere.*": {"model.posterior": "vmf"},
    r"model\.(encoder|decoder)=(Recurrent|Transformer).*": {"model.likelihood": "tokens"},
    r"model\.(encoder|decoder)=Recurrent\.autoregressive": {"model.likelihood": "strokes"},
    r"model\.encoder=ViT\.code": PLAIN,
    r"objective=Masked.*": {"model.encoder": "vit"},
    r"objective=SemiSupervised.*": {"model.labels": "inferred"},
    r"terms=Commitment.*": {"model.posterior": "vq", "model.posterior.learn": "gradient", "model.prior": "codes"},
    r"objective=ELBO\.refine_rate": {"objective.refine_steps": 1},
    r"objective=ELBO\.hide_share": {"objective.hide": "mask"},
    r"model\.decoder=Dictionary.*": PLAIN | {"model.encoder.hidden": ()},
    r"model\.posterior=(Jump|Gated).*": {"objective": "reconstruction"},
    r"terms=Nested.*": PLAIN,
    r"terms=Revive.*": PLAIN | {"model.encoder.hidden": (), "model.decoder": "dictionary"},
    r"terms=Gate.*": {"model.posterior": "gated", "objective": "reconstruction"},
    r"terms=Sparsity.*": PLAIN | {"model.posterior.activation": "sigmoid"},
    r"terms=Sparsity\.target": {"terms.sparsity.penalty": "kl"},
    r"terms=Contractive\.(second|noise)": {"terms.contractive.corruptions": 1},
    r"opponent.*": RIVALS,
    r"updates\.decoder_waits": {"updates.decoder_every": 2},
}
# Fields that a part refuses in another part that it holds: a ConfigError instead of an effect.
REFUSED = r"terms=Adversarial\.network=.*\.dropout"
# A second value where the rule of `others` has none: by the field, or by the part and its field.
VALUES: dict[str, list[Any]] = {
    "activation": ["tanh"],
    "name": ["radam"],
    "hidden": [(5,)],
    "groups": [(8, 12)],
    "size": [4],
    "stages": [3],
    "examples": [100],
    "levels": [300],
    "VQPosterior.levels": [2],
    "Bag.activation": ["relu"],
    "symbols": [300],
    "columns": [("categorical:300",) * 64],
}


def run(config: T.Config, evaluated: bool) -> Any:
    """One step from fresh parameters, and the metrics where they are asked for."""
    of_strokes = kind(type(config.model.likelihood)) == "strokes"  # whose steps have three values each
    examples = dataclasses.replace(EXAMPLES, x=EXAMPLES.x[:, :, :3, 0]) if of_strokes else EXAMPLES
    state = T.init(config, KEY, examples)
    order = T.epoch_order(KEY, 0, len(examples))
    state = T.train_steps(state, config, KEY, examples, order, 1)
    return state, T.evaluate(config, state, examples, KEY) if evaluated else ()


@functools.cache
def program(config: T.Config, evaluated: bool = True) -> tuple[str, list[bool]]:
    """The text of a config's program with its constants, and which of the config's leaves reach an output."""
    closed = jax.make_jaxpr(run, static_argnums=1)(config, evaluated)
    _, used = partial_eval.dce_jaxpr(closed.jaxpr, [True] * len(closed.out_avals))
    plain = [c for c in closed.consts if not jax.dtypes.issubdtype(c.dtype, jax.dtypes.prng_key)]
    return re.sub(r"0x[0-9a-f]+", "0x", str(closed.jaxpr)) + repr([np.asarray(c).tobytes() for c in plain]), used


def with_company(config: T.Config, name: str) -> T.Config:
    """The config with what the part or field of that name needs beside it."""
    for pattern, wanted in COMPANY.items():
        if re.fullmatch(pattern, name):
            for path, value in wanted.items():
                config = replace_at(config, path, value)
    return config


def fields(config: Any, part: Any, at: str = "", name: str = "") -> Iterator[tuple[str, T.Config, str]]:
    """Yield (name, config, path) of every field below `part`, each in a config where its part is chosen."""
    for f in dataclasses.fields(part):
        path, choices = f"{at}{f.name}", part_types(type(part), f.name)
        listed = is_list(type(part), f.name)
        if len(choices) != 1 or listed:
            yield f"{name}{f.name}", config, path
        for choice in choices:
            here = f"{name}{f.name}={bare(choice)}" if len(choices) > 1 else f"{name}{f.name}"
            same = not listed and type(getattr(part, f.name)) is choice
            value = getattr(part, f.name) if same else (choice(),) if listed else choice()
            chosen = with_company(replace_at(config, path, value), here)
            inside = f"{path}.{kind(choice)}." if listed else f"{path}."
            yield from fields(chosen, value[0] if listed else value, inside, f"{here}.")


def others(config: T.Config, path: str) -> Iterator[Any]:
    """Values of a field that differ from the one it has."""
    owner, _, name = path.rpartition(".")
    part = config
    for step in filter(None, owner.split(".")):
        part = next(p for p in part if kind(type(p)) == step) if isinstance(part, tuple) else getattr(part, step)
    value, hint = getattr(part, name), type(part).__hints__[name]
    limits = next(f for f in dataclasses.fields(part) if f.name == name).metadata.get("limits", {})
    yield from VALUES.get(f"{type(part).__name__}.{name}", VALUES.get(name, []))
    choices = part_types(type(part), name)
    if is_list(type(part), name):
        yield from ((choice(),) for choice in choices)
    elif choices:
        yield from (choice() for choice in choices if choice is not type(value))
    elif typing.get_origin(hint) is typing.Literal:
        yield from (v for v in typing.get_args(hint) if v != value)
    elif isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield from (value + 1, value * 2)
    elif isinstance(value, float):
        yield from (value * 0.5 if value else 0.5, value + 1, limits.get("at_least"))
    elif isinstance(value, tuple) and value:
        yield from (tuple(v + 1 for v in value), tuple(v * 2 for v in value))
    elif value is None:
        yield from (1, 0.5)


def changes(config: T.Config, path: str, evaluated: bool, tried: list[str]) -> bool:
    """Whether another value of the field changes the program; what was tried in vain is added to `tried`."""
    before, used = program(config, evaluated)
    for value in others(config, path):
        try:
            changed = replace_at(config, path, value)
            validate(changed)
            if jax.tree.structure(changed) == jax.tree.structure(config):
                moved = [a != b for a, b in zip(jax.tree.leaves(config), jax.tree.leaves(changed), strict=True)]
                assert sum(moved) == 1
                if used[moved.index(True)]:
                    return True
            elif program(changed, evaluated)[0] != before:
                return True
            tried.append(f"{value!r}: the same program")
        except (ConfigError, ValueError) as error:
            tried.append(f"{value!r}: {error}")
    return False


FIELDS = [(name, c, path) for name, c, path in fields(BASE, BASE) if path.split(".")[0] not in HOST]


@pytest.mark.parametrize(("name", "config", "path"), FIELDS, ids=[f[0] for f in FIELDS])
def test_a_field_changes_the_program(name, config, path):
    config = with_company(config, name)
    if re.fullmatch(REFUSED, name):
        with pytest.raises(ConfigError, match="dropout"):
            validate(replace_at(config, path, 0.5))
        return
    tried: list[str] = []
    assert any(changes(config, path, evaluated, tried) for evaluated in (False, True)), f"{name}: {tried}"


def test_equal_configs_have_one_program_and_a_dead_field_is_seen():
    """The measure repeats itself, and tells a field that is used from one that is not."""
    first = program(BASE)
    program.cache_clear()
    jax.clear_caches()
    assert program(dataclasses.replace(BASE)) == first
    dead = replace_at(BASE, "objective.capacity_steps", 0)
    assert program(dead)[0] == first[0]
    leaves = jax.tree_util.tree_leaves_with_path(BASE)
    seed = [jax.tree_util.keystr(path) for path, _ in leaves].index(".seed")
    assert not first[1][seed]
