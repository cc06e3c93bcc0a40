"""Priors p(z): a batch of one, which serves every example, or one per example where it depends on the label.

    build(latent, sizes, rngs)     -> a module with the parameters the kind needs (`Held(self)` where none)
    module(model, label, key)      -> p(z); the key is for what is random in it, not for training mode
"""

from models.priors.standard import Standard, standard_normal

Prior = Standard

__all__ = ["Prior", "Standard", "standard_normal"]
