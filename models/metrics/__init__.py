"""What a trained model is judged by: per example, in evaluation mode, units in the names."""

from models.metrics.basic import per_example, summarize

__all__ = ["per_example", "summarize"]
