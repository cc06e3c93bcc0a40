"""The ways to evaluate a Jacobian, their registry, and the choice among them."""
