"""Every density in float32 and bfloat16 against itself in float64, over extreme parameters; layers alike."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import nnx

from models import distributions as d
from models import likelihoods, ppca, weight_penalty
from models.batch import Sizes
from models.distributions import continuous_bernoulli as cb
from models.networks.layers import BatchNorm, Conv2d, ConvTranspose2d, LayerNorm

KEY = jax.random.key(0)
SHORT = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
LOGITS = np.array([-1e4, -90, -20, -3, -1.5, -1e-4, 0, 1e-6, 0.9, 1.1, 16, 18, 90, 1e4])
LOCATIONS = np.array([-100, -2, -1e-3, 0, 0.3, 0.5003, 0.999, 1, 5, 100])
SCALES = np.array([-20, -7, -2.5, 0, 0.1, 3, 7, 10])


def grid(*axes):
    """Every combination of the axes' values, as columns (n, 1)."""
    return [a.reshape(-1, 1) for a in np.meshgrid(*axes, indexing="ij")]


def logistic(location, log_scale):
    return d.DiscretizedLogistic(location, log_scale, 17)


FREE = np.stack([np.zeros(5), np.linspace(-1e4, 1e4, 5), [0, 80, -80, 3, 1], [1e4, 1e4 + 1, 1e4 - 1, 0, 9e3]])
# name: (density of arrays, its parameters (n, 1), values x)
CASES = {
    "bernoulli": (d.Bernoulli, *(lambda p, x: ([p], x))(*grid(LOGITS, [0, 0.25, 1]))),
    "continuous": (d.ContinuousBernoulli, *(lambda p, x: ([p], x))(*grid(LOGITS, [0, 0.25, 1]))),
    "normal": (d.Normal, *(lambda m, s, x: ([m, s], x))(*grid(LOCATIONS, SCALES, [0, 0.3, 1]))),
    "laplace": (d.Laplace, *(lambda m, s, x: ([m, s], x))(*grid(LOCATIONS, SCALES, [0, 0.3, 1]))),
    "logistic": (logistic, *(lambda m, s, x: ([m, s], x))(*grid(LOCATIONS, SCALES, [0, 5 / 16, 1]))),
    "categorical": (d.Categorical, [FREE[:, None]], np.array([[0.25], [0.5], [0.75], [0.0]])),
}


def both(name, dtype):
    """The density with parameters rounded to `dtype`, and the same numbers in float64; x likewise in float32."""
    make, parameters, x = CASES[name]
    short = [jnp.asarray(p, SHORT[dtype]) for p in parameters]
    low = jnp.asarray(x, jnp.float32)
    return make, short, [p.astype(jnp.float64) for p in short], low, low.astype(jnp.float64)


def close(got, exact, dtype, size=1.0):
    """Within some units in the last place of the value, or of `size`, the largest term it is made of."""
    eps = float(jnp.finfo(SHORT[dtype]).eps)
    assert np.isfinite(np.asarray(got, np.float64)).all()
    assert (np.abs(np.asarray(got, np.float64) - exact) <= eps * (8 * np.abs(exact) + 4 * size)).all()


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("name", CASES)
def test_log_prob_and_its_gradient(name, dtype):
    make, short, exact, x, wide = both(name, dtype)
    value = lambda p, v: make(*p).log_prob(v)
    slope = jax.grad(lambda p, v: value(p, v).sum())
    got, truth = (jax.jit(value)(*args) for args in ((short, x), (exact, wide)))
    close(got, truth, dtype)
    for g, t in zip(jax.jit(slope)(short, x), jax.jit(slope)(exact, wide), strict=True):
        assert g.dtype == SHORT[dtype]
        close(g, t, dtype)


@pytest.mark.parametrize("dtype", SHORT)
@pytest.mark.parametrize("name", CASES)
def test_mean_entropy_and_draws(name, dtype):
    make, short, exact, _, _ = both(name, dtype)
    p, truth = make(*short), make(*exact)
    close(p.mean, truth.mean, dtype)
    if hasattr(p, "entropy"):
        close(p.entropy(), truth.entropy(), dtype)
        close(p.kl(p), 0 * truth.entropy(), dtype)
    draws = jax.jit(jax.vmap(lambda k: make(*short).sample(k)))(jax.random.split(KEY, 400)).astype(jnp.float64)
    assert np.isfinite(draws).all()
    if name in ("bernoulli", "continuous", "logistic", "categorical"):
        assert draws.min() >= 0
        assert draws.max() <= 1
        gap = np.abs(draws.mean(0) - truth.mean)  # a mean of 400 in [0, 1]; half a level for the logistic's own mean
        assert (gap < 5 * 0.5 / 20 + (1 / 32 if name == "logistic" else 0)).all()
    assert np.isfinite(np.asarray(p.log_prob(draws[0].astype(jnp.float32)))).all()


