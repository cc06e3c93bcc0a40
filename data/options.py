"""How a data set is to be read: what the user says beside its name."""

import dataclasses
import re
from typing import Literal

from data.errors import DataError

ScaleKind = Literal["auto", "none", "unit", "standardise", "minmax"]
Kind = Literal["auto", "image", "table", "series", "text", "audio", "ratings"]
SplitKind = Literal["auto", "random", "blocks", "given"]


@dataclasses.dataclass(frozen=True)
class Options:
    """Choices of the user; a named set takes only the scale.

    label: column, key or number of the labels; "" finds it, "none" looks for none. ignore: columns to leave out.
    resize: (height, width) of pictures, or None. channels: 1 or 3, 0 as the pictures are. split, scale: see
    `data.splits` and `data.scale`. kind: what the file is, see `data.files.kinds.choose`.
    """

    label: str = ""
    ignore: tuple[str, ...] = ()
    resize: tuple[int, int] | None = None
    channels: int = 0
    split: SplitKind = "auto"
    scale: ScaleKind = "auto"
    kind: Kind = "auto"


def parse_size(text: str) -> tuple[int, int] | None:
    """Return (height, width) of "28x20", None of ""; DataError for anything else."""
    if not text:
        return None
    found = re.fullmatch(r"(\d{1,5})[xX](\d{1,5})", text.strip())
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(size) < 1:
        raise DataError(f"resize must be HEIGHTxWIDTH in pixels, such as 28x28, got {text!r}")
    return size
