"""Where Jacobians meet autoencoders: one file a study; docs/geometry.md explains them."""
