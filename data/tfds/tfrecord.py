"""Random access to TFRecord files without TensorFlow.

A record is: length (uint64), masked CRC-32C of the length (uint32), the bytes, masked CRC-32C of the bytes.
Source: tensorflow/core/lib/io/record_writer.h; the mask is ((crc >> 15 | crc << 17) + 0xa282ead8) mod 2^32.
"""

import bisect
import mmap
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from data.errors import DataError


def _table() -> list[int]:
    out = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        out.append(value)
    return out


_CRC_TABLE = _table()


def masked_crc(content: bytes) -> int:
    """Return TFRecord's masked CRC-32C (Castagnoli) of some bytes."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def offsets(content: bytes | mmap.mmap, where: str) -> list[tuple[int, int]]:
    """Return (start, length) of every record; DataError when the chain of lengths is broken.

    The check value of each length is verified, that of the contents is not (in Python it would cost more than
    decoding); images carry their own.
    """
    out: list[tuple[int, int]] = []
    at, size = 0, len(content)
    while at < size:
        head = content[at : at + 12]
        if len(head) < 12:
            raise DataError(f"{where}: truncated in the head of record {len(out)} (byte {at} of {size})")
        length, crc = struct.unpack("<QI", head)
        if masked_crc(head[:8]) != crc:
            raise DataError(f"{where}: corrupted: the length of record {len(out)} (byte {at}) fails its check value")
        if at + 16 + length > size:
            raise DataError(f"{where}: truncated in record {len(out)} (needs byte {at + 16 + length} of {size})")
        out.append((at + 12, length))
        at += 16 + length
    return out


class TFRecords(Sequence[Any]):
    """The examples of several TFRecord files as one sequence, left on disk; `decode` makes an example."""

    def __init__(self, paths: Sequence[Path], lengths: Sequence[int], decode: Callable[[bytes], Any]):
        """Index the files; `lengths` are the numbers of records that they must hold."""
        self._decode = decode
        self._maps: list[mmap.mmap] = []
        self._offsets: list[list[tuple[int, int]]] = []
        self._ends: list[int] = []
        for path, expected in zip(paths, lengths, strict=True):
            try:
                with open(path, "rb") as file:
                    content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:
                raise DataError(f"{path}: cannot be read ({error}); prepare the data set again") from None
            found = offsets(content, str(path))
            if len(found) != expected:
                raise DataError(f"{path}: holds {len(found)} records, its folder's dataset_info.json says {expected}")
            self._maps.append(content)
            self._offsets.append(found)
            self._ends.append((self._ends[-1] if self._ends else 0) + len(found))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: Any) -> Any:
        """Return the decoded example at `index`."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        file = bisect.bisect_right(self._ends, index)
        start, length = self._offsets[file][index - (self._ends[file - 1] if file else 0)]
        return self._decode(self._maps[file][start : start + length])
