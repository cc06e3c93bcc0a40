"""Preparing a TFDS set once, with TensorFlow (extra `tf`), into our cache as array_record."""

import importlib.util
import os
from pathlib import Path
from typing import Any

from data.errors import DataError
from data.tfds import registry

INSTALL = "pip install tensorflow-cpu (the extra: pip install -e '.[tf]')"


def prepare(name: str, data_dir: Path | None, cache: Path, seconds: float, looked: list[str]) -> Any:
    """Return a prepared TFDS builder for "name[/config][:version]".

    Files already in <data_dir>/<name>/ under their registered names are used instead of downloads. Raises
    DataError, one line, when the set cannot be described or prepared, when TensorFlow is missing, or offline.
    """
    tfds = registry.import_tfds()
    try:
        builder = tfds.builder(name, data_dir=cache / "tfds")
    except Exception as error:  # unknown versions and configurations, builders with missing imports
        raise DataError(f"tfds:{name}: {_short(error)}") from None
    try:
        builder.as_data_source(split="train")
        return builder  # it can serve its data without preparing
    except Exception:
        pass
    if importlib.util.find_spec("tensorflow") is None:
        raise DataError(
            f"tfds:{name}: no prepared folder in {', '.join(looked)}, and preparing one needs TensorFlow "
            f"once: {INSTALL}; --dataset digits needs nothing"
        )
    manual = None if data_dir is None else data_dir / builder.name
    _check_network(name, builder, manual, seconds)
    _hide_gpus()
    config = tfds.download.DownloadConfig(
        manual_dir=manual if manual is not None and manual.is_dir() else None, try_download_gcs=False
    )
    # a folder for each set: TFDS 4.9.10 names extracted files by file name alone, so that fashion_mnist
    # would silently get the extracted images of mnist
    downloads = cache / "tfds" / "downloads" / builder.name
    try:
        builder.download_and_prepare(file_format="array_record", download_dir=downloads, download_config=config)
    except Exception as error:  # downloads, checksums, parsers: many kinds
        raise DataError(f"tfds:{name}: preparing failed ({_short(error)})") from None
    return builder


def _check_network(name: str, builder: Any, manual: Path | None, seconds: float) -> None:
    """Raise DataError at once when registered files are missing and their host does not answer."""
    facts = registry.facts(builder.name)
    missing = [f for f in facts.values() if manual is None or not (manual / f.filename).is_file()]
    if missing and (reason := registry.reachable(missing[0].url, seconds)):
        wanted = ", ".join(f"{f.filename} (sha256 {f.sha256})" for f in missing[:8])
        more = f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise DataError(
            f"tfds:{name}: offline ({missing[0].url}: {reason}). Wanted: {wanted}{more}. Put the files into "
            f"<data-dir>/{builder.name}/ and pass --data-dir; --dataset digits needs nothing"
        )


def _hide_gpus() -> None:
    """Keep TensorFlow off the GPUs: it would take the memory that JAX needs."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    tf.config.set_visible_devices([], "GPU")


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
