"""Gradients, Jacobians and operators on them; knows nothing of models."""

from grads import basis, chain  # noqa: F401  (they register their methods)
from grads.estimators import Estimate
from grads.factored import Dense, Diagonal, Factored, Identity
from grads.jacobian import jacobian, value_and_jacobian
from grads.machine import calibrate
from grads.per_example import per_example_gradient_norms, per_example_gradients
from grads.products import (
    gauss_newton_product,
    gradient,
    gradients,
    hvp,
    jvp,
    metric,
    value_and_gradient,
    vhp,
    vjp,
)
from grads.registry import (
    Cost,
    Method,
    UnknownMethodError,
    UnsupportedMethodError,
    get_method,
    methods,
    register_method,
)

__all__ = [
    "Cost",
    "Dense",
    "Diagonal",
    "Estimate",
    "Factored",
    "Identity",
    "Method",
    "UnknownMethodError",
    "UnsupportedMethodError",
    "calibrate",
    "gauss_newton_product",
    "get_method",
    "gradient",
    "gradients",
    "hvp",
    "jacobian",
    "jvp",
    "methods",
    "metric",
    "per_example_gradient_norms",
    "per_example_gradients",
    "register_method",
    "value_and_gradient",
    "value_and_jacobian",
    "vhp",
    "vjp",
]
