"""Where a named set may come from, tried in this order without asking.

1. our cache, 2. a prepared TFDS folder, 3. raw files under <data_dir>/<name>/, 4. download (into the cache).
Another set is never substituted. A damaged file in the cache is passed over; a damaged file that the user put
down is an error.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path

from data.dataset import Dataset, Parts, array_digests, digest, names_of
from data.errors import DataError, shown
from data.files.formats import read_bytes
from data.sets.named import NAMED, Layout, Named
from data.tfds import builders, prepared, registry


@dataclasses.dataclass(frozen=True)
class Found:
    """Parts of a set, where they came from, and SHA-256 by file (or array) name."""

    parts: Parts
    source: str
    sha256: dict[str, str]


def cache_folder() -> Path:
    """Return our folder in the user's cache ($XDG_CACHE_HOME, else ~/.cache)."""
    home = os.path.expanduser("~")
    base = os.environ.get("XDG_CACHE_HOME") or (os.devnull if home == "~" else os.path.join(home, ".cache"))
    return Path(base) / "autoencoders-jax"  # without a home a place that cannot be written: then nothing is kept


def load_named(name: str, data_dir: Path | None, seconds: float) -> Dataset:
    """Return a named set from the first source that has it; DataError, one line, when none has."""
    spec = NAMED[name]
    found = _find(name, spec, data_dir, seconds)
    parts = spec.after(found.parts) if spec.after else found.parts
    splits = spec.rule(parts)
    sha256 = found.sha256 or array_digests(splits)
    shape = tuple(splits["train"].x.shape[1:])
    words = spec.rule.words + ("" if found.sha256 else "; in the order of the prepared folder")
    return Dataset(name, found.source, splits, shape, spec.range, spec.labels, sha256, spec.binarisation, words)


def _find(name: str, spec: Named, data_dir: Path | None, seconds: float) -> Found:
    folder = spec.folder or name
    cache = cache_folder() / folder
    tried = []
    try:
        if found := _from_folder(spec, cache):
            return dataclasses.replace(found, source=f"cache: {found.source}")
        tried.append(f"cache {cache}")
    except DataError as error:
        tried.append(f"cache ({error})")
    if spec.registry:
        roots = prepared.roots(data_dir, cache_folder())
        if place := prepared.find(spec.registry, roots):
            stored = builders.read_named(place, cache_folder())
            parts = spec.from_prepared(stored) if spec.from_prepared else stored
            return Found(parts, f"prepared TFDS folder {place}", {})
        tried.append(f"prepared TFDS folders in {', '.join(map(str, roots))}")
    if data_dir is not None:
        if found := _from_folder(spec, data_dir / folder):
            return found
        tried.append(f"raw files in {data_dir / folder}")
    else:
        tried.append("no raw files (no --data-dir given)")
    if spec.registry and (fetched := _fetch(folder, spec, cache, seconds, tried)):
        return fetched
    raise DataError(_missing(name, spec, folder, tried) + prepared.too_deep(folder, data_dir))


def is_named(path: Path) -> str:
    """Return advice when a file or folder of the user's is one of a named set, or holds such folders; else ""."""
    folder = (path if path.is_dir() else path.parent).resolve()
    held = {
        name: spec.folder or name
        for name, spec in NAMED.items()
        if any(path.is_dir() or path.name in layout.files for layout in _whole(spec, folder))
    }
    for name, called in held.items():
        if folder.name == called:
            return f"; it belongs to a named set: --dataset {name} --data-dir {shown(folder.parent, 200)}"
    if held:
        return f"; files of a named set, in a folder called {next(iter(held.values()))}: --dataset {' or '.join(held)}"
    inside = [name for name, spec in NAMED.items() if path.is_dir() and _whole(spec, folder / (spec.folder or name))]
    where = f"--data-dir {shown(folder, 200)} ({names_of(inside)})"
    return f"; it holds named sets: --dataset {inside[0]} {where}" if inside else ""


def _whole(spec: Named, folder: Path) -> list[Layout]:
    """Return the layouts of a set whose files are all in a folder."""
    return [layout for layout in spec.layouts if all((folder / f).is_file() for f in layout.files)]


def _fetch(folder: str, spec: Named, cache: Path, seconds: float, tried: list[str]) -> Found | None:
    """Download into the cache and read from there; on failure note why in `tried` and return None."""
    facts = registry.facts(str(spec.registry))
    layout = next(at for at in spec.layouts if at.contents is None)
    try:
        registry.download(folder, [facts[f] for f in layout.files], cache, seconds)
    except DataError as error:
        tried.append(f"download ({error})")
        return None
    found = read_layout(layout, cache, facts)
    return dataclasses.replace(found, source=f"download: {found.source}")


def _from_folder(spec: Named, folder: Path) -> Found | None:
    """Read the first layout whose files are all in `folder`; None when there is none."""
    for layout in _whole(spec, folder):
        return read_layout(layout, folder, registry.facts(spec.registry) if spec.registry else {})
    return None


def read_layout(layout: Layout, folder: Path, facts: Mapping[str, registry.Fact]) -> Found:
    """Read and verify one layout's files: by their registered SHA-256, or by what they hold.

    Raises DataError naming the file and what is wrong with it.
    """
    files = {f: read_bytes(folder / f) for f in layout.files}
    if layout.contents is None:
        for f, content in files.items():
            registry.check(content, facts[f], str(folder / f))
        return Found(layout.read(files), f"raw files in {folder}", {f: facts[f].sha256 for f in files})
    try:
        parts = layout.read(files)
    except DataError as error:
        raise DataError(f"in {folder}: {error}") from None
    expected = layout.expected or {f: fact.sha256 for f, fact in facts.items()}
    found = layout.contents(parts)
    for key, value in found.items():
        if expected.get(key) != value:
            raise DataError(
                f"{folder / layout.files[0]}: not the known data: {key} has sha256 {value}, "
                f"known is {expected.get(key)}"
            )
    return Found(parts, f"raw files in {folder}", {f: digest(content) for f, content in files.items()} | found)


def _missing(name: str, spec: Named, folder: str, tried: list[str]) -> str:
    layout = spec.layouts[0] if spec.origin else next(at for at in spec.layouts if at.contents is None)
    if layout.contents is None:
        facts = registry.facts(str(spec.registry))
        wanted = ", ".join(f"{f} (sha256 {facts[f].sha256})" for f in layout.files)
    else:
        known = ", ".join(f"{k} sha256 {v}" for k, v in (layout.expected or {}).items())
        wanted = f"{' and '.join(layout.files)} ({known}; from {spec.origin})"
    return (
        f"{name}: not found. Looked for: {'; '.join(tried)}. Wanted: {wanted}. Put the files into "
        f"<data-dir>/{folder}/ and pass --data-dir, or connect to the network; --dataset digits needs nothing"
    )
