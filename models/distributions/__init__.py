"""Distributions as pytrees: the batch is the first axis, the event is all the others.

Each has `mean` (the shape of x), `sample(key)` and `log_prob(x)` in nats, summed over the event; `kl(other)`
and `entropy()` where they have a closed form. `Point` is the posterior of a plain autoencoder: no density.
"""

from models.distributions.bernoulli import Bernoulli, CrossEntropy
from models.distributions.categorical import Categorical
from models.distributions.chain import Chain
from models.distributions.continuous_bernoulli import ContinuousBernoulli
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event, unit_of
from models.distributions.finite import bounded, log1p_of_unit, softplus
from models.distributions.flowed import Flowed
from models.distributions.full_normal import FullNormal, LowRank
from models.distributions.laplace import Laplace
from models.distributions.logistic import LEVELS, DiscretizedLogistic
from models.distributions.mixture import Mixture
from models.distributions.normal import LOG_2PI, Normal, OptimalNormal
from models.distributions.point import Point, Quantised
from models.distributions.sequence import Sequence

Distribution = Normal | OptimalNormal | Laplace | Bernoulli | ContinuousBernoulli | DiscretizedLogistic | Categorical

__all__ = [
    "LEVELS",
    "LOG_2PI",
    "Bernoulli",
    "Categorical",
    "Chain",
    "ContinuousBernoulli",
    "CrossEntropy",
    "DiscretizedLogistic",
    "Distribution",
    "Event",
    "Flowed",
    "FullNormal",
    "Laplace",
    "LowRank",
    "Mask",
    "Mixture",
    "Normal",
    "OptimalNormal",
    "PerExample",
    "Point",
    "Quantised",
    "Sequence",
    "at_least_float32",
    "bounded",
    "log1p_of_unit",
    "softplus",
    "sum_event",
    "unit_of",
]
