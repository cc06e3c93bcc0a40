"""The blocks of the teaching page run."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parent.parent / "docs"


@pytest.mark.parametrize("page", ["jacobians.md", "geometry.md"])
def test_blocks_run(page):
    text = (DOCS / page).read_text()
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) > (5 if page == "jacobians.md" else 3)
    names: dict = {}
    for block in blocks:
        line = text[: text.index(block)].count("\n")
        exec(compile("\n" * line + block, str(DOCS / page), "exec"), names)


def test_a_trained_model_is_used_as_the_pages_say(tmp_path, monkeypatch):
    """README's eight lines and docs/using.md, on a run made by one short command."""
    from sklearn.datasets import load_digits

    import train

    monkeypatch.chdir(tmp_path)
    assert train.main(["--run-dir", "runs/A", "--epochs", "1", "--no-figures"]) == 0
    readme = (DOCS.parent / "README.md").read_text()
    (block,) = re.findall(r"## Use a trained model\n```python\n(.*?)```", readme, flags=re.DOTALL)
    assert len(block.splitlines()) <= 8
    names: dict = {"x": load_digits().images[:20]}
    exec(compile(block, "README.md", "exec"), names)
    assert names["again"].shape == (20, 8, 8, 1)
    assert names["z"].shape == (20, 20)
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "using.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 6
    names = {"RUN": "runs/A", "HUB": "hub/B"}
    for block in blocks:
        exec(compile(block, "using.md", "exec"), names)
    assert names["line"].shape == (8, 8, 8, 1)
    assert (tmp_path / "hub" / "B" / "README.md").exists()
