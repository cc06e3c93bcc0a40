"""How discrete codes are used."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, PRNGKeyArray

from models.autoencoder import Autoencoder
from models.batch import Batch
from models.distributions import sum_event
from models.metrics.estimates import Measured, jackknife, mean_of
from models.metrics.subject import Subject


def indices_of(model: Autoencoder, batch: Batch, key: PRNGKeyArray | None = None) -> Int[Array, "batch places"]:
    """Return the entry at every place of each code: the chosen one, or the likeliest of a distribution's."""
    q = model.encode(model.sees(batch), None, model.seen_label(batch))
    return jnp.argmax(q.logits, axis=-1) if hasattr(q, "logits") else q.indices


def coded(model: Autoencoder, batch: Batch, key: PRNGKeyArray | None = None) -> dict[str, Array]:
    """Return the entries of every example, and the squared error of what is decoded from them."""
    book: Any = model.posterior_module
    out: dict[str, Array] = {"indices": indices_of(model, batch)}
    p = model.decode(book.lookup(out["indices"]), None, model.seen_label(batch))
    if not getattr(p, "symbolic", False):
        out["coded_squared_error"] = sum_event(jnp.square(batch.x - p.mean), batch.mask)
    return out


def codes(subject: Subject) -> dict[str, Measured]:
    """Return how the entries of discrete codes are used, place by place.

    code_rate_bits: of a code that gives every entry alike. code_entropy_bits: Σ over places of the entropy of the
    entries used there, what an ideal code for each place by itself spends; from counts, so too low by about (entries
    used - 1) / (2 n log 2) a place. perplexity: 2 ** (code_entropy_bits / places). code_use: share of all (place,
    entry) pairs that occur. coded_squared_error: of the mean decoded from these entries, summed over values; symbols
    have none.
    """
    book: Any = subject.model.posterior_module
    found, size, places = subject.each(coded, "codes"), book.size, book.places
    chosen = found["indices"]

    def counts(index: np.ndarray) -> np.ndarray:
        flat = chosen[index] + size * np.arange(places)
        return np.bincount(flat.reshape(-1), minlength=size * places).reshape(places, size)

    def entropy(index: np.ndarray) -> float:
        p = counts(index) / len(index)
        return float((p * np.log2(1 / np.where(p > 0, p, 1))).sum())  # of one entry 0, not -0

    n = len(chosen)
    error = {name: mean_of(found[name], "scaled units squared") for name in ("coded_squared_error",) if name in found}
    return error | {
        "code_rate_bits": Measured(places * math.log2(size), "bits", None),
        "code_entropy_bits": jackknife(entropy, n, "bits"),
        "perplexity": jackknife(lambda index: 2 ** (entropy(index) / places), n, "entries"),
        "code_use": jackknife(lambda index: (counts(index) > 0).mean(), n, "share"),
    }
