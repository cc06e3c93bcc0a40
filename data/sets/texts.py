"""Texts by name: CPython's own documentation, which every Python has, and tiny Shakespeare."""

import platform
from pathlib import Path

from data.dataset import Dataset, digest
from data.errors import DataError
from data.files.formats import read_bytes
from data.files.kinds.text import How, dataset_of, text_of

TEXTS = ("python_docs", "tiny_shakespeare")


def load_text_set(name: str, data_dir: Path | None) -> Dataset:
    """Return a text set, by characters, lines together. Raises DataError for Shakespeare without its file."""
    if name == "python_docs":
        from pydoc_data import topics  # what `help("TOPIC")` of Python prints, about half a million characters

        text = "\n".join(topics.topics[key] for key in sorted(topics.topics))
        source = f"pydoc_data.topics of CPython {platform.python_version()}"
        return dataset_of(text, How(), name, source, {"topics": digest(text.encode())})
    path = None if data_dir is None else data_dir / name / "input.txt"
    if path is None or not path.is_file():
        raise DataError(
            f"{name}: give --data-dir DIR with DIR/{name}/input.txt (Karpathy's char-rnn, 1,115,394 bytes), or take "
            "python_docs, which needs no file"
        )
    content = read_bytes(path)
    text = text_of(content, "characters", str(path))
    return dataset_of(text, How(), name, str(path), {"input.txt": digest(content)})
