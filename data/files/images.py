"""A folder or a zip of pictures: subfolders are classes, or the splits train, validation and test."""

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.dataset import names_of
from data.errors import DataError, counted, shown
from data.files.arrays import GIVEN
from data.files.formats import memory
from data.files.pictures import KINDS, LARGEST, decode, read_file
from data.files.reading import Part
from data.files.refusals import no_pictures
from data.options import Options


class Member(NamedTuple):
    """A file by its place below the top, and how to get its bytes."""

    place: tuple[str, ...]
    read: Callable[[], bytes]


def read_images(path: Path, options: Options) -> tuple[dict[str, Part], list[str], list[str]]:
    """Return the parts of a folder or zip of pictures, class names and remarks.

    Pictures (n, H, W, C); classes are the subfolders, sorted; folders called train, validation and test are
    splits, each with its own class folders. Raises DataError when there are none, when sizes or channels differ
    (naming two files and the way out), when a file cannot be decoded, and for pictures at both levels.
    """
    remarks: list[str] = []
    entries = _zipped(path, remarks) if path.is_file() else _listed(path, remarks)
    if not entries:
        raise no_pictures(path, KINDS)
    entries = _inside(entries)
    tops = {e.place[0].lower() for e in entries if len(e.place) > 1}
    given = {part: [s for s in spellings if s in tops] for part, spellings in GIVEN.items()}
    if given["train"] and (given["test"] or given["validation"]):
        named = {s: part for part, spellings in given.items() for s in spellings}
        groups: dict[str, list[Member]] = {}
        for e in entries:
            part = named.get(e.place[0].lower()) if len(e.place) > 1 else None
            if part is None:
                raise DataError(
                    f"{shown(path, 200)}: {shown('/'.join(e.place))} is outside the folders of the splits "
                    f"{', '.join(named)}"
                )
            groups.setdefault(part, []).append(e._replace(place=e.place[1:]))
        groups = {part: groups[part] for part in GIVEN if part in groups}
        remarks.append(f"splits as given by folders: {', '.join(groups)}")
    else:
        groups = {"all": entries}
    classes = sorted({_class_of(e) for group in groups.values() for e in group if len(e.place) > 1})
    if any("/" in c for c in classes):
        remarks.append(f"classes are folders in folders, such as {shown(classes[0])}")
    _check_levels(path, groups, classes)
    parts, told = _decoded(path, groups, classes, options)
    return parts, classes, remarks + told


def _inside(entries: list[Member]) -> list[Member]:
    """Descend where everything lies in one folder (as in most zips)."""
    while len({e.place[0] for e in entries}) == 1 and all(len(e.place) > 2 for e in entries):
        entries = [e._replace(place=e.place[1:]) for e in entries]
    return entries


def _class_of(entry: Member) -> str:
    """Return the class of a picture: the folder it is in, below the top."""
    return "/".join(entry.place[:-1])


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in ("__pycache__", "__MACOSX", "Thumbs.db")


def _is_picture(name: str) -> bool:
    return name.lower().endswith(KINDS)


def _listed(folder: Path, remarks: list[str]) -> list[Member]:
    """Return the pictures of a folder, two levels of subfolders deep, sorted; others are counted in the remarks."""
    found, other, hidden = [], 0, 0
    depth = len(folder.parts)
    todo = [folder]
    while todo:
        place = todo.pop(0)
        for child in sorted(place.iterdir()):
            if _hidden(child.name):
                hidden += child.is_dir()
            elif child.is_dir():
                if len(child.parts) - depth < 4:
                    todo.append(child)
            elif _is_picture(child.name):
                found.append(Member(child.parts[depth:], lambda p=child: read_file(p)))  # type: ignore[misc]
            else:
                other += 1
    _tell(remarks, other, hidden)
    return sorted(found, key=lambda e: e.place)


