"""Distributions as pytrees: the batch is the first axis, the event is all the others.

Each has `mean` (the shape of x), `sample(key)` and `log_prob(x)` in nats, summed over the event; `kl(other)`
and `entropy()` where they have a closed form. `Point` is the posterior of a plain autoencoder: no density.
"""

from models.distributions.bernoulli import Bernoulli, CrossEntropy
from models.distributions.categorical import Categorical
from models.distributions.codes.chain import Chain
from models.distributions.codes.flowed import Flowed
from models.distributions.codes.full_normal import FullNormal, LowRank
from models.distributions.codes.mixture import Mixture
from models.distributions.codes.point import Point, Quantised
from models.distributions.codes.sphere import UniformSphere
from models.distributions.codes.von_mises_fisher import VonMisesFisher
from models.distributions.continuous_bernoulli import ContinuousBernoulli
from models.distributions.event import Event, Mask, PerExample, at_least_float32, sum_event, unit_of
from models.distributions.finite import bounded, log1p_of_unit, softplus
from models.distributions.laplace import Laplace
from models.distributions.logistic import LEVELS, DiscretizedLogistic
from models.distributions.normal import LOG_2PI, Normal, OptimalNormal
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
    "UniformSphere",
    "VonMisesFisher",
    "at_least_float32",
    "bounded",
    "log1p_of_unit",
    "softplus",
    "sum_event",
    "unit_of",
]
