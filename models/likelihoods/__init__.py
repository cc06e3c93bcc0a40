"""Likelihood configs: how many numbers per value the decoder gives, and the distribution they make.

Each has `channels()` (numbers per value), `initial_log_scale()` (of a scale shared by all values and learned,
or None), `distribution(out, log_scale)` and `bias(pixel_mean)`, the output bias whose distribution has about
that mean: a good start for the decoder.
"""

from models.likelihoods.bernoulli import Bernoulli
from models.likelihoods.categorical import Categorical
from models.likelihoods.continuous_bernoulli import ContinuousBernoulli
from models.likelihoods.laplace import Laplace
from models.likelihoods.logistic import DiscretizedLogistic
from models.likelihoods.normal import Normal

Likelihood = Bernoulli | ContinuousBernoulli | Normal | Laplace | DiscretizedLogistic | Categorical


def learned(likelihood: Likelihood) -> bool:
    """Whether one shared scale is a parameter of the model."""
    return getattr(likelihood, "scale", None) == "learned"


def optimal(likelihood: Likelihood) -> bool:
    """Whether the scale is each batch's own (Normal with scale="optimal")."""
    return getattr(likelihood, "scale", None) == "optimal"
