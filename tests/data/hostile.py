"""Files made to hurt a reader: each is a name and the bytes, or a function that makes it, in a folder of its own.

Every one is to be refused in one line, or read, within seconds and a bounded memory; nothing is to be written or run.
"""

import gzip
import io
import json
import os
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

Case = tuple[str, Callable[[Path], Path]]
X = np.random.default_rng(0).normal(size=(40, 3))


def npy(array: np.ndarray = X) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def header(text: str, version: int = 1, body: bytes = b"") -> bytes:
    raw = text.encode("latin-1", "replace")
    size = struct.pack("<H" if version == 1 else "<I", len(raw) & (0xFFFF if version == 1 else 0xFFFFFFFF))
    return b"\x93NUMPY" + bytes([version, 0]) + size + raw + body


def npz(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w", method) as archive:
        warnings.simplefilter("ignore")
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def patched(content: bytes, signature: bytes, at: int, value: bytes) -> bytes:
    """Change bytes behind every local and central zip header with the signature."""
    out, start = bytearray(content), 0
    while (start := content.find(signature, start)) >= 0:
        out[start + at : start + at + len(value)] = value
        start += 4
    return bytes(out)


def encrypted(content: bytes) -> bytes:
    return patched(patched(content, b"PK\x03\x04", 6, b"\x01\x00"), b"PK\x01\x02", 8, b"\x01\x00")


def compressed_by(content: bytes, method: int) -> bytes:
    code = struct.pack("<H", method)
    return patched(patched(content, b"PK\x03\x04", 8, code), b"PK\x01\x02", 10, code)


SHAPES = (
    "(1000000000000, 3)", "(1099511627776, 1099511627776)", "(4294967296, 4294967296, 2)", "(-1, 3)", "(3.5, 2)",
    "(True, 3)", "('a', 3)", "((1, 2), 3)", "()", "(0, 3)", "(40,)", "(99999999999999999999999999, 2)", "[40, 3]", "40",
    "None", "{}", "(" + "1, " * 40 + ")", "(" * 300 + ")" * 300, "9" * 5000, "__import__('os').system('touch made')",
    "(40, 3", "(1,2)*10**9",
)  # fmt: skip
DESCRIPTIONS = (
    "'|O'", "'<f99'", "'nonsense'", "[('a', '<f8'), ('b', '|O')]", "[('a', '<f8')]", "7", "'<U3'", "'<c16'", "'<M8[s]'",
    "'|V8'", "()",
)  # fmt: skip


def array_files() -> Iterator[tuple[str, bytes]]:
    for shape in SHAPES:
        yield "a.npy", header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n", body=X.tobytes())
    for descr in DESCRIPTIONS:
        yield "a.npy", header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': (40, 3), }}\n", body=X.tobytes())
    for text in ("", "{", "{}", "[]", "{'shape': (1, 2)}", "x" * 60_000, "{'descr': '<f8'}" * 3, "\0" * 50, "{" * 5000):
        yield "a.npy", header(text)
    for version in (0, 2, 3, 4, 255):
        yield "a.npy", header("{'descr': '<f8', 'fortran_order': False, 'shape': (40, 3), }\n", version, X.tobytes())
    good = npy()
    for cut in (1, 6, 8, 10, 40, 80, len(good) - 1):
        yield "a.npy", good[:cut]
    yield "a.npy", good + b"more"
    yield "a.npy", b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + b"x" * 100
    for bad in (
        np.full((40, 3), np.nan),
        np.full((40, 3), np.inf),
        np.full((40, 3), 1e308) * np.sign(X),
        np.zeros((40, 0)),
    ):
        yield "a.npy", npy(bad)
    yield "a.npy", npy(np.full((40, 2), 2**63, np.uint64))
    yield "a.npy.gz", gzip.compress(good)[:-9]
    yield "a.npy.gz", gzip.compress(gzip.compress(good))
    yield "a.npz", good
    yield "a.npy", npz({"x.npy": good})


def archive_files() -> Iterator[tuple[str, bytes]]:
    good = npz({"x.npy": npy()})
    yield "a.npz", b""
    yield "a.npz", b"PK\x05\x06" + b"\0" * 18
    for cut in (4, 30, 60, len(good) // 2, len(good) - 10, len(good) - 1):
        yield "a.npz", good[:cut]
    yield "a.npz", encrypted(good)
    for method in (1, 6, 9, 12, 14, 93, 97, 99, 65535):
        yield "a.npz", compressed_by(good, method)
    for name in (
        "x.npy",
        "../x.npy",
        "/etc/x.npy",
        "x" * 5000 + ".npy",
        "x\udc80.npy".encode("utf-8", "replace").decode(),
        "a\nb.npy",
        "",
    ):
        yield "a.npz", npz({name or "x": b"no array at all"})
    yield "a.npz", npz({"x.npy": b"no array", "readme.txt": b"hello"})
    yield "a.npz", npz({"x.npy": header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({10**12}, 3), }}\n")})
    yield "a.npz", npz({"x.npy": npy(np.zeros((40, 3)))[:-8]})
    yield "a.npz", patched(good, b"PK\x01\x02", 24, struct.pack("<I", 0xFFFFFFF0))  # says it unpacks to 4 GiB
    yield "a.npz", patched(good, b"PK\x01\x02", 16, b"\1\2\3\4")  # wrong checksum
    yield "a.npz", patched(good, b"PK\x01\x02", 42, struct.pack("<I", 0x7FFFFFFF))  # points beyond the file
    yield "a.npz", npz({f"k{i}.npy": npy(X[:2]) for i in range(3000)})
    yield "a.npz", npz({"x_train.npy": npy(), "x_test.npy": npy(X[:, :2])})
    yield "a.npz", npz({"x.npy": npy(), "y.npy": npy(np.arange(39))})
    yield "a.npz", npz({"x.npy": npy(), "y.npy": npy(np.zeros((40, 2, 2)))})
    yield (
        "a.npz",
        npz(
            {
                "x.npy": npy(),
                "y.npy": npy(np.array([b"\xff"] * 40)),
            }
        ),
    )
    yield "a.zip", npz({"a/b.txt": b"x"})
    yield "a.zip", npz({"a.png": b"\x89PNG\r\n\x1a\n" + b"\0" * 50})
    yield "a.zip", encrypted(npz({"a.png": b"x" * 50}))
    yield "a.zip", npz({"../../a.png": b"x"})


def text_files() -> Iterator[tuple[str, bytes]]:
    rows = b"\n".join(b"1.5,2" for _ in range(20))
    yield "a.csv", b"\xff\xfe" + b"a"
    yield "a.csv", "a,b\n\ud800".encode("utf-8", "surrogatepass")
    yield "a.csv", b"a" * 2_000_000
    yield "a.csv", b"," * 200_000
    yield "a.csv", b"\n" * 100_000
    yield "a.csv", b'"' * 99_999
    yield "a.csv", b'"' + b"x" * 300_000
    yield "a.csv", b"\0" * 1000
    yield "a.csv", rows + b"\n1e999,2"
    yield "a.csv", rows + b"\n-1e400,2"
    yield "a.csv", rows + b"\n1.5,0x10"
    yield "a.csv", rows + b"\n1_0,2"
    yield "a.csv", rows + b"\n" + b"9" * 5000 + b",2"
    yield "a.csv", b"a,b\n" * 20
    yield "a.csv", b"=cmd|'/C calc'!A1,2\n" * 20
    yield "a.csv", ("\u202e1,2\n" * 20).encode()
    yield "a.csv", ("\uff11,2\n" * 20).encode()  # digits of another script
    yield "a.csv", b"1.5,2\r\r\r\n" * 20
    yield "a.tsv", b"1\t2\n3\n" * 9
    yield "a.csv.gz", gzip.compress(rows)[:-4]
    yield "a.csv.gz", b"\x1f\x8b" + b"\0" * 40
    yield "a.csv.gz", gzip.compress(rows)[:10] + zlib.compress(rows)
    yield "a.parquet", b"PAR1" + b"\0" * 100 + b"PAR1"
    yield "a.parquet", b"PAR1" + struct.pack("<I", 2**31 - 1) + b"PAR1"
    yield "a.json", (b"[" * 100_000) + (b"]" * 100_000)
    yield "a.mat", b"MATLAB 5.0 MAT-file" + b"\0" * 200
    yield "a.mat", b"MATLAB 7.3 MAT-file" + b"\0" * 200
    yield "a.mat", os.urandom(0) + bytes(range(256)) * 4
    yield "a.h5", b"\x89HDF\r\n\x1a\n" + b"\0" * 200
    yield "a", b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."
    yield "a.pkl", b"cos\nsystem\n(S'touch made'\ntR."


def idx_files() -> Iterator[tuple[str, bytes]]:
    for rank, sizes in (
        (3, (2**32 - 1,) * 3),
        (4, (65536,) * 4),
        (255, (2,) * 255),
        (1, (5,)),
        (2, (0, 0)),
        (2, (2**31, 2**31)),
    ):
        yield "a-idx3-ubyte", struct.pack(f">HBB{rank}I", 0, 8, rank, *sizes) + b"\0" * 40
    yield "a.idx", b"\0\0\x08\x03\0\0"
    yield "a.idx.gz", gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12)
    yield "a.idx", b"\0\0\x7f\x01\0\0\0\1x"


def picture_files() -> Iterator[tuple[str, bytes]]:
    def png(width: int, height: int, depth: int = 8, colour: int = 0, data: bytes = b"") -> bytes:
        chunk = lambda kind, body: (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )
        head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")

    yield "a.png", png(2**31 - 1, 2**31 - 1)
    yield "a.png", png(60_000, 60_000)
    yield "a.png", png(0, 0)
    yield "a.png", png(5, 5)
    yield "a.png", png(5, 5, 3)
    yield "a.png", png(5, 5, 8, 9)
    yield "a.png", png(5, 5, data=b"\0" * 30)[:40]
    yield "a.png", b""
    for name in ("a.jpg", "a.gif", "a.webp", "a.tif", "a.bmp", "a.pgm"):
        yield name, b"no picture"
    yield "a.gif", b"GIF89a" + b"\xff" * 60
    yield "a.pgm", b"P5 99999 99999 255\n"
    yield "a.pgm", b"P5 -1 3 255\n"
    yield "a.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 100
    yield "a.bmp", b"BM" + b"\xff" * 60
    tif, gif = io.BytesIO(), io.BytesIO()
    Image.new("L", (8, 8)).save(tif, "TIFF")
    plain, at = tif.getvalue(), int.from_bytes(tif.getvalue()[4:8], "little")
    end = at + 2 + 12 * int.from_bytes(plain[at : at + 2], "little")  # of the directory, which is followed by itself
    yield "a.tif", plain[:end] + plain[4:8] + plain[end + 4 :]
    large = [Image.new("L", (4000, 4000), i) for i in range(2)]
    large[0].save(gif, "GIF", save_all=True, append_images=large[1:])
    head, *frames = gif.getvalue()[:-1].split(b",\0\0\0\0")
    yield "a.gif", head + b"".join([b",\0\0\0\0" + frames[-1]] * 1500) + b";"  # 72 GB, unpacked


def _write(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def _in_folder(name: str, content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "set").mkdir()
        (folder / "set" / name).write_bytes(content)
        return folder / "set"

    return make


def places() -> Iterator[Case]:
    """Things that are no plain files."""

    def pipe(name: str) -> Callable[[Path], Path]:
        return lambda folder: os.mkfifo(folder / name) or folder / name

    def loop(folder: Path) -> Path:
        (folder / "a.npy").symlink_to(folder / "a.npy")
        return folder / "a.npy"

    def deep(folder: Path) -> Path:
        place = folder / "set"
        for _ in range(60):
            place = place / "d"
        place.mkdir(parents=True)
        return folder / "set"

    def around(folder: Path) -> Path:
        (folder / "set").mkdir()
        (folder / "set" / "again").symlink_to(folder / "set")
        return folder / "set"

    def no_utf8(folder: Path) -> Path:
        name = os.fsdecode(os.fsencode(folder) + b"/\xff\xfe.npy")
        Path(name).write_bytes(b"nonsense")
        return Path(name)

    def no_utf8_inside(folder: Path) -> Path:
        (folder / "set").mkdir()
        Path(os.fsdecode(os.fsencode(folder / "set") + b"/\xff.png")).write_bytes(b"nonsense")
        return folder / "set"

    def bomb(folder: Path) -> Path:
        with gzip.open(folder / "a.csv.gz", "wb", compresslevel=9) as file:
            for _ in range(1200):
                file.write(b"\0" * 2**20)
        return folder / "a.csv.gz"

    for name in ("a.npy", "a.csv", "a.csv.gz", "a.ts", "a.txt", "a.wav", "a.parquet", "a.zip"):
        yield f"a pipe {name}", pipe(name)
    yield "a link to itself", loop
    yield "a deep folder", deep
    yield "a folder in itself", around
    yield "a name that is no UTF-8", no_utf8
    yield "a picture whose name is no UTF-8", no_utf8_inside
    yield "gzip without bound", bomb
    yield "no such file", lambda folder: folder / ("x" * 300)
    yield "a zero byte", lambda folder: Path(f"{folder}/a\0b.npy")
    yield "a device", lambda folder: Path("/dev/zero")
    yield "an empty folder", lambda folder: folder


def prepared(classes: object) -> Callable[[Path], Path]:
    """Return the maker of a prepared TFDS folder whose description names feature classes."""

    def make(folder: Path) -> Path:
        place = folder / "shapes" / "1.0.0"
        place.mkdir(parents=True)
        (place / "dataset_info.json").write_text(
            json.dumps({"name": "shapes", "version": "1.0.0", "fileFormat": "tfrecord"})
        )
        text = classes if isinstance(classes, str) else json.dumps(classes)
        (place / "features.json").write_text(text)
        return folder

    return make


def prepared_folders() -> Iterator[Case]:
    for name in (
        "os.system",
        "subprocess.Popen",
        "tensorflow_datasets.core.features.x.__init__",
        "evil",
        "..",
        7,
        None,
        [],
        "data.tfds.x.Y",
    ):
        yield f"features {name}", prepared({"pythonClassName": name, "featuresDict": {"features": {}}})
        inner = {"pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
                 "featuresDict": {"features": {"image": {"pythonClassName": name}}}}  # fmt: skip
        yield f"inner feature {name}", prepared(inner)
    for text in ("", "[", "[" * 100_000, "{}", "[]", "null", '"x"', "\ud800".encode("utf-8", "replace").decode()):
        yield f"features {text[:5]!r}", prepared(text)


def cases() -> list[Case]:
    """Return every file, folder and place."""
    files = [*array_files(), *archive_files(), *text_files(), *idx_files(), *picture_files()]
    made: list[Case] = [(f"{i} {name}", _write(name, content)) for i, (name, content) in enumerate(files)]
    made += [(f"folder {i}", _in_folder(name, content)) for i, (name, content) in enumerate(picture_files())]
    return [*made, *places()]
