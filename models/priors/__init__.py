"""Priors over codes. A prior is a distribution with a batch of one, which serves every example."""

from models.priors.standard import standard_normal

__all__ = ["standard_normal"]
