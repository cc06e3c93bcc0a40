"""Ratings: who chose what. `file:PATH#LEAST` of (user, item, rating[, time]) rows as one row of 0 and 1 per user.

PATH: csv, tsv, `::` (MovieLens u.data, ratings.dat, ratings.csv), npz with user, item, rating, or parquet. A rating of
at least LEAST counts as a choice; without LEAST all pairs where there are no ratings or one value alone, else 4 where
ratings lie within 0..5 (Liang et al. 2018).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data.dataset import Dataset, digest, names_of
from data.errors import DataError, counted, shown
from data.files import formats, npz, tables
from data.files.columns import is_number
from data.files.reading import Part, Reading
from data.options import Options
from data.splits import cut, divide

KINDS = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".parquet", ".npz", ".dat", ".data")
LAYOUTS = {"u.data": (1.0, 5.0), "ratings.dat": (1.0, 5.0), "ratings.csv": (0.5, 5.0)}
"""MovieLens's files, with the lowest and highest rating that they can hold."""
USER, ITEM, RATING = ("user", "userid", "user_id"), ("item", "itemid", "item_id", "movieid", "movie_id"), ("rating",)
LEAST, STARS = 4.0, 5.0
MOST = 2**31  # cells of the table of 0 and 1


class Pairs(NamedTuple):
    """Who rated what: ids as texts (n,), ratings (n,) or None, the number of the first row, sha256 of the file."""

    users: np.ndarray
    items: np.ndarray
    ratings: np.ndarray | None
    first_row: int
    sha256: dict[str, str]


class Chosen(NamedTuple):
    """Who chose what, sparse: of choice k the numbers of its user and item (k,), and what these are called."""

    user: np.ndarray
    item: np.ndarray
    users: list[str]
    items: list[str]
    least: float | None
    remarks: tuple[str, ...]
    sha256: dict[str, str]

    def rows(self, some: slice | np.ndarray = slice(None)) -> np.ndarray:
        """Return the rows of some users, (n, items) uint8: 1 where chosen."""
        out = np.zeros((len(self.users), len(self.items)), np.uint8)
        out[self.user, self.item] = 1
        return out[some]


def looks_like(path: Path) -> bool:
    """Whether a file is one of MovieLens's by its name."""
    return path.name.lower() in LAYOUTS


def choices(path: Path, words: str, like: Mapping[str, Any] | None = None) -> Chosen:
    """Return what a file of ratings says. Raises DataError, one line, for what is no rating of an item by a user.

    like: the record of a run's data, whose items and least rating are used again; other items are left out.
    """
    where, how = shown(path, 200), dict((like or {}).get("reading", {}))
    known_items = list((like or {}).get("columns") or ())
    pairs = _pairs(path)
    if pairs.ratings is not None:
        _check(pairs, LAYOUTS.get(path.name.lower()), where)
    least = _least(words, where) if words else how.get("least") if how else _usual(pairs.ratings, where)
    if least is not None and pairs.ratings is None:
        raise DataError(
            f"{where}: a least rating of {least:g} is asked for, the file holds no ratings; leave #{least:g} away"
        )
    remarks = [] if least is None else [f"a rating of at least {least:g} is a choice"]
    kept = np.ones(len(pairs.users), bool) if least is None else np.asarray(pairs.ratings) >= least
    if not kept.any():
        highest = float(np.asarray(pairs.ratings).max())
        raise DataError(
            f"{where}: none of {len(kept):,} ratings is at least {least:g}, none above {highest:g}; use #{highest:g}"
        )
    (users, user), (items, item) = (np.unique(ids, return_inverse=True) for ids in (pairs.users, pairs.items))
    _, last = np.unique((user * len(items) + item)[::-1], return_index=True)
    if len(last) < len(user):
        again = len(user) - len(last)
        remarks.append(f"{counted(again, 'pair')} given more than once: the last one counts")
        only = np.zeros(len(user), bool)
        only[len(user) - 1 - last] = True
        kept &= only
    user, item = user[kept], item[kept]
    if how:
        known = {name: k for k, name in enumerate(known_items)}
        number = np.array([known.get(name, -1) for name in items.tolist()])
        strange = int((number < 0).sum())
        remarks += [f"{counted(strange, 'item')} not there in training: left out"] if strange else []
        user, item = user[number[item] >= 0], number[item][number[item] >= 0]
        items = np.array(known_items, object)
        if not len(user):
            raise DataError(f"{where}: no user chose an item that was there in training, such as {known_items[0]!r}")
    empty = len(users) - len(np.unique(user)), 0 if how else len(items) - len(np.unique(item))
    if any(empty):
        remarks.append(f"left out for having no choice: {counted(empty[0], 'user')}, {counted(empty[1], 'item')}")
    some, user = np.unique(user, return_inverse=True)
    users = users[some]
    if not how:
        some, item = np.unique(item, return_inverse=True)
        items = items[some]
    if len(users) * len(items) > MOST:
        raise DataError(
            f"{where}: {len(users):,} users x {len(items):,} items are too many for rows of 0 and 1; keep the busier"
        )
    return Chosen(user, item, users.tolist(), items.tolist(), least, tuple(remarks), pairs.sha256)


