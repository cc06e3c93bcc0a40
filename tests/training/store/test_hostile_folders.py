"""Hostile run folders and command lines: one line each, no code run, nothing written. The files of data: tests/data."""

import contextlib
import io
import json

import pytest

import train
from models.config import ConfigError
from training import RunError
from training.cli import parse

DEEP = b"[" * 100_000
BYTES = (b"", b"[", DEEP, b'{"a":' * 5000, b"null", b"7", b'"text"', b"[]", b"\xff\xfe\x00", b"\x80\x04\x95cos\nsystem",
         b'{"model": NaN}', b'{"seed": 1e999}', b'{"\\ud800": 1}', b'{"model": {"kind": "__import__"}}')  # fmt: skip
FIELDS = {
    "seed": (2**70, -1, 0.5, "x", None, [], {}, True),
    "epochs": (10**30, -3, "many", [[1]]),
    "lr": ("fast", None, [], {}),
    "dataset": (7, None, [], "file:\x00"),
    "model": (7, [], "dense", {"kind": "evil"}, {"encoder": {"kind": "os.system"}}, {"latent": 10**12}),
    "objective": ({"kind": "sampling", "nosuch": 1}, []),
    "terms": ([7], {"kind": "x"}, "text"),
}
OPTIONS = [
    ["--seed", str(2**70)], ["--seed", "1e3"], ["--epochs", str(10**30)], ["--epochs", "9" * 5000],
    ["--batch-size", "-1"],
    ["--batch-size", str(2**64)], ["--lr", "nan"], ["--lr", "-1"], ["--threads", "-1"],
    ["--threads", str(2**40)], ["--resize", "99999x99999x9"], ["--resize", "0x0"],
    ["--label", "a\x00b", "--dataset", "file:x"],
    ["--dataset", "file:\udcff"], ["--dataset", ""], ["--dataset", "file:"], ["--dataset", "tfds:"],
    ["--dataset", "tfds:../../etc"], ["--dataset", "__import__('os')"], ["--run-dir", "/dev/null/x"],
    ["--run-dir", "a\x00b"],
    ["--from", "a\x00b"], ["--init-from", "/dev/zero"], ["--from-trial", "/dev/zero:0"], ["--from-trial", "\udcff"],
    ["--model.latent", "0"], ["--model.encoder.hidden", "-5"], ["--model.encoder", "os.system"], ["--terms", "evil"],
    ["--resume"], ["--nosuch"], ["--epochs"], ["--criterion", "\u202e"],
]  # fmt: skip


def said(call):
    """Return what a call says when it refuses: SystemExit 2 or 1, exit code 1, or an error of ours."""
    out = io.StringIO()
    with contextlib.redirect_stderr(out), contextlib.redirect_stdout(io.StringIO()):
        try:
            code = call()
        except SystemExit as leave:
            code = leave.code
        except (ConfigError, RunError) as error:
            return str(error)
    assert code in (1, 2), f"taken with exit code {code}"
    return out.getvalue().strip()


def one_line(words):
    """Check a refusal; --from says in a line before it that a config stands alone."""
    words = "\n".join(line for line in words.splitlines() if not line.endswith("is taken unverified"))
    assert words
    assert len(words.splitlines()) == 1, words
    assert len(words) < 1500, words[:300]
    words.encode()


def contents():
    """Yield hostile contents of a config."""
    yield from BYTES
    for field, values in FIELDS.items():
        yield from (json.dumps({field: value}).encode() for value in values)


def test_there_are_enough_of_them():
    assert len(list(contents())) + len(OPTIONS) >= 75


def test_configs(tmp_path, monkeypatch):
    """As the config of a run, and of an exported model: refused by --from and by load_run."""
    monkeypatch.chdir(tmp_path)
    for number, content in enumerate(contents()):
        run, hub = tmp_path / f"run{number}", tmp_path / f"hub{number}"
        for folder in (run, hub):
            folder.mkdir()
            (folder / "config.json").write_bytes(content)
        (hub / "model.safetensors").write_bytes(content)
        (hub / "data.json").write_bytes(content)
        one_line(said(lambda run=run: train.main(["--from", str(run), "--dry-run"])))
        one_line(said(lambda run=run: train.load_run(run)))
        one_line(said(lambda hub=hub: train.load_run(hub)))
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: ascii(" ".join(o))[:40])
def test_options(options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one_line(said(lambda: train.main([*options, "--dry-run"] if "--nosuch" in options else options)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "box", ["Invalid choice\n-----\nbad 'a-b'\n-----\n", "╭─ Invalid choice ─╮\n│ bad 'a-b' │\n╰──╯\n"]
)
def test_a_usage_error_is_one_line_whatever_the_terminal_draws(box):
    assert parse.one_line(box) == "bad 'a-b' (train.py --help lists all options)"
