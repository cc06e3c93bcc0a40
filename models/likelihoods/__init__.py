"""Likelihoods p(x|z): how many numbers per value the decoder gives, and the distribution they make.

    channels()                     -> int, numbers per value
    build(sizes, rngs)             -> a module with the parameters the kind needs (`Held(self)` where none)
    module(out, key)               -> p(x|z) of the decoder's numbers (batch, *shape, channels); a key means training
    module.track(p, batch)            where there is one: moves what a kind learns from batches without a gradient
    distribution(out, log_scale)   -> p(x|z), `log_scale` None where the kind has no scale of its own
    bias(pixel_mean)               -> an output bias whose distribution has about that mean: a good start
"""

from models.likelihoods.auto import AutoLikelihood
from models.likelihoods.bernoulli import BernoulliLikelihood
from models.likelihoods.categorical import CategoricalLikelihood
from models.likelihoods.columns import ColumnsLikelihood
from models.likelihoods.continuous_bernoulli import ContinuousBernoulliLikelihood
from models.likelihoods.laplace import LaplaceLikelihood
from models.likelihoods.logistic import DiscretizedLogisticLikelihood
from models.likelihoods.mixtures import LogisticMixtureLikelihood, StrokesLikelihood
from models.likelihoods.multinomial import MultinomialLikelihood
from models.likelihoods.normal import NormalLikelihood
from models.likelihoods.tokens import TokensLikelihood

Likelihood = (
    AutoLikelihood
    | BernoulliLikelihood
    | ContinuousBernoulliLikelihood
    | NormalLikelihood
    | LaplaceLikelihood
    | DiscretizedLogisticLikelihood
    | LogisticMixtureLikelihood
    | CategoricalLikelihood
    | TokensLikelihood
    | MultinomialLikelihood
    | ColumnsLikelihood
    | StrokesLikelihood
)

__all__ = [
    "AutoLikelihood",
    "BernoulliLikelihood",
    "CategoricalLikelihood",
    "ColumnsLikelihood",
    "ContinuousBernoulliLikelihood",
    "DiscretizedLogisticLikelihood",
    "LaplaceLikelihood",
    "Likelihood",
    "LogisticMixtureLikelihood",
    "MultinomialLikelihood",
    "NormalLikelihood",
    "StrokesLikelihood",
    "TokensLikelihood",
]
