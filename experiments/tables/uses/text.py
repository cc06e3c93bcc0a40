"""Character models: variational autoencoders of text beside counts of characters and a compressor.

Claim: An autoencoder's bound on text that it has not seen is below the entropy under single characters; where a 5-gram
    and gzip stand beside it is measured.
Source: no published number. The text is CPython's own documentation, whole lines together to 192 characters, the last
    tenth is test. 5-gram: interpolation of Witten & Bell 1991. gzip: deflate at level 9, given the last 32 KiB of the
    training text first. Autoencoders as in Bowman et al. 2016: word dropout and annealing against an idle code.
Command: python -m experiments text
Cost: 2 networks, 3 seeds, 3 epochs of 2,545 texts; --profile long 3 networks, 30 epochs.
Expected: an ordering, no number: unigram above everything else.
Caveats: An autoencoder's nats are its bound, one draw of the code each. All rows count the end of an example as a
    symbol and start every example anew; gzip alone goes on from one to the next.
"""

import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from data.files.kinds.text import to_strings
from experiments.running.study import Case, Data, Study
from experiments.running.table import Profile
from experiments.running.trained import trained
from models import ELBO, Model, Recurrent, Transformer, per_example, summarize
from models.batch import Batch
from models.likelihoods import TokensLikelihood
from train import Config

ORDER = 5


class TextProtocol(NamedTuple):
    """What every row is trained and tested on."""

    dataset: str = "python_docs"
    test: int = 318
    width: int = 128
    latent: int = 16
    epochs: int = 3
    drop_words: float = 0.1
    warmup: int = 300


def texts(data: Data, split: str, n: int | None = None) -> list[list[int]]:
    """Return the symbols of examples up to and with their end."""
    x = data.dataset.splits[split].x[:n]
    return [row[: int(np.argmax(row == 0)) + 1 if (row == 0).any() else None].tolist() for row in x]


def n_gram(order: int) -> Any:
    """Return the row of a model of `order` - 1 characters of context, Witten-Bell interpolated down to none."""

    def row(protocol: TextProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        counts: dict[tuple[int, ...], Counter[int]] = defaultdict(Counter)
        for text in texts(data, "train"):
            padded = [0] * (order - 1) + text
            for i in range(order - 1, len(padded)):
                for k in range(order):
                    counts[tuple(padded[i - k : i])][padded[i]] += 1
        totals = {context: (sum(found.values()), len(found)) for context, found in counts.items()}
        symbols, nats = data.dataset.range[1] + 1, 0.0
        test = texts(data, "test", protocol.test)
        for text in test:
            padded = [0] * (order - 1) + text
            for i in range(order - 1, len(padded)):
                p = 1 / symbols
                for k in range(order):
                    context = tuple(padded[i - k : i])
                    if context in totals:
                        total, kinds = totals[context]
                        p = (counts[context][padded[i]] + kinds * p) / (total + kinds)
                nats -= np.log(p)
        return {"nats_per_character": nats / sum(map(len, test))}

    return row


def gzip(protocol: TextProtocol, seed: int, data: Data) -> Mapping[str, Any]:
    """Return the row of a compressor: bits of the deflated test text, as nats."""
    read = lambda split, n=None: "".join(to_strings(data.dataset.splits[split].x[:n], data.dataset.reading)).encode()
    press = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zdict=read("train")[-32768:])
    size = len(press.compress(read("test", protocol.test)) + press.flush())
    return {"nats_per_character": 8 * np.log(2) * size / sum(map(len, texts(data, "test", protocol.test)))}


def autoencoder(network: str) -> Any:
    """Return the row of a variational autoencoder whose encoder and decoder are that network."""

    def row(protocol: TextProtocol, seed: int, data: Data) -> Mapping[str, Any]:
        width, drop = protocol.width, protocol.drop_words
        encoder: Any = (
            Transformer(width=width // 2, drop_words=drop)
            if network == "transformer"
            else Recurrent(cell=network, width=width, drop_words=drop)  # type: ignore[arg-type]
        )
        config = Config(
            dataset=protocol.dataset,
            model=Model(encoder=encoder, latent=protocol.latent, likelihood=TokensLikelihood()),
            objective=ELBO(warmup_steps=protocol.warmup),
            epochs=protocol.epochs,
            batch_size=32,
            lr=3e-3,
        )
        model = trained(config, seed, data)
        x = data.splits["test"].take(jnp.arange(min(protocol.test, len(data.splits["test"]))))
        sums = jax.jit(lambda x, key: jax.tree.map(jnp.sum, per_example(model, Batch(x), key)))(x, jax.random.key(seed))
        found = summarize(sums, len(x))
        symbols = found["symbols"]
        return {
            "nats_per_character": found["negative_elbo_nats"] / symbols,
            "kl_nats": found["kl_nats"],
            "perplexity": found["perplexity"],
            "wrong_symbols": found["wrong_symbols"],
        }

    return row


SMALL = {"width": 16, "latent": 4, "epochs": 1, "test": 20, "warmup": 0}
STUDY = Study(
    rows={
        "unigram": Case(n_gram(1), exact=True),
        f"{ORDER}-gram": Case(n_gram(ORDER), exact=True, bound="unigram"),
        "gzip": Case(gzip, exact=True),
        "GRU": Case(autoencoder("gru"), bound="unigram"),
        "LSTM": Case(autoencoder("lstm"), bound="unigram"),
        "transformer": Case(autoencoder("transformer"), bound="unigram"),
    },
    protocol=TextProtocol(),
    profiles={
        "smoke": Profile(2, SMALL, only=("unigram", "gzip", "GRU"), differs="1 epoch of a narrow network"),
        "cpu": Profile(3, only=("unigram", f"{ORDER}-gram", "gzip", "GRU", "transformer")),
        "long": Profile(3, {"epochs": 30}),
        "shakespeare": Profile(3, {"dataset": "tiny_shakespeare", "test": 1046, "epochs": 10}),
    },
    metric="nats_per_character",
    columns=("kl_nats", "perplexity", "wrong_symbols"),
)
