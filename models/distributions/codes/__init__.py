"""Distributions of codes alone: hierarchies, flows, mixtures, full covariances, points, spheres."""
