"""Hostile files: one line each, nothing run, written or waited for; a sample here, all in the campaign."""

import time
from pathlib import Path

import pytest

import data
from data.errors import DataError

from . import hostile

CASES = hostile.cases()
PREPARED = list(hostile.prepared_folders())


def attack(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Path | None = None) -> None:
    """Load; a DataError of one printable line, or a data set, within seconds, leaving the folder as it was."""
    monkeypatch.chdir(tmp_path)
    before = sorted(p.name for p in tmp_path.rglob("*"))
    begin = time.monotonic()
    said = ""
    try:
        data.load(name, root)
    except DataError as error:
        said = str(error)
    assert "\n" not in said
    assert said.encode("utf-8").decode() == said  # could be printed
    assert len(said) < 2000
    assert time.monotonic() - begin < 30
    assert sorted(p.name for p in tmp_path.rglob("*")) == before


def test_there_are_enough_of_them():
    assert len(CASES) + len(PREPARED) >= 150
    assert len({name for name, _ in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES[::4], ids=lambda c: c[0][:40])
def test_a_sample_of_hostile_files_is_refused_in_one_line(case, tmp_path, monkeypatch):
    attack(f"file:{case[1](tmp_path)}", tmp_path, monkeypatch)


@pytest.mark.campaign
@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0][:40])
def test_every_hostile_file_is_refused_in_one_line(case, tmp_path, monkeypatch):
    attack(f"file:{case[1](tmp_path)}", tmp_path, monkeypatch)


@pytest.mark.parametrize("case", PREPARED, ids=lambda c: c[0][:40])
def test_a_prepared_folder_names_known_feature_classes_only(case, tmp_path, monkeypatch):
    place = case[1](tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(DataError) as caught:
        data.load("tfds:shapes", place)
    assert "\n" not in str(caught.value)
