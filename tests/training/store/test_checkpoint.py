"""A checkpoint comes back bit for bit, or is refused by name."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from flax import nnx
from hypothesis import given, settings
from hypothesis import strategies as st

from training.store import checkpoint
from training.store.errors import DamagedCheckpoint, RunError
from training.store.files import TEMPORARY, remove_temporaries

NAN_PAYLOADS = np.array([0x7FF8000000000001, 0xFFF0000000000123, 0x8000000000000000], np.uint64).view(
    np.float64
)
TREES = {
    "nan payloads": {"a": NAN_PAYLOADS, "b": np.array([0x7FC00001, 0xFF800002], np.uint32).view(np.float32)},
    "bfloat16": jnp.arange(7, dtype=jnp.bfloat16).reshape(7, 1) / 3,
    "small floats": [np.arange(5).astype(t) for t in (np.float16, ml_dtypes.float8_e4m3fn, ml_dtypes.int4)],
    "integers": tuple(np.array([0, 1, -1], np.int64).astype(t) for t in "bBhHiIlLqQ?"),
    "complex": {"c64": np.array([1 + 2j], np.complex64), "c128": np.array([1 - 2j, complex("nan")])},
    "0-d and empty": [
        np.float32(2.5),
        np.zeros((0, 3)),
        np.zeros((2, 0), np.uint8),
        jnp.uint32(7),
        3,
        2.5,
        True,
    ],
    "big-endian": np.arange(4, dtype=">f8"),
    "raw key": jax.random.PRNGKey(3),
    "typed keys": {"one": jax.random.key(0), "many": jax.random.split(jax.random.key(1, impl="rbg"), (2, 3))},
    "strided": np.arange(24.0).reshape(4, 6).T[::2],
    "nothing": {},
    "odd names": {
        "a/b": np.ones(1),
        '"q\\': np.ones(2),
        "": np.ones(3),
        "é\n": [{0: np.ones(1)}, {"0": np.ones(2)}],
    },
    "module": nnx.Linear(3, 2, rngs=nnx.Rngs(0)),
}


def bits(leaf):
    array = np.asarray(jax.random.key_data(leaf) if checkpoint.is_key(leaf) else leaf)
    native = array.astype(array.dtype.newbyteorder("="))
    return native.dtype.name, native.shape, native.tobytes()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert checkpoint.is_key(x) == checkpoint.is_key(y)
        assert bits(x) == bits(y)


@pytest.mark.parametrize("name", TREES)
def test_round_trip_is_bit_exact(tmp_path, name):
    path = checkpoint.save(tmp_path, 5, TREES[name], {"epoch": 1, "loss": float("inf")})
    restored = checkpoint.restore_like(TREES[name], path)
    assert_same(restored, TREES[name])
    assert checkpoint.load(path)[:2] == (5, {"epoch": 1, "loss": "inf"})
    assert checkpoint.params_sha256(restored) == checkpoint.params_sha256(TREES[name])


dtypes = st.sampled_from(["f4", "f8", "f2", "u4", "i8", "u1", "?", "c8", "c16"]).map(np.dtype)
arrays = dtypes.flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(min_dims=0, min_side=0, max_side=4)))
trees = st.recursive(
    arrays,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(tree=trees)
def test_round_trip_of_any_tree(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("any")
    assert_same(checkpoint.restore_like(tree, checkpoint.save(folder, 0, tree, {})), tree)


def test_any_safetensors_reader_opens_it(tmp_path):
    tree = {"w": np.arange(6.0).reshape(2, 3), "odd": np.ones(3, np.uint8), "n": np.float32(1)}
    path = checkpoint.save(tmp_path, 12, tree, {"epoch": 3})
    read = safetensors.numpy.load_file(path)
    assert {name: bits(v) for name, v in read.items()} == {f"['{n}']": bits(v) for n, v in tree.items()}
    with safetensors.safe_open(path, "np") as file:
        assert json.loads(file.metadata()["meta"]) == {"epoch": 3}


def test_arrays_are_aligned_to_their_type(tmp_path):
    path = checkpoint.save(tmp_path, 0, [np.ones(3, np.uint8), np.ones(3, np.float16), np.ones(3)], {})
    length = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert length % 8 == 0
    widths = {"F64": 8, "F16": 2, "U8": 1}
    entries = [entry for name, entry in header.items() if name != "__metadata__"]
    assert all(entry["data_offsets"][0] % widths[entry["dtype"]] == 0 for entry in entries)


@pytest.fixture
def three(tmp_path):
    """Return a folder with steps 1, 2 (and best = 1)."""
    for step in (1, 2):
        checkpoint.save(
            tmp_path, step, {"w": np.arange(50.0) + step, "n": np.int32(3)}, {"s": step}, step == 1
        )
    return tmp_path


def test_keeps_the_last_two_and_the_best(tmp_path):
    for step in (1, 20, 300, 4000):
        checkpoint.save(tmp_path, step, np.arange(3) + step, {}, best=step == 20)
    assert checkpoint.steps(tmp_path) == [4000, 300]
    assert checkpoint.load(checkpoint.best_path(tmp_path)).step == 20
    assert len(list(tmp_path.iterdir())) == 3
    checkpoint.save(tmp_path, 350, np.arange(3), {})  # a continuation from 300 replaces the given-up 4000
    assert checkpoint.steps(tmp_path) == [350, 300]


def test_every_changed_byte_is_refused(three):
    """Walk over all bytes of a whole file: length, header, padding, seal and every array."""
    path = checkpoint.step_path(three, 2)
    good = path.read_bytes()
    rng = np.random.default_rng(0)
    accepted = []
    messages = set()
    for at in range(len(good)):
        raw = bytearray(good)
        raw[at] ^= int(rng.integers(1, 256))
        path.write_bytes(raw)
        try:
            checkpoint.load(path)
            accepted.append(at)
        except DamagedCheckpoint as error:
            messages.add(str(error))
    assert accepted == []
    assert all(str(path) in message for message in messages)
    assert not any("\n" in message for message in messages)


@pytest.mark.parametrize("damage", ["cut", "longer", "empty", "text", "other safetensors", "zeros", "folder"])
def test_a_damaged_one_is_named_and_the_one_before_it_used(three, damage):
    path = checkpoint.step_path(three, 2)
    good = path.read_bytes()
    rng = np.random.default_rng(1)
    contents = {
        "cut": [good[:n] for n in (1, 7, 8, 9, len(good) - 1, *rng.integers(0, len(good), 20))],
        "longer": [good + b"\0"],
        "empty": [b""],
        "text": [b"this is a text file, not a checkpoint\n" * 10],
        "other safetensors": [safetensors.numpy.save({"w": np.ones(3)})],
        "zeros": [bytes(len(good))],
        "folder": [None],
    }[damage]
    for content in contents:
        if content is None:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(content)
        said: list[str] = []
        found = checkpoint.latest(three, said.append)
        assert found is not None
        assert found == (checkpoint.step_path(three, 1), {"s": 1})
        assert len(said) == 1
        assert str(path) in said[0]


def test_falls_back_to_the_best_and_then_gives_up_by_name(three):
    checkpoint.save(three, 3, {"w": np.zeros(2)}, {"s": 3})
    for step in (2, 3):
        checkpoint.step_path(three, step).write_bytes(b"damaged")
    assert checkpoint.latest(three, lambda _: None) == (checkpoint.best_path(three), {"s": 1})
    checkpoint.best_path(three).write_bytes(b"damaged")
    with pytest.raises(
        DamagedCheckpoint, match=r"best\.safetensors, step-000000003\.safetensors, step-000000002"
    ):
        checkpoint.latest(three, lambda _: None)
    assert checkpoint.latest(three / "absent") is None


def test_a_best_that_is_newer_than_the_last_is_the_newest(three):
    """A kill between the two names leaves the best one ahead: it is complete, so it counts."""
    checkpoint.save(three, 3, {"w": np.zeros(2)}, {"s": 3}, best=True)
    checkpoint.step_path(three, 3).unlink()
    assert checkpoint.latest(three) == (checkpoint.best_path(three), {"s": 3})


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ({"w": np.zeros(50)}, r"has an array \['n'\]"),
        ({"w": np.zeros(50), "n": np.int32(0), "m": np.zeros(2)}, r"has no array \['m'\] \(float64 \(2,\)\)"),
        (
            {"w": np.zeros((50, 1)), "n": np.int32(0)},
            r"\['w'\] is float64 \(50,\) in .*float64 \(50, 1\) here",
        ),
        (
            {"w": np.zeros(50), "n": np.float32(0)},
            r"\['n'\] is int32 \(\) in the checkpoint, float32 \(\) here",
        ),
    ],
)
def test_another_structure_is_refused_by_its_first_mismatch(three, template, message):
    with pytest.raises(RunError, match=message):
        checkpoint.restore_like(template, checkpoint.step_path(three, 2))


def test_values_are_placed_like_the_template(tmp_path):
    tree = {"device": jnp.arange(3.0), "host": np.arange(3.0)}
    path = checkpoint.save(tmp_path, 0, tree, {})
    restored = checkpoint.restore_like(tree, path)
    assert isinstance(restored["device"], jax.Array)
    assert isinstance(restored["host"], np.ndarray)
    shape = jax.ShapeDtypeStruct((3,), jnp.float64)
    assert isinstance(checkpoint.restore_like({"device": shape, "host": shape}, path)["host"], np.ndarray)


def test_hash_changes_with_name_type_shape_and_each_bit():
    trees = [
        {"a": np.zeros(4, np.float32)},
        {"b": np.zeros(4, np.float32)},
        {"a": np.zeros(4, np.int32)},
        {"a": np.zeros((2, 2), np.float32)},
        {"a": np.array([0, 0, 0, -0.0], np.float32)},
        {"a": np.zeros(2, np.float32), "b": np.zeros(2, np.float32)},
    ]
    assert len({checkpoint.params_sha256(t) for t in trees}) == len(trees)
    assert checkpoint.params_sha256({"a": 1.5, "b": 2}) == checkpoint.params_sha256(
        {"b": np.int64(2), "a": jnp.float64(1.5)}
    )


def test_what_is_no_array_is_refused_before_anything_is_written(three):
    before = sorted(p.name for p in three.iterdir())
    with pytest.raises(TypeError, match=r"cannot store \['f'\]: str"):
        checkpoint.save(three, 3, {"f": "text"}, {})
    assert sorted(p.name for p in three.iterdir()) == before


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


def test_a_full_disk_leaves_the_old_checkpoints(three):
    """The kernel itself refuses to write on: a limit on the file size, with its signal ignored."""
    before = contents(three)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, limits[1]))
        with pytest.raises(RunError, match=r"cannot write .*step-000000003.safetensors: .*intact") as error:
            checkpoint.save(three, 3, np.arange(10_000.0), {}, best=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert "\n" not in str(error.value)
    assert contents(three) == before


@pytest.mark.parametrize("call", ["fsync", "replace", "link"])
def test_no_space_at_any_call_leaves_the_old_checkpoints(three, monkeypatch, call):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    before = contents(three)
    monkeypatch.setattr(os, call, full)
    monkeypatch.setattr(shutil, "copyfileobj", full)
    full_disk = r"the disk is full: [\d,]{3,} bytes are needed, [\d,]+ are free; what was there is intact"
    with pytest.raises(RunError, match=full_disk):
        checkpoint.save(three, 3, np.arange(10.0), {}, best=True)
    monkeypatch.undo()
    assert contents(three) == before


def test_without_hard_links_the_best_is_a_copy(three, monkeypatch):
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(95, "not supported")))
    checkpoint.save(three, 3, np.arange(10.0), {}, best=True)
    assert checkpoint.load(checkpoint.best_path(three)).step == 3


KILLED = """
import os, sys, numpy as np
from pathlib import Path
from training.store import checkpoint
real = os.fsync
def die(descriptor):
    os.kill(os.getpid(), 9)
os.fsync = die
checkpoint.save(Path(sys.argv[1]), 3, np.arange(1000.0), {})
"""


def test_a_killed_writer_leaves_only_a_temporary_file(three):
    before = contents(three)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(three)], cwd=Path(__file__).parents[3])
    assert killed.returncode == -signal.SIGKILL
    left = set(contents(three)) - set(before)
    assert len(left) == 1
    assert left.pop().endswith(TEMPORARY)
    assert checkpoint.latest(three) == (checkpoint.step_path(three, 2), {"s": 2})
    assert len(remove_temporaries(three)) == 1
    assert contents(three) == before
