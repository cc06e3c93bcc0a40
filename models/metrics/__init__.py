"""What a trained model is judged by: per example, in evaluation mode, units in the names."""

from models.metrics import travel
from models.metrics.basic import per_dimension, per_example, perplexity, squared_error, summarize
from models.metrics.estimates import Measured
from models.metrics.geometry import report_card
from models.metrics.likelihood import log_likelihood
from models.metrics.registry import METRICS, Metric, measure
from models.metrics.subject import Shown, Subject

__all__ = [
    "METRICS",
    "Measured",
    "Metric",
    "Shown",
    "Subject",
    "log_likelihood",
    "measure",
    "per_dimension",
    "per_example",
    "perplexity",
    "report_card",
    "squared_error",
    "summarize",
    "travel",
]
