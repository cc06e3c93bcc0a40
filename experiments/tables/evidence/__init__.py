"""Tables of likelihoods, of bounds on them and of their gradients."""
