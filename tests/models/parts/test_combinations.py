"""Any valid combination of parts trains: finite, shapes right, a row of a sweep is the run alone."""

import contextlib
import dataclasses
import functools
import itertools
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import train
from grads.programs.primitives import opened, programs
from models import (
    Bound,
    ConfigError,
    Dense,
    Dictionary,
    Masked,
    Mirror,
    Model,
    Reconstruction,
    Sampling,
    SemiSupervised,
    ViT,
    likelihoods,
    objectives,
    posteriors,
    priors,
    terms,
)
from models.config import kind, part_types, validate
from models.networks.sequences.transformer import Layer
from training.examples import Examples

RNG = np.random.default_rng(0)


def options():
    """Every part of every slot, small."""
    small = {posteriors.VQPosterior: posteriors.VQPosterior(entries=4), priors.VampPrior: priors.VampPrior(inputs=3)}
    small |= {objectives.ELBO: objectives.ELBO(hide="mask")}  # plain, it is in every other test
    make = lambda cls, name: [small.get(t, None) or t() for t in part_types(cls, name)]
    return {
        "posterior": make(Model, "posterior"),
        "decoder": [Mirror(), Dictionary()],
        "prior": make(Model, "prior"),
        "likelihood": [part for part in make(Model, "likelihood") if hasattr(part, "distribution")],
        "objective": make(train.Config, "objective"),
        "labels": ["none", "given", "inferred"],
        "terms": make(train.Config, "terms"),
        "shape": [(6,), (4, 4, 1)],
    }


def config_of(choice):
    names = ("posterior", "prior", "decoder", "likelihood", "labels")
    # wider than the code and smooth: otherwise the decoder's volume is 0, and its log, a term, is no number
    patches = ViT(patch=2, width=8, layers=1, heads=2)
    encoder = patches if isinstance(choice["objective"], Masked) else Dense((8,), "tanh")
    encoder = Dense(()) if isinstance(choice["decoder"], Dictionary) else encoder
    model = Model(encoder=encoder, latent=6, **{name: choice[name] for name in names})
    run = train.Config(
        model=model, objective=choice["objective"], terms=choice["terms"], epochs=1, batch_size=4, lr=1e-3
    )
    validate(run)
    return run


def examples_of(choice):
    x = jnp.asarray(RNG.integers(0, 2, (12, *choice["shape"])).astype(np.float64))
    wanted = choice["labels"] != "none" or getattr(choice["prior"], "labelled", False)
    label = jnp.asarray(np.where(np.arange(12) % 3 == 0, -1, np.arange(12) % 3), jnp.int32) if wanted else None
    if label is not None and choice["labels"] != "inferred":
        label = jnp.abs(label)
    return Examples(x, None, label, None, 3 if wanted else 0)


def three_steps(config, key, examples):
    state = train.init(config, key, examples)
    return train.train_steps(state, config, key, examples, jnp.arange(12), 3)


def draw(rng):
    """A combination: a part of each slot, up to 3 terms."""
    choice = {}
    for name, parts in options().items():
        if name == "terms":
            choice[name] = tuple(parts[i] for i in rng.choice(len(parts), rng.integers(4), replace=False))
        else:
            choice[name] = parts[rng.choice(len(parts))]
    return choice


def drawn(number):
    """The combination of a number."""
    return draw(np.random.default_rng([1, number]))


def holds(choice, name, part):
    return part in choice[name] if name == "terms" else choice[name] == part


def two_rows(config, key, examples):
    """The runs at the config's learning rate and at three times it, as rows of one program: what they end with."""
    stack = jax.tree.map(lambda *v: jnp.asarray(v), config, dataclasses.replace(config, lr=3 * config.lr))
    return jax.jit(jax.vmap(three_steps, (0, None, None)))(stack, key, examples)


def start(number, choice):
    """Return what a run of these parts takes. Raises ConfigError where they do not fit, before any program."""
    config, examples, key = config_of(choice), examples_of(choice), jax.random.key(number)
    jax.eval_shape(train.init, config, key, examples)
    return config, key, examples


