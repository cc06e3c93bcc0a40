"""Sparse dictionaries: which kind finds the features that activations are sums of."""
