"""Gradients, Jacobians and operators on them; knows nothing of models."""

# ruff: noqa: I001  (the methods register themselves, in this order)
from grads.methods import plain, chain, structured, batched, oracles, low_rank, coloured, elimination  # noqa: F401
from grads.active import ActiveBlock, active_block
from grads.matrices.factored import DenseFactor, DiagonalFactor, Factored, IdentityFactor, SelectionFactor
from grads.jacobian import jacobian, jacobian_operator, value_and_jacobian
from grads.costs.machine import calibrate
from grads.explain import Plan, explain
from grads.costs.cost import Cost
from grads.methods.registry import Method, UnknownMethodError, UnsupportedMethodError, get_method, methods
from grads.methods.registry import register_method
from grads.methods.select import MemoryLimitError
from grads.testing.check import WrongJacobianError, check_jacobian
from grads.testing.compare import Comparison, compare
from grads.matrices.estimators import Estimate
from grads.hessian import hessian, hessian_sparsity
from grads.modules import of_module
from grads.matrices.operator import JacobianOperator
from grads.matrices.pattern import Pattern
from grads.per_example import per_example_gradient_norms, per_example_gradients
from grads.products import gauss_newton_product, gradient, gradients, hvp, jvp, metric
from grads.products import value_and_gradient, vhp, vjp
from grads.methods.low_rank import randomized_svd
from grads.methods.coloured import WrongPatternError, check_pattern, sparse
from grads.programs.sparsity import jacobian_sparsity

__all__ = [
    "ActiveBlock",
    "Comparison",
    "Cost",
    "DenseFactor",
    "DiagonalFactor",
    "Estimate",
    "Factored",
    "IdentityFactor",
    "JacobianOperator",
    "MemoryLimitError",
    "Method",
    "Pattern",
    "Plan",
    "SelectionFactor",
    "UnknownMethodError",
    "UnsupportedMethodError",
    "WrongJacobianError",
    "WrongPatternError",
    "active_block",
    "calibrate",
    "check_jacobian",
    "check_pattern",
    "compare",
    "explain",
    "gauss_newton_product",
    "get_method",
    "gradient",
    "gradients",
    "hessian",
    "hessian_sparsity",
    "hvp",
    "jacobian",
    "jacobian_operator",
    "jacobian_sparsity",
    "jvp",
    "methods",
    "metric",
    "of_module",
    "per_example_gradient_norms",
    "per_example_gradients",
    "randomized_svd",
    "register_method",
    "sparse",
    "value_and_gradient",
    "value_and_jacobian",
    "vhp",
    "vjp",
]
