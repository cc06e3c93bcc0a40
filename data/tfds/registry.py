"""Facts and fetching, both TensorFlow Datasets' own: `url_infos` of a builder, and its `DownloadManager`.

Neither needs TensorFlow. Before any download one short request to the first host decides whether there is a
network at all: TFDS itself retries for minutes.
"""

import contextlib
import dataclasses
import logging
import queue
import tempfile
import threading
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from data.dataset import digest
from data.errors import DataError
from data.files.formats import read_bytes, write_atomic


@dataclasses.dataclass(frozen=True)
class Fact:
    """What is registered about one download: its URL, file name, size in bytes and SHA-256."""

    url: str
    filename: str
    size: int
    sha256: str


def import_tfds() -> Any:
    """Import tensorflow_datasets without TensorFlow and without any request to its cloud bucket."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            import tensorflow_datasets as tfds
            from tensorflow_datasets.core.utils import gcs_utils
    except ImportError as error:
        raise DataError(
            f"tensorflow_datasets cannot be imported ({error}); run: "
            "pip install tensorflow-datasets importlib_resources"
        ) from None
    gcs_utils._is_gcs_disabled = True
    logging.getLogger("absl").addFilter(_without_advice)
    return tfds


def _without_advice(record: logging.LogRecord) -> bool:
    """Keep TFDS's advice to install OpenCV from the user: PIL decodes to the same pixels."""
    return "OpenCV is not installed" not in record.getMessage()


def facts(builder: str) -> dict[str, Fact]:
    """Return the registered downloads of a TFDS builder by file name."""
    infos = import_tfds().builder_cls(builder).url_infos
    known = {}
    for url, info in infos.items():
        filename = info.filename or url.rpartition("/")[2]
        known[filename] = Fact(url, filename, int(info.size), info.checksum)
    return known


def check(content: bytes, fact: Fact, where: str) -> None:
    """Raise DataError when bytes are not the registered file, saying how they differ."""
    if len(content) != fact.size:
        what = "truncated" if len(content) < fact.size else "too long"
        raise DataError(
            f"{where}: {what}: {len(content)} bytes, registered are {fact.size}; fetch it again from {fact.url}"
        )
    found = digest(content)
    if found != fact.sha256:
        raise DataError(
            f"{where}: corrupted: sha256 {found}, registered is {fact.sha256}; fetch it again from {fact.url}"
        )


def reachable(url: str, seconds: float) -> str | None:
    """Return None when `url` answers within `seconds`, else the reason in a few words.

    The request runs in a daemon thread: name resolution has no timeout of its own.
    """
    answer: queue.Queue[str | None] = queue.Queue()

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "Mozilla/5.0", "Range": "bytes=0-0"})
            with urllib.request.urlopen(request, timeout=seconds):
                answer.put(None)
        except urllib.error.HTTPError as error:
            answer.put(f"HTTP status {error.code}")
        except Exception as error:  # OSError, ValueError, http.client's own: all mean "not reachable"
            answer.put(" ".join(str(getattr(error, "reason", error)).split()))

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answer.get(timeout=seconds)
    except queue.Empty:
        return f"no answer within {seconds:g} s"


def download(name: str, wanted: Iterable[Fact], folder: Path, seconds: float) -> None:
    """Fetch files into `folder` through TFDS's DownloadManager, which checks size and SHA-256.

    Every file appears whole or not at all. Raises DataError with the reason when nothing can be fetched.
    """
    wanted = list(wanted)
    reason = reachable(wanted[0].url, seconds)
    if reason is not None:
        raise DataError(f"{wanted[0].url}: {reason}")
    tfds = import_tfds()
    infos = {f.url: _url_info(f) for f in wanted}
    with _writable(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".download.") as work:
        manager = tfds.download.DownloadManager(
            download_dir=work, dataset_name=name, url_infos=infos, force_checksums_validation=True
        )
        try:
            got = manager.download({f.filename: f.url for f in wanted})
        except Exception as error:  # whatever requests, promise or TFDS raise, the user gets one line
            raise DataError(f"{wanted[0].url}: the download failed ({_short(error)})") from None
        for fact in wanted:
            content = read_bytes(Path(got[fact.filename]))
            check(content, fact, fact.url)
            write_atomic(folder / fact.filename, content)


def _url_info(fact: Fact) -> Any:
    from tensorflow_datasets.core import units
    from tensorflow_datasets.core.download import checksums

    return checksums.UrlInfo(size=units.Size(fact.size), checksum=fact.sha256, filename=fact.filename)


@contextlib.contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make the folder; turn a full or read-only disk into one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); set XDG_CACHE_HOME") from None


def _short(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
