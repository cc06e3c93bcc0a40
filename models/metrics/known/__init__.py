"""Metrics against what is known of the examples: factors they were made from, features they are sums of."""

from models.metrics.known import dictionary, factors

__all__ = ["dictionary", "factors"]
