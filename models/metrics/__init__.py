"""What a trained model is judged by: per example, in evaluation mode, units in the names."""

from models.metrics.basic import per_example, summarize
from models.metrics.likelihood import log_likelihood

__all__ = ["log_likelihood", "per_example", "summarize"]