def test_quantile_at_the_ends_of_its_domain():
    """Uniforms of 0, of 2^-24 and 1 - 2^-24, all logits: within [0, 1], right, and with a finite gradient."""
    u, logits = (jnp.asarray(a, jnp.float32) for a in grid([0, 2**-24, 1e-3, 0.5, 1 - 2**-24], LOGITS))
    x, slope = jax.jvp(lambda v: cb.quantile(u, v), (logits,), (jnp.ones_like(logits),))
    exact = cb.quantile(u.astype(float), logits.astype(float))
    assert np.isfinite(slope).all()
    close(x, exact, "float32")


def test_bernoulli_entropy_of_sure_bits_keeps_its_digits():
    logits = jnp.asarray([[16.0], [-30.0]], jnp.float32)
    small = scipy.special.expit(-np.array([16.0, 30.0]))
    truth = scipy.special.entr(small) - (1 - small) * np.log1p(-small)
    np.testing.assert_allclose(d.Bernoulli(logits).entropy(), truth, rtol=1e-5)


@pytest.mark.parametrize("noise", [1e-3, 1e-6])
def test_ppca_likelihood_in_float32(noise):
    """Few directions with nearly all the variance: |centred|^2 and |z|^2 agree in all of float32's digits."""
    rng = np.random.default_rng(0)
    basis = np.linalg.qr(rng.normal(size=(40, 40)))[0]
    x = rng.normal(size=(500, 40)) * np.where(np.arange(40) < 3, 10, noise**0.5) @ basis
    model = ppca(x, 3)
    exact = model.log_likelihood(jnp.asarray(x))
    short = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), model)
    rounded = jnp.asarray(x, jnp.float32)
    # the data's own rounding is no error of the formula: the reference sees the same numbers
    same = jax.tree.map(lambda a: a.astype(float), short).log_likelihood(rounded.astype(float))
    got = short.log_likelihood(rounded)
    np.testing.assert_allclose(same.mean(), exact.mean(), rtol=1e-3)
    np.testing.assert_allclose(got.mean(), same.mean(), rtol=1e-3)


@pytest.mark.parametrize("norm", [LayerNorm, BatchNorm])
def test_norms_take_statistics_in_float32(norm):
    """Values near 100 with spread 1 in bfloat16: statistics in bfloat16 would be off by tens of percent."""
    x = (100 + jax.random.normal(KEY, (256, 256))).astype(jnp.bfloat16)
    layer = norm(256)
    got = layer(x, True).astype(float)
    axis = -1 if norm is LayerNorm else 0
    wide = np.asarray(x.astype(float))
    exact = (wide - wide.mean(axis, keepdims=True)) / np.sqrt(wide.var(axis, keepdims=True) + 1e-5)
    assert np.abs(got - exact).max() < 2**-7 * np.abs(exact).max()


def test_weight_penalty_and_event_sums_are_taken_in_float32():
    kernel = {"layer": {"kernel": jnp.full((64, 64), 1.0, jnp.bfloat16)}}
    assert weight_penalty(kernel, 0.0, 1.0) == 4096
    total = d.sum_event(jnp.full((1, 3000), 1.0, jnp.bfloat16))
    assert (total.dtype, float(total[0])) == (jnp.float32, 3000.0)


@pytest.mark.parametrize(
    "likelihood",
    [likelihoods.NormalLikelihood, likelihoods.LaplaceLikelihood, likelihoods.DiscretizedLogisticLikelihood],
)
def test_a_learned_scale_in_bfloat16_is_used_in_float32(likelihood):
    """log std + log(2 pi) / 2 rounded to bfloat16 costs 0.004 nats for every value."""
    module = likelihood(scale="learned").build(Sizes((3,)), nnx.Rngs(0))
    module.log_scale = nnx.Param(module.log_scale[...].astype(jnp.bfloat16))
    p = module(jnp.zeros((2, 3, 1), jnp.float32), None)
    assert [leaf.dtype for leaf in jax.tree.leaves(p)] == [jnp.float32] * 2


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (4, 2), (2, 2), (5, 3)])
@pytest.mark.parametrize("layer", [Conv2d, ConvTranspose2d])
def test_he_keeps_the_variance_at_any_stride(layer, kernel, stride):
    """Mean square 1 in (of one sign or rectified alike) gives 2 out, away from the border; it was 2 / stride^2."""
    x = jax.random.normal(KEY, (4, 12, 12, 64))
    y = layer(64, 128, kernel, stride, rngs=nnx.Rngs(0))(x)
    inner = y[:, kernel : -kernel or None, kernel : -kernel or None] if layer is ConvTranspose2d else y[:, 1:-1, 1:-1]
    assert abs(float(jnp.mean(inner**2)) - 2) < 0.15