def read_ratings(path: Path, words: str, like: Mapping[str, Any] | None = None) -> Reading:
    """Return one row of 0 and 1 per user, under the users' names; see `choices`."""
    found = choices(path, words, like)
    how, items = {"ratings": True, "least": found.least}, tuple(found.items)
    return Reading({"all": Part(found.rows(), None, found.users)}, items, (), how, found.remarks, found.sha256)


def load_ratings(path: Path, words: str, options: Options, name: str) -> Dataset:
    """Return the set: users are split at random, all choices of one are in one split (strong generalisation)."""
    found = choices(path, words)
    x = found.rows()
    if len(x) < 10 or x.shape[1] < 2:
        few = f"{counted(len(x), 'user')} and {counted(x.shape[1], 'item')}"
        raise DataError(f"{shown(path, 200)}: {few} with a choice are too few: at least 10 and 2 are needed")
    index, rule = divide(len(x), None, "random")
    dense = f"{len(found.user):,} choices, {100 * len(found.user) / x.size:.2g} % of all pairs"
    return Dataset(
        name,
        shown(path.resolve(), 400),
        {key: cut(x, None, take) for key, take in index.items()},
        x.shape[1:],
        (0, 1),
        None,
        found.sha256,
        "published",
        f"users: {rule}",
        columns=tuple(found.items),
        reading={"ratings": True, "least": found.least},
        remarks=(dense, *found.remarks),
    )


def _least(words: str, where: str) -> float:
    if not is_number(words):
        raise DataError(
            f"{where}: after # stands the least rating that is a choice, a number such as 4, got {shown(words)!r}"
        )
    return float(words)


def _usual(ratings: np.ndarray | None, where: str) -> float | None:
    if ratings is None or ratings.min() == ratings.max():
        return None
    low, high = float(ratings.min()), float(ratings.max())
    if low >= 0 and LEAST <= high <= STARS:
        return LEAST
    raise DataError(
        f"{where}: ratings are {low:g}..{high:g}; say from which one on they are a choice: file:PATH#{high:g}"
    )


def _check(pairs: Pairs, limits: tuple[float, float] | None, where: str) -> None:
    """Raise DataError for ratings that are no numbers, or outside what such a file can hold."""
    ratings = np.asarray(pairs.ratings)
    low, high = limits or (-np.inf, np.inf)
    bad = ~(np.isfinite(ratings) & (ratings >= low) & (ratings <= high))
    if bad.any():
        row = int(np.argmax(bad))
        says = f"outside {low:g}..{high:g}" if limits and np.isfinite(ratings[row]) else "no number"
        many = f" ({int(bad.sum())} are so)" if bad.sum() > 1 else ""
        raise DataError(
            f"{where}: row {row + pairs.first_row}: rating {ratings[row]:g} is {says}{many}; leave it out or mend it"
        )


