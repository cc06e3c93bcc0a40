"""latent.html: a page that decodes in the browser, with a run's weights and no network."""

from training.pictures.latent.page import write

__all__ = ["write"]
