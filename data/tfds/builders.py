"""Any TFDS builder as a Dataset: which features are x and y, and how its splits become three."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data import cache
from data.dataset import Dataset, Parts, Split, array_digests
from data.errors import DataError, nearest
from data.files.formats import memory
from data.scale import only_value
from data.splits import three_way
from data.stored import check_shape, facts_of, kept_dtype
from data.tfds import prepared, signals
from data.tfds.registry import import_tfds

_BLOCK = 1024


def keys(builder: Any, wanted: str = "") -> tuple[str, str | None]:
    """Return the names of the features that serve as x and y (None without a class label).

    x: `wanted` ("tfds:NAME#KEY"), else the first supervised key, else "image", else the only picture, else the only
    numeric feature that is no id. y: a ClassLabel among the supervised keys, else "label" if it is one. DataError
    naming the features when none or several will do; audio, text and video are refused by their kind.
    """
    tfds = import_tfds()
    features = builder.info.features
    known = dict(features.items()) if hasattr(features, "items") else {}
    listed = ", ".join(f"{k} ({type(f).__name__})" for k, f in known.items())
    where = f"tfds:{builder.info.full_name}"
    supervised = [k for k in (builder.info.supervised_keys or ()) if isinstance(k, str)]
    if wanted and wanted not in known:
        raise DataError(f"{where} has no feature {wanted!r}; nearest: {nearest(wanted, known)}; it has {listed}")
    asked = wanted or next((k for k in supervised[:1] if _refused(known.get(k))), "")
    if asked and (kind := _refused(known[asked])):
        others = [k for k in known if usable(known[k])]
        disk = "" if kind == "video" else " from disk: leave --read stream away"
        way = f"; choose another feature: tfds:NAME#{others[0]}" if others else ""
        raise DataError(f"{where}: feature {asked!r} is {kind}, which is not read{disk}{way}; it has {listed}")
    pictures = [k for k, f in known.items() if usable(f) and isinstance(f, tfds.features.Image)]
    numbers = [k for k, f in known.items() if usable(f) and k not in pictures and not k.lower().endswith("id")]
    preferred = [wanted, *supervised[:1], "image"]
    x = next((k for k in preferred if k and usable(known.get(k))), None)
    some = pictures or numbers
    if x is None and len(some) == 1:
        x = some[0]
    if x is None:
        what = "several features could be the examples" if some else "no image or numeric feature"
        raise DataError(f"{where}: {what}; choose one with tfds:NAME#KEY; it has {listed}")
    labels = [k for k in [*supervised[1:], "label"] if isinstance(known.get(k), tfds.features.ClassLabel)]
    return x, (labels[0] if labels else None)


def usable(feature: Any) -> bool:
    """Whether a feature is a picture or an array of numbers."""
    tfds = import_tfds()
    return (
        isinstance(feature, (tfds.features.Image, tfds.features.Tensor))  # Tensor: ClassLabel, Text and Audio, too
        and not isinstance(feature, tfds.features.ClassLabel)
        and not _refused(feature)
        and np.dtype(feature.np_dtype).kind in "uifb"
        and len(feature.shape) >= 1
    )


def _refused(feature: Any) -> str:
    """Return the kind of a feature that is neither a picture nor numbers, else ""."""
    tfds = import_tfds()
    kinds = {"audio": tfds.features.Audio, "text": tfds.features.Text, "video": tfds.features.Video}
    return next((name for name, cls in kinds.items() if isinstance(feature, cls)), "")


def dtype_of(builder: Any, x: str) -> np.dtype:
    """Return the type in which the values of a feature are kept: decided by the feature, for all splits alike."""
    return kept_dtype(np.dtype(builder.info.features[x].np_dtype))


def stored(x: np.ndarray, dtype: np.dtype, where: str) -> np.ndarray:
    """Return examples (n, *shape) of a feature in their kept type, pictures as (n, H, W, C)."""
    check_shape(x.shape, where)
    return (x[..., None] if x.ndim == 3 else x).astype(dtype, copy=False)


def read(
    source: Sequence[Any],
    x: str,
    y: str | None,
    where: str,
    dtype: np.dtype,
    start: int = 0,
    stop: int | None = None,
) -> Split:
    """Read examples start..stop into arrays; DataError for sizes that differ, naming the first."""
    stop = len(source) if stop is None else stop
    xs: np.ndarray | None = None
    ys = None if y is None else np.empty(stop - start, np.int32)
    for at in range(start, stop, _BLOCK):
        block = list(range(at, min(at + _BLOCK, stop)))
        for i, example in zip(block, _many(source, block, where), strict=True):
            value = np.asarray(example[x])
            if xs is None:
                _check_memory((stop - start) * value.nbytes, where)
                xs = np.empty((stop - start, *value.shape), value.dtype)
            if value.shape != xs.shape[1:]:
                raise DataError(
                    f"{where}: sizes differ: example {i} is {value.shape}, example {start} is "
                    f"{xs.shape[1:]}; only sets with one size can be loaded"
                )
            xs[i - start] = value
            if ys is not None:
                ys[i - start] = example[y]
    if xs is None:
        raise DataError(f"{where}: the split is empty")
    return Split(stored(xs, dtype, where), ys)


def _many(source: Sequence[Any], block: list[int], where: str) -> Sequence[Any]:
    """Read a block of examples; random-access sources read a block faster than its elements."""
    try:
        if hasattr(source, "__getitems__"):
            try:
                return source.__getitems__(block)
            except TypeError:  # TFDS 4.9.10's mocked source has this method with a wrong signature
                pass
        return [source[i] for i in block]
    except DataError:
        raise
    except Exception as error:  # image and record decoders raise many kinds
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"{where}: examples {block[0]}..{block[-1]} cannot be decoded ({reason})") from None


def _check_memory(wanted: int, where: str) -> None:
    """Raise DataError when arrays would take more than half of the machine's memory."""
    total = memory()
    if wanted > total // 2:
        raise DataError(
            f"{where} needs {wanted / 2**30:.1f} GiB, more than half of this machine's "
            f"{total / 2**30:.1f} GiB; use --read stream"
        )


