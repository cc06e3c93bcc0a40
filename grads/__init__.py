"""Gradients, Jacobians and operators on them; knows nothing of models."""