def trace(number, choice):
    """Trace a run alone and as a row of a sweep: the same shapes."""
    config, *of = start(number, choice)
    shapes = lambda steps: jax.tree.leaves(jax.eval_shape(functools.partial(steps, config), *of))
    rows, one = shapes(two_rows), shapes(three_steps)
    assert [row.shape[1:] for row in rows] == [leaf.shape for leaf in one], choice


def without_shifts(model):
    """Put the keys' bias of every attention to 0: it does nothing (`test_patches`), softmax takes no shift.

    Its gradient is rounding, and Adam, which divides by its size, moves it by that, otherwise in a row than alone.
    """
    for _, part in nnx.iter_graph(model):
        if isinstance(part, Layer):
            width = part.back.bias[...].shape[-1]
            part.into.bias[...] = part.into.bias[...].at[..., width : 2 * width].set(0)


def train_and_stack(number, choice, alone=True):
    """Train as a row of a sweep, finite; and alone, the same."""
    words = f"{number}: {({k: kind(type(v)) if hasattr(type(v), '__hints__') else v for k, v in choice.items()})}"
    run = start(number, choice)
    rows = two_rows(*run)
    assert (np.asarray(rows.bad_step) == -1).all(), words
    state = lambda s: jax.tree.leaves((s.model, s.rivals))
    for row in state(rows):
        assert jnp.isfinite(jnp.asarray(row, float)).all(), words
    one_run = jax.jit(three_steps) if alone else functools.partial(jax.eval_shape, three_steps)
    ended = one_run(*run)
    if alone:
        for model in (rows.model, ended.model):
            without_shifts(model)
    for row, one in zip(state(rows), state(ended), strict=True):
        assert row.shape[1:] == one.shape, words
        if alone:
            np.testing.assert_allclose(row[0], one, rtol=1e-5, atol=1e-7, err_msg=words)


def one_line(message):
    return "\n" not in message and len(message) < 200


# Of the first 3,000, those that fit, hold every part of every slot, and have little to compile: `covering` finds which.
# Numbers belong to the lists of parts: a part more, and other combinations have them.
COVERING = (429, 384, 509, 603, 668, 711, 1094, 1120, 1314, 1456, 1634, 1891, 2008, 2275, 2834, 2945)


def parts_of(choice):
    """The parts of a combination, as (slot, number in the slot)."""
    return {(name, i) for name, parts in options().items() for i, part in enumerate(parts) if holds(choice, name, part)}


def size(jaxpr):
    """The operations of a program, those of the programs inside it too."""
    return sum(1 + sum(size(opened(inner)[0]) for inner in programs(eqn)) for eqn in jaxpr.eqns)


