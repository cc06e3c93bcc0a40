"""Likelihoods p(x|z): how many numbers per value the decoder gives, and the distribution they make.

    channels()                     -> int, numbers per value
    build(sizes, rngs)             -> a module with the parameters the kind needs (`Held(self)` where none)
    module(out, key)               -> p(x|z) of the decoder's numbers (batch, *shape, channels); a key means training
    module.track(p, batch)            where there is one: moves what a kind learns from batches without a gradient
    distribution(out, log_scale)   -> p(x|z), `log_scale` None where the kind has no scale of its own
    bias(pixel_mean)               -> an output bias whose distribution has about that mean: a good start
"""

from models.likelihoods.auto import Auto
from models.likelihoods.bernoulli import Bernoulli
from models.likelihoods.categorical import Categorical
from models.likelihoods.columns import Columns
from models.likelihoods.continuous_bernoulli import ContinuousBernoulli
from models.likelihoods.laplace import Laplace
from models.likelihoods.logistic import DiscretizedLogistic
from models.likelihoods.logistic_mixture import LogisticMixture
from models.likelihoods.multinomial import Multinomial
from models.likelihoods.normal import Normal
from models.likelihoods.tokens import Tokens

Likelihood = (
    Auto
    | Bernoulli
    | ContinuousBernoulli
    | Normal
    | Laplace
    | DiscretizedLogistic
    | LogisticMixture
    | Categorical
    | Tokens
    | Multinomial
    | Columns
)

__all__ = [
    "Auto",
    "Bernoulli",
    "Categorical",
    "Columns",
    "ContinuousBernoulli",
    "DiscretizedLogistic",
    "Laplace",
    "Likelihood",
    "LogisticMixture",
    "Multinomial",
    "Normal",
    "Tokens",
]
