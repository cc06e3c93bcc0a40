"""Metrics against what is known: factors that examples were made from, features they are sums of, hidden choices."""

from models.metrics.known import dictionary, factors, ranking

__all__ = ["dictionary", "factors", "ranking"]