def _kept(
    cache_folder: Path, builder: Any, part: str, cut: tuple[int, int] | None, where: str, wanted: str = ""
) -> Split:
    """Read a stored split (all, or start..stop), from our cache when it was decoded before."""
    x, y = keys(builder, wanted)
    dtype = dtype_of(builder, x)
    key = cache.fingerprint(Path(builder.data_dir), part, cut, x, y, str(dtype))
    start, stop = cut or (0, None)
    return cache.remembered(
        cache_folder / "arrays",
        key,
        lambda: read(prepared.records(builder, part), x, y, f"{where}, split {part}", dtype, start, stop),
    )


def read_named(folder: Path, cache_folder: Path) -> Parts:
    """Return every split of a prepared folder of a named set as parts."""
    builder = prepared.open_folder(folder)
    out: Parts = {}
    for part in prepared.parts(builder):
        split = _kept(cache_folder, builder, part, None, str(folder))
        out[part] = (split.x, split.y)
    return out


def builder_of(name: str, data_dir: Path | None, cache_folder: Path, seconds: float) -> tuple[Any, str]:
    """Return a readable TFDS builder for "name[/config][:version]" and where it comes from.

    A prepared folder if there is one; else the set is prepared in our cache, which needs TensorFlow once.
    Raises DataError for an unknown builder (nearest names) and when preparing is impossible.
    """
    places = prepared.roots(data_dir, cache_folder)
    if folder := prepared.find(name, places):
        return prepared.open_folder(folder), f"prepared TFDS folder {folder}"
    tfds = import_tfds()
    plain = name.partition(":")[0].partition("/")[0]
    known = tfds.list_builders(with_community_datasets=False)
    if plain not in known:
        raise DataError(f"unknown TFDS builder {plain!r}; nearest: {nearest(plain, known)}")
    from data.tfds.conversion import prepare

    return prepare(name, data_dir, cache_folder, seconds, [str(p) for p in places]), f"tfds:{name}"


def with_train(
    most: float, top: float, bounds: tuple[float | int, float | int], where: str
) -> tuple[tuple[float | int, float | int], Literal["none", "published"]]:
    """Return (range, binarisation) of a set whose validation and test hold bits, given what train holds.

    most: its highest value. top: its one value beside 0, see `scale.Stats`. Grey levels beside 0 and 255 are pictures.
    Raises DataError for more than 0 and 1 beside 0 and 1.
    """
    if top in (0.0, bounds[1]):
        return bounds, "published"
    if bounds[1] == 1:
        raise DataError(f"{where}: validation and test hold 0 and 1, train holds up to {most:g}; prepare the set again")
    return bounds, "none"


def load_tfds(name: str, data_dir: Path | None, cache_folder: Path, seconds: float, train: bool = True) -> Dataset:
    """Return the TFDS set "name[/config][:version][#feature]" in memory; without `train`, its other two splits."""
    name, _, wanted = name.partition("#")
    builder, source = builder_of(name, data_dir, cache_folder, seconds)
    if train and (signal := signals.feature_of(builder, wanted)):
        return signals.load_signals(builder, signal, name + (f"#{wanted}" if wanted else ""), source)
    x, y = keys(builder, wanted)
    where = f"tfds:{name}" + (f"#{wanted}" if wanted else "")
    sizes = {part: len(prepared.records(builder, part)) for part in prepared.parts(builder)}
    cuts, words = three_way(sizes, where)
    splits = {
        key: _kept(cache_folder, builder, part, (a, b), where, wanted)
        for key, (part, a, b) in cuts.items()
        if train or key != "train"
    }
    labels = None if y is None else int(builder.info.features[y].num_classes)
    low_high, binarisation = facts_of([splits["validation"].x, splits["test"].x])
    if train and binarisation == "published":
        seen = splits["train"].x
        low_high, binarisation = with_train(float(seen.max()), only_value(seen), low_high, where)
    notes = f"{words}; x is feature {x!r}" + (f", y is {y!r}" if y else "")
    shape = tuple(splits["test"].x.shape[1:])
    return Dataset(where, source, splits, shape, low_high, labels, array_digests(splits), binarisation, notes)
