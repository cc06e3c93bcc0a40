"""Not chosen yet."""

from models.config import config
from models.likelihoods.bernoulli import BernoulliLikelihood


@config
class AutoLikelihood(BernoulliLikelihood):
    """Chosen from the data before a run: bits bernoulli, grey levels discretizedlogistic, tables normal.

    A run resolves it (`training.inputs`) and records what it became. A model that is built from Python without data
    to look at is bernoulli.
    """
