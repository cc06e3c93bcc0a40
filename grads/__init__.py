"""Gradients, Jacobians and operators on them; knows nothing of models."""

from grads import basis, chain, structured, batched  # noqa: F401, I001  (they register their methods, in this order)
from grads.factored import Dense, Diagonal, Factored, Identity
from grads.jacobian import jacobian, value_and_jacobian
from grads.machine import calibrate
from grads.plan import Plan, explain
from grads.registry import (
    Cost,
    Method,
    UnknownMethodError,
    UnsupportedMethodError,
    get_method,
    methods,
    register_method,
)
from grads.select import MemoryLimitError

__all__ = [
    "Cost",
    "Dense",
    "Diagonal",
    "Factored",
    "Identity",
    "MemoryLimitError",
    "Method",
    "Plan",
    "UnknownMethodError",
    "UnsupportedMethodError",
    "calibrate",
    "explain",
    "get_method",
    "jacobian",
    "methods",
    "register_method",
    "value_and_jacobian",
]
