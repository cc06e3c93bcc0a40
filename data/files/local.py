"""`file:<path>` as a Dataset: read, brought to its stored form, labelled, split."""

import numpy as np

from data.dataset import Dataset, Split, array_digests
from data.errors import DataError, shown
from data.files.kinds import audio, choose, ratings, series, text
from data.files.read import located, read
from data.files.reading import Part, Reading, pooled
from data.files.refusals import refuse_labels, refuse_packed
from data.options import Options
from data.splits import cut, divide
from data.stored import as_labels, facts_of, together


def load_file(path: str, options: Options) -> Dataset:
    """Return the set in a file or folder; see `data.files.read.read` for what is read.

    Split: as given by the file or folder, what is missing drawn from its training part; else by `options.split`: random
    (stratified by the labels), or blocks where a column of dates was left out. Raises DataError, one line, naming the
    file, what is wrong and the way out.
    """
    place, words = located(path)
    kind = choose.chosen(place, words, options)
    if kind != "plain":
        load = {"text": text.load_text, "series": series.load_series, "audio": audio.load_audio}
        load |= {"ratings": ratings.load_ratings}
        return load[kind](place, words, options, f"file:{shown(path, 200)}")
    found = read(path, options)
    where = shown(located(path)[0], 200)
    parts = found.parts
    if options.split == "given" and "all" in parts:
        raise DataError(
            f"{where}: --split given needs splits in the file (x_train and x_test, or folders train and test)"
        )
    if options.split in ("random", "blocks") and "all" not in parts:
        parts = {"all": pooled(parts, where)}
    for part in parts.values():
        refuse_labels(part.x, where, located(path)[0])
        refuse_packed(part.x, where, located(path)[0].name)
    x = together({key: part.x for key, part in parts.items()}, where, bool(found.how.get("missing")))
    labels, classes, names = _labels(parts, where)
    try:
        splits, words = _split({k: (v, labels.get(k)) for k, v in x.items()}, found, options)
    except DataError as error:
        message = str(error)
        raise DataError(message if where in message else f"{where}: {message}") from None
    low_high, binarisation = facts_of(list(x.values()))
    return Dataset(
        f"file:{shown(path, 200)}",
        shown(located(path)[0].resolve(), 400),
        splits,
        tuple(splits["train"].x.shape[1:]),
        low_high,
        classes,
        found.sha256 or array_digests(splits),
        binarisation,
        words,
        columns=found.columns,
        classes=found.classes or names,
        reading=dict(found.how),
        remarks=(*found.remarks, *_hints(splits["train"], found, options, binarisation == "published")),
    )


def _labels(parts: dict[str, Part], where: str) -> tuple[dict[str, np.ndarray], int | None, tuple[str, ...]]:
    """Number the labels of all parts together; labels of one part only are an error."""
    given = {key: part.y for key, part in parts.items() if part.y is not None}
    if not given:
        return {}, None, ()
    if len(given) < len(parts):
        raise DataError(f"{where}: labels for {', '.join(given)} but not for {', '.join(set(parts) - set(given))}")
    flat = {key: y.reshape(-1) if y.ndim == 2 and 1 in y.shape else y for key, y in given.items()}
    for key, y in flat.items():
        if y.shape != (len(parts[key].x),):
            raise DataError(
                f"{where}: labels of shape {y.shape} for {len(parts[key].x)} examples; give one per example"
            )
    numbers, classes, names = as_labels(np.concatenate(list(flat.values())), where)
    ends = np.cumsum([len(y) for y in flat.values()])[:-1]
    return dict(zip(flat, np.split(numbers, ends), strict=True)), classes, names


def _split(
    parts: dict[str, tuple[np.ndarray, np.ndarray | None]], found: Reading, options: Options
) -> tuple[dict[str, Split], str]:
    """Return the three splits and how they came about."""
    if "all" in parts:
        x, y = parts["all"]
        kind = options.split if options.split != "auto" else "blocks" if found.ordered else "random"
        index, words = divide(len(x), y, kind)
        return {key: cut(x, y, take) for key, take in index.items()}, words
    shapes = {key: x.shape[1:] for key, (x, _) in parts.items()}
    if len(set(shapes.values())) > 1:
        raise DataError(f"splits differ in shape: {shapes}")
    if "train" not in parts:
        raise DataError(f"there is no split 'train'; it has {', '.join(parts)}")
    splits = {key: cut(x, y, slice(None)) for key, (x, y) in parts.items()}
    missing = [key for key in ("validation", "test") if key not in splits]
    if not missing:
        return {k: splits[k] for k in ("train", "validation", "test")}, "as given"
    x, y = parts["train"]
    index, words = divide(len(x), y, "random")
    keep = np.sort(np.concatenate([index[k] for k in index if k not in missing]))
    splits["train"] = cut(x, y, keep)
    for key in missing:
        splits[key] = cut(x, y, index[key])
    given = ", ".join(k for k in ("train", "validation", "test") if k in parts)
    tenth = " and ".join(missing)
    return {
        k: splits[k] for k in ("train", "validation", "test")
    }, f"given: {given}; {tenth}: a tenth of train, {words.split(', a tenth')[0]}, seed 0"


def _hints(train: Split, found: Reading, options: Options, bits: bool) -> list[str]:
    """Return what a user may want to know: rows that look like pictures laid flat, neighbours that look alike."""
    out = []
    x = train.x
    rows = x.ndim == 2 and x.dtype == np.uint8 and not bits  # zeros and 255 are scaled as bits already
    side = round(x.shape[-1] ** 0.5)
    if rows and side >= 8 and side * side == x.shape[-1] and x.max() > 15:
        out.append(
            f"rows of {side * side} whole numbers up to {x.max()}: if these are {side} x {side} pictures, "
            "use --scale unit"
        )
    wide = round((8 * x.shape[-1]) ** 0.5)
    if rows and wide >= 16 and wide * wide == 8 * x.shape[-1] and x.max() > 127:
        out.append(
            f"rows of {x.shape[-1]} bytes: if these are packed bits of {wide} x {wide} pictures, save "
            f"np.unpackbits(x, axis=1).reshape(-1, {wide}, {wide})"
        )
    if options.split == "auto" and train.y is None and "all" in found.parts and not found.ordered and len(x) >= 50:
        some = found.parts["all"].x[:1000].reshape(min(1000, len(found.parts["all"].x)), -1).astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            some = some / np.maximum(some.std(0), 1e-12)
        with np.errstate(over="ignore", invalid="ignore"):
            near = np.mean(np.square(some[1:] - some[:-1]))
            far = np.mean(np.square(some - np.roll(some, len(some) // 2, axis=0)))
        if far > 0 and near < 0.25 * far:
            out.append("neighbouring examples look alike: if they are in time order, use --split blocks")
    return out
