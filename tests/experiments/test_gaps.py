"""Inference gaps against the exact posterior of a linear model with one unit."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from flax import nnx

from experiments.tables.evidence.gaps import gaps
from models import Autoencoder, Dense, Model
from models.likelihoods import NormalLikelihood


def test_gaps_add_up_to_the_distance_from_the_exact_posterior():
    """p(z|x) is normal, so only the encoder loses: its gap is KL(q(z|x) || p(z|x)), and log p(x) is that of pPCA."""
    std = 0.7
    model = Autoencoder(
        Model(encoder=Dense(()), decoder=Dense(()), latent=1, likelihood=NormalLikelihood(std=std)),
        (3,),
        rngs=nnx.Rngs(0),
    )
    x = jax.random.normal(jax.random.key(1), (4, 3))
    found = gaps(model, x, jax.random.key(2), steps=400, draws=2_000)
    centre, far = (np.asarray(model.decode(jnp.full((1, 1), z)).mean[0]) for z in (0.0, 1.0))
    q, w, rest = model.encode(x), far - centre, np.asarray(x) - centre
    precision = 1 + w @ w / std**2
    mean, own = rest @ w / std**2 / precision, np.asarray(q.mean[:, 0])
    variance = np.exp(2 * np.asarray(q.log_std[:, 0]))
    kl = 0.5 * (precision * (variance + (own - mean) ** 2) - 1 - np.log(precision * variance))
    exact = scipy.stats.multivariate_normal(np.zeros(3), np.outer(w, w) + std**2 * np.eye(3)).logpdf(rest)
    assert kl.max() > 1
    np.testing.assert_allclose(found["log_likelihood"], exact, atol=5e-3)
    np.testing.assert_allclose(found["approximation"], 0, atol=0.1)  # 200 draws, as the next line
    np.testing.assert_allclose(found["amortisation"] + found["approximation"], kl, rtol=0.25, atol=0.15)