def covering(count=3000):
    """Those of the first `count` combinations that fit and hold every part, with the least to compile: a set cover."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    fitting, cost = {}, []
    for number in range(count):
        with contextlib.suppress(ConfigError):
            config, *of = start(number, drawn(number))
            cost.append(size(jax.make_jaxpr(functools.partial(three_steps, config))(*of).jaxpr))
            fitting[number] = parts_of(drawn(number))
        if number % 100 == 99:
            jax.clear_caches()
    every = set().union(*fitting.values())
    holding = np.array([[part in parts for parts in fitting.values()] for part in every], float)
    cost = 1000 + np.array(cost)  # a program costs its operations, and what every program costs
    once = LinearConstraint(holding, 1, np.inf)
    found = milp(cost, constraints=once, integrality=np.ones(len(cost)), bounds=Bounds(0, 1))
    return [number for number, taken in zip(fitting, found.x, strict=True) if taken > 0.5]


def test_every_part_is_in_a_combination():
    every = {(name, i) for name, parts in options().items() for i in range(len(parts))}
    missing = every - set().union(*(parts_of(drawn(number)) for number in COVERING))
    assert not missing, f"in no combination that is trained: {missing}; COVERING = covering() finds which to train"


@pytest.mark.parametrize("number", COVERING)
def test_every_part_trains_in_a_combination_and_stacks(number):
    """Some of them also alone."""
    train_and_stack(number, drawn(number), alone=COVERING.index(number) % 6 == 1)
    jax.clear_caches()


def test_what_does_not_fit_is_refused_in_one_line():
    refused = []
    for number in range(100):
        try:
            start(number, drawn(number))
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) > 50
    assert all(map(one_line, refused))


@pytest.mark.nnx_tree
@pytest.mark.skipif(os.environ.get("NNX_GRAPH_MODE") != "false", reason="the same ones are trained, with graphs")
@pytest.mark.parametrize("number", COVERING)
def test_every_part_can_be_traced_in_a_combination(number):
    trace(number, drawn(number))


@pytest.mark.campaign
@pytest.mark.parametrize("part", range(30), ids=lambda part: f"part-{part:02}")
def test_300_random_combinations_train_and_stack(part):
    """10 in each of thirty parts, so that they can be run beside each other: `-k part-03`."""
    rng, done, refused = np.random.default_rng([2, part]), 0, set()
    for number in itertools.count(1000 * part):
        try:
            train_and_stack(number, draw(rng))
        except ConfigError as error:
            refused.add(str(error))
            continue
        done += 1
        if done % 10 == 0:
            jax.clear_caches()
        if done == 10:
            break
    assert all(map(one_line, refused))


PAIRS = [
    (Bound(), posteriors.PointPosterior(), "density"),
    (SemiSupervised(), posteriors.NormalPosterior(), "labels inferred"),
    (objectives.ELBO(), posteriors.PointPosterior(), "density"),
]


@pytest.mark.parametrize(("objective", "posterior", "words"), PAIRS)
def test_a_run_that_cannot_be_is_refused_at_its_start(objective, posterior, words):
    config = train.Config(model=Model(encoder=Dense((5,)), latent=3, posterior=posterior), objective=objective)
    with pytest.raises(ConfigError, match=words):
        train.init(dataclasses.replace(config, batch_size=4), jax.random.key(0), Examples(jnp.zeros((8, 6))))


@pytest.mark.parametrize("field", [{"turns": 2}, {"lr": 0.1}], ids=str)
def test_an_opponent_needs_a_term(field):
    config = train.Config(opponent=dataclasses.replace(train.Opponent(), **field))
    with pytest.raises(ConfigError, match="--terms adversarial"):
        validate(config)
    validate(dataclasses.replace(config, objective=Sampling(), terms=(terms.Adversarial(),)))


def test_rivals_are_state_and_leave_no_trace_elsewhere():
    examples = Examples(jnp.asarray(RNG.random((12, 6))))
    model = Model(encoder=Dense((5,)), latent=3, likelihood=likelihoods.NormalLikelihood())
    plain = train.Config(model=model, objective=Reconstruction(), batch_size=4)
    assert train.init(plain, jax.random.key(0), examples).rivals == ()
    played = dataclasses.replace(plain, terms=(terms.Adversarial(), terms.MMD()))
    before = train.init(played, jax.random.key(0), examples)
    after = jax.jit(three_steps)(played, jax.random.key(0), examples)
    assert set(after.rivals) == {"adversarial"}
    moved = [jnp.abs(a - b).max() for a, b in zip(*(jax.tree.leaves(s.rivals) for s in (before, after)), strict=True)]
    assert all(m > 0 for m in moved)


@pytest.mark.parametrize("turns", [1, 3])
def test_the_first_turn_is_against_the_models_own_pass(turns, monkeypatch):
    """XLA does not merge two passes that draw noise, so there is one; the later turns' keys ask for more."""
    config = train.Config(model=Model(encoder=Dense((5,)), latent=3), terms=(terms.Adversarial(),), batch_size=4)
    config = dataclasses.replace(config, opponent=dataclasses.replace(config.opponent, turns=turns))
    key, examples, passes = jax.random.key(0), Examples(jnp.asarray(RNG.random((12, 6)))), []
    state = jax.eval_shape(train.init, config, key, examples)
    once = objectives.ELBO.__call__
    monkeypatch.setattr(objectives.ELBO, "__call__", lambda *of: passes.append(1) or once(*of))
    jax.eval_shape(lambda s: train.train_steps(s, config, key, examples, jnp.arange(12), 1), state)
    assert len(passes) == turns
