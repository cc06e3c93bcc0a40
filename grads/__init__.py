"""Gradients, Jacobians and operators on them; knows nothing of models."""

from grads.estimators import Estimate as Estimate
from grads.per_example import per_example_gradient_norms as per_example_gradient_norms
from grads.per_example import per_example_gradients as per_example_gradients