def _pairs(path: Path) -> Pairs:
    """Return the rows of a file; ids are texts, ratings nan where they are no numbers."""
    where = shown(path, 200)
    if not path.is_file():
        raise DataError(f"file:{where}: there is no such file")
    content, name = formats.read_bytes(path), path.name.lower()
    sha256 = {shown(path.name, 200): digest(content)}
    if name.endswith(".npz"):
        held = {key.lower(): value for key, value in npz.parse_npz(content, where).items()}
        names, columns, first = list(held), [np.asarray(v).reshape(-1) for v in held.values()], 1
    elif name.endswith(".parquet"):
        table = tables.parquet(content, where)
        names, columns, first = [c.name for c in table], [c.values for c in table], 1
    else:
        text = tables.decoded(formats.gunzip(content, where) if content[:2] == b"\x1f\x8b" else content, where)
        names, columns, first = _cut(text, where)
    return _found(names, columns, first, sha256, where)


def _cut(text: str, where: str) -> tuple[list[str], list[np.ndarray], int]:
    lines = text.splitlines()
    head = next((line for line in lines if line.strip()), "")
    if not head:
        raise DataError(f"{where}: the file holds no ratings")
    if "::" in head:
        rows = [line.split("::") for line in lines]
    else:
        rows = list(csv.reader(io.StringIO(text), delimiter="\t" if "\t" in head else ";" if ";" in head else ","))
    width = len(next(row for row in rows if row))
    if width < 2:
        raise DataError(f"{where}: a row of ratings is user, item[, rating[, time]], got {shown(head)!r}")
    for i, row in enumerate(rows):
        if row and len(row) != width:
            raise DataError(f"{where}: row {i + 1} has {len(row)} fields, the first row has {width}")
    named = not any(is_number(f) for f in rows[0])
    named = named and (width > 2 or rows[0][0].strip().lower() in USER)
    names = [f.strip() for f in rows[0]] if named else ["user", "item", "rating", "time"][:width]
    body = [row for row in rows[named:] if row]
    if not body:
        raise DataError(f"{where}: the file holds a header but no ratings")
    return names, [np.array([f.strip() for f in column], object) for column in zip(*body, strict=True)], 1 + named


def _found(
    names: Sequence[str], columns: Sequence[np.ndarray], first: int, sha256: dict[str, str], where: str
) -> Pairs:
    lower = [n.lower() for n in names]
    at = [next((lower.index(n) for n in known if n in lower), None) for known in (USER, ITEM, RATING)]
    if at[0] is None or at[1] is None:
        raise DataError(f"{where}: ratings need columns user and item (and rating), it has {names_of(list(names))}")
    ids = [np.array([_id(v) for v in columns[i].tolist()], object) for i in at[:2] if i is not None]
    for name, values in zip(("user", "item"), ids, strict=True):
        if len(values) != len(ids[0]):
            raise DataError(f"{where}: {len(ids[0])} users and {len(values)} items: there must be as many")
        if (bad := values == "").any():
            raise DataError(f"{where}: row {int(np.argmax(bad)) + first}: the {name} is missing; leave the row out")
    if not len(ids[0]):
        raise DataError(f"{where}: the file holds no ratings")
    ratings = None
    if at[2] is not None:
        ratings = np.array([_number(v) for v in columns[at[2]].tolist()])
        if len(ratings) != len(ids[0]):
            raise DataError(f"{where}: {len(ids[0])} pairs and {len(ratings)} ratings: there must be as many")
    return Pairs(ids[0].astype(str), ids[1].astype(str), ratings, first, sha256)


def _id(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.15g}"
    return str(value).strip()


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) or is_number(str(value)) else float("nan")
