"""Jacobians as matrices: factored, sparse, or known by their products."""
