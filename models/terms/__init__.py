"""What is added to a loss."""

from models.terms.kernels import is_kernel, weight_penalty

__all__ = ["is_kernel", "weight_penalty"]
