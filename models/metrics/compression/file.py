"""Compressed examples as a file: a line that says what it is, a header as JSON, the words of the stack."""

import hashlib
import json
from typing import Any

import jax.numpy as jnp
import numpy as np

from models.config import ConfigError
from models.metrics.compression.coder import Coder, coder_for, popped, pushed
from models.metrics.compression.moves import example, top_level, why_not
from models.metrics.compression.stack import Lattice
from models.metrics.subject import Subject

MAGIC = b"autoencoders-jax compressed examples 2\n"
HEADER = 1 << 16  # bytes that a header may have


def levels_of(model: Any, x: Any) -> np.ndarray:
    """Return examples as symbols, (n, values) int32. Raises ConfigError for values that are none of the levels."""
    x, top = np.asarray(x, np.float64).reshape(len(x), -1), top_level(model)
    symbols = np.round(x * (top or 1))
    if (np.abs(x * (top or 1) - symbols) > 1e-3).any() or symbols.min() < 0 or (top and symbols.max() > top):
        raise ConfigError(
            f"values lie between the {top + 1} levels of the likelihood, so they cannot be written without loss: "
            "compress the data that the run was trained on, or use --binarise"
        )
    return symbols.astype(np.int32)


def digest(symbols: np.ndarray) -> str:
    """Return the SHA-256 of symbols."""
    return hashlib.sha256(np.ascontiguousarray(symbols, "<i4").tobytes()).hexdigest()


def compressed(subject: Subject, params_sha256: str = "") -> tuple[bytes, dict[str, Any]]:
    """Return the file that holds a subject's examples, and its header. Raises ConfigError (`moves.why_not`)."""
    if why := why_not(subject):
        raise ConfigError(f"this run cannot compress: {why}")
    symbols = levels_of(subject.model, subject.test.batch.x)
    coder = coder_for(subject.model, symbols)
    stack, begun, sizes = pushed(coder, symbols)
    words = stack.words
    header = {
        "examples": len(symbols),
        "shape": list(subject.model.shape),
        "group": coder.group,
        "step": coder.lattice.step,
        "half": coder.lattice.half,
        "words": len(words),
        "bits_begun_with": begun,
        "bits_of_examples": int(sizes.sum()),
        "sha256": digest(symbols),
        "params_sha256": params_sha256,
    }
    text = json.dumps(header).encode()
    return MAGIC + len(text).to_bytes(4, "little") + text + words.astype("<u4").tobytes(), header


FIELDS = {"shape": list, "step": float, "sha256": str, "params_sha256": str}
COUNTS = {"examples": 1 << 40, "group": 1 << 16, "half": 1 << 20, "words": 1 << 40}  # none below 1, and at most so many


def is_header(header: Any) -> bool:
    """Whether a header has all its fields, of their types and within their limits."""
    return (
        isinstance(header, dict)
        and all(isinstance(header.get(name), kind) for name, kind in FIELDS.items())
        and all(type(header.get(name)) is int and 0 < header[name] <= most for name, most in COUNTS.items())
        and 0 < header["step"] <= 1
    )


def read_header(content: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """Return the header and the words of a file. Raises ConfigError for anything else."""
    start = len(MAGIC) + 4
    size = min(HEADER, int.from_bytes(content[len(MAGIC) : start], "little"))
    try:
        header: Any = json.loads(content[start : start + size]) if content.startswith(MAGIC) else None
    except (ValueError, RecursionError):
        header = None
    words = content[start + size :]
    if not is_header(header) or len(words) != 4 * header["words"]:
        raise ConfigError("the file holds no compressed examples, or only a part of them")
    return header, np.frombuffer(words, "<u4").astype(np.uint32)


def decompressed(model: Any, content: bytes, params_sha256: str = "") -> np.ndarray:
    """Return the examples of a file as the model sees them, (n, *shape).

    Raises ConfigError for a file of another model, or where this machine's networks compute other bits than those that
    wrote it.
    """
    header, words = read_header(content)
    if tuple(header["shape"]) != model.shape:
        raise ConfigError(f"the file holds examples of shape {tuple(header['shape'])}, this model's are {model.shape}")
    if header["params_sha256"] and params_sha256 and header["params_sha256"] != params_sha256:
        raise ConfigError(
            f"the file was written by the model {header['params_sha256'][:12]}, this one is {params_sha256[:12]}"
        )
    lattice = Lattice(header["step"], header["half"])
    symbols = popped(Coder(model, lattice, header["group"]), words, header["examples"])
    if digest(symbols) != header["sha256"]:
        raise ConfigError(
            "what was decoded is not what was written: the file is damaged, or this machine or version of XLA rounds "
            "otherwise than the one that wrote it"
        )
    return np.asarray(example(model, jnp.asarray(symbols)), np.float32)