def _tell(remarks: list[str], other: int, hidden: int) -> None:
    if other:
        remarks.append(f"files that are no pictures passed over: {other}")
    if hidden:
        remarks.append(f"hidden folders passed over: {hidden}")


def _zipped(path: Path, remarks: list[str]) -> list[Member]:
    """Return the pictures of a zip, read in place."""
    try:
        archive = zipfile.ZipFile(path)
        members = [m for m in archive.infolist() if not m.is_dir()]
    except Exception as error:  # zipfile raises many kinds for damaged archives
        raise DataError(f"{path}: damaged zip archive ({shown(error)})") from None
    if sum(m.file_size for m in members) > memory() // 2:
        raise DataError(f"{path}: {sum(m.file_size for m in members) / 2**30:.1f} GiB unpacked do not fit memory")

    def reader(member: zipfile.ZipInfo) -> Callable[[], bytes]:
        def read() -> bytes:
            if member.file_size > LARGEST:
                raise DataError(
                    f"{path}: {shown(member.filename)}: {member.file_size} bytes are too many for a picture"
                )
            try:
                return archive.read(member)
            except Exception as error:  # encryption, unknown compression, checksums
                raise DataError(f"{path}: {shown(member.filename)} cannot be read ({shown(error)})") from None

        return read

    found, other, hidden = [], 0, set()
    for member in members:
        place = tuple(p for p in member.filename.split("/") if p not in ("", ".", ".."))
        if any(_hidden(p) for p in place):
            hidden.add(place[:-1])
        elif place and _is_picture(place[-1]):
            found.append(Member(place, reader(member)))
        else:
            other += 1
    _tell(remarks, other, len(hidden))
    return sorted(found, key=lambda e: e.place)


def _check_levels(path: Path, groups: dict[str, list[Member]], classes: Sequence[str]) -> None:
    """Raise DataError for loose pictures beside class folders."""
    for group in groups.values():
        loose = [e for e in group if len(e.place) == 1]
        if classes and loose:
            raise DataError(
                f"{shown(path, 200)}: {counted(len(loose), 'picture', 'lies', 'lie')} beside the class folders "
                f"{shown(names_of(list(classes)))}, the first is "
                f"{shown(loose[0].place[0])}; put them into a class folder, or away"
            )


def _decoded(
    path: Path, groups: dict[str, list[Member]], classes: Sequence[str], options: Options
) -> tuple[dict[str, Part], list[str]]:
    parts: dict[str, Part] = {}
    told: dict[str, int] = {}
    number = {name: k for k, name in enumerate(classes)}
    shape, first, total = None, "", sum(map(len, groups.values()))
    for part, entries in groups.items():
        images = []
        for e in entries:
            name = "/".join(e.place)
            picture = decode(e.read(), f"{path}/{name}", options)
            for remark in picture.remarks:
                told[remark] = told.get(remark, 0) + 1
            if shape is None:
                shape, first = picture.pixels.shape, name
                if total * picture.pixels.nbytes > memory() // 2:
                    raise DataError(f"{path}: {total:,} pictures of {shape} do not fit memory; use --resize HxW")
            if picture.pixels.shape != shape:
                size = "--resize HEIGHTxWIDTH" if picture.pixels.shape[:2] != shape[:2] else "--channels 1 or 3"
                raise DataError(
                    f"{shown(path, 200)}: images differ: {shown(name)} is {picture.pixels.shape}, {shown(first)} is "
                    f"{shape} (height, width, channels); bring them together with {size}"
                )
            images.append(picture.pixels)
        labels = np.array([number[_class_of(e)] for e in entries], np.int32) if classes else None
        parts[part] = Part(np.stack(images), labels, [shown("/".join(e.place), 200) for e in entries])
    return parts, [f"{what} in {n} of {total} pictures" for what, n in told.items()]


def zip_has_pictures(content: bytes) -> bool:
    """Whether bytes are a zip archive that lists pictures."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(_is_picture(n) for n in archive.namelist())
    except Exception:  # not an archive, or a damaged one
        return False
