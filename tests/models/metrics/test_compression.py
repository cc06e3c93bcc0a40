"""Compression: what comes back is what went in, at the rate of the bound."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from models import Autoencoder, Dense, Model, Recurrent, likelihoods, posteriors, priors
from models.batch import Batch, Sizes
from models.config import ConfigError
from models.metrics import Shown, Subject
from models.metrics.compression import compressed, compression, decompressed, why_not
from models.metrics.compression.coder import coder_for
from models.metrics.compression.stack import BitStack, LatticeNormals

from ..parts.test_posteriors import stirred

pytest.importorskip("constriction", reason="the extra compression is not installed")
RNG = np.random.default_rng(0)
SHAPE, N = (6, 6, 1), 300
BITS, GREY = likelihoods.BernoulliLikelihood(), likelihoods.DiscretizedLogisticLikelihood(levels=5, width=0.3)
CHAIN = {"posterior": posteriors.ChainPosterior(), "prior": priors.ChainPrior()}

# name -> (what the model is made of, levels of the data)
ROWS = {
    "one level": ({"likelihood": BITS}, 2),
    "bit-swap": ({"prior": priors.DeeperPrior(units=2, hidden=5), "likelihood": GREY}, 5),
    "hierarchy": ({**CHAIN, "likelihood": likelihoods.LogisticMixtureLikelihood(levels=5, components=2)}, 5),
    "ladder": ({**CHAIN, "posterior": posteriors.ChainPosterior(ladder=True), "likelihood": BITS}, 2),
    "drawn codes": (
        {"posterior": posteriors.GumbelPosterior(), "prior": priors.CodesPrior(), "likelihood": BITS},
        2,
    ),
    "codes in turn": (
        {
            "posterior": posteriors.FSQPosterior(),
            "prior": priors.AutoregressivePrior(hidden=8, embedding=3),
            "likelihood": likelihoods.CategoricalLikelihood(levels=5),
        },
        5,
    ),
    "symbols in turn": (
        {"likelihood": likelihoods.TokensLikelihood(symbols=3), "decoder": Recurrent(width=4, embedding=3)},
        3,
    ),
}


def subject(row, n=N, levels=None, **more):
    parts, known = ROWS[row]
    model = Model(encoder=Dense((8,)), latent=6, **{**parts, **more})
    module = stirred(Autoencoder(model, Sizes(SHAPE, classes=2, examples=n), rngs=nnx.Rngs(0)))
    levels = levels or known
    x = RNG.integers(0, levels, (n, *SHAPE)) / (levels - 1)
    if row == "symbols in turn":  # whole numbers, of which 0 is the end and all that follows it
        x = np.round(x * (levels - 1)).reshape(n, -1)
        x = np.where(np.arange(x.shape[1]) < RNG.integers(4, x.shape[1], n)[:, None], np.maximum(x, 1), 0)
        x = x.reshape(n, *SHAPE).astype(float)
        head = module.encoder.head
        head.kernel[...] = 0.2 * head.kernel[...]  # these codes lie far out, where no probability is below 2^-24
    return Subject(module, Shown(Batch(x)))


@pytest.mark.parametrize("row", ROWS)
def test_what_comes_back_is_exact_and_costs_what_the_bound_says(row):
    """Net bits are those of the negative ELBO within 4 standard errors of both and 1 % for the lattice."""
    found = compression(subject(row))
    assert found["compression_exact"].value == 1
    rate = found["compression_bits"]
    assert rate.value < found["compression_file_bits"].value
    if bound := found.get("negative_elbo_bits"):
        assert abs(rate.value - bound.value) < 4 * np.hypot(rate.error, bound.error) + 0.01 * bound.value


def test_codes_unlike_the_prior_cost_what_the_bound_says():
    """What was pushed under the prior is not random where all codes lie at 1.5: 7 % more, were it popped as it is."""
    one = subject("one level", n=384)
    head = one.model.encoder.head
    head.kernel[...], head.bias[...] = 0 * head.kernel[...], jnp.asarray([1.5] * 6 + [-0.3] * 6)
    x = np.broadcast_to(one.test.batch.x[:1], one.test.batch.x.shape)
    found = compression(Subject(one.model, Shown(Batch(x))))
    rate, bound = found["compression_bits"], found["negative_elbo_bits"]
    assert abs(rate.value - bound.value) < 4 * np.hypot(rate.error, bound.error) + 0.01 * bound.value


def test_a_file_comes_back():
    one = subject("one level", n=37)  # a short last group
    content, header = compressed(one, "model")
    np.testing.assert_array_equal(decompressed(one.model, content, "model"), one.test.batch.x.astype(np.float32))
    rate = compression(one)["compression_bits"].value
    assert rate == pytest.approx(header["bits_of_examples"] / one.test.batch.x.size, rel=1e-12)


def test_draws_of_a_lattice_have_the_moments_of_their_normals():
    """Popped from random bits, 20,000 codes stray no further than normal ones: the least probabilities cost little."""
    one = subject("one level", n=16)
    lattice = coder_for(one.model, np.zeros((16, 36), np.int32)).lattice
    stack = BitStack(np.random.default_rng(1).integers(0, 2**32, 20_000, dtype=np.uint32), lattice)
    z = stack.pop(1, LatticeNormals(np.zeros((1, 20_000)), np.ones((1, 20_000)))) * lattice.step
    assert z.mean() == pytest.approx(0, abs=4 / 20_000**0.5)
    assert z.std() == pytest.approx(1, abs=4 / (2 * 20_000) ** 0.5)


def test_two_levels_of_equal_chance_cost_one_bit():
    """The simplest known answer: an untrained decoder says 1/2 everywhere, and codes that say nothing are free."""
    model = Autoencoder(Model(encoder=Dense((4,)), latent=2, likelihood=BITS), SHAPE, rngs=nnx.Rngs(0))
    model = jax.tree.map(jnp.zeros_like, model)
    one = Subject(model, Shown(Batch(RNG.integers(0, 2, (64, *SHAPE)).astype(float))))
    assert compression(one)["compression_bits"].value == pytest.approx(1, abs=2e-3)


def test_a_file_that_is_damaged_cut_or_of_another_model_is_refused():
    one = subject("one level", n=20)
    content, _ = compressed(one, "this")
    for wrong in (content[:-4], content[:30], b"", content[5:], b"x" * 100):
        with pytest.raises(ConfigError, match="no compressed examples"):
            decompressed(one.model, wrong, "this")
    flipped = bytearray(content)
    flipped[-1] ^= 64
    with pytest.raises(ConfigError, match="not what was written"):
        decompressed(one.model, bytes(flipped), "this")
    with pytest.raises(ConfigError, match="written by the model this"):
        decompressed(one.model, content, "that")


REFUSED = {
    "density": ({"likelihood": likelihoods.NormalLikelihood()}, "density"),
    "mixture": ({"prior": priors.MixturePrior()}, "prior cannot be coded"),
    "full": ({"posterior": posteriors.FullPosterior()}, "lattice"),
    "labels": ({"labels": "given"}, "labels needs them"),  # raw examples come without
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_coded_is_refused_with_a_way_out(name):
    more, words = REFUSED[name]
    one = subject("one level", n=4, **more)
    assert words in why_not(one)
    assert "use " in why_not(one)
    with pytest.raises(ConfigError, match="cannot compress"):
        compressed(one)


def test_values_between_levels_are_refused():
    one = subject("one level", n=4, levels=3)
    one = dataclasses.replace(one, test=Shown(Batch(one.test.batch.x.astype(np.float32))))
    with pytest.raises(ConfigError, match="use --binarise"):
        compressed(one)
