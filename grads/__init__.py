"""Gradients, Jacobians and operators on them; knows nothing of models."""

from grads import basis, chain  # noqa: F401  (they register their methods)
from grads.factored import Dense, Diagonal, Factored, Identity
from grads.jacobian import jacobian, value_and_jacobian
from grads.machine import calibrate
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
    "Factored",
    "Identity",
    "Method",
    "UnknownMethodError",
    "UnsupportedMethodError",
    "calibrate",
    "get_method",
    "jacobian",
    "methods",
    "register_method",
    "value_and_jacobian",
]
