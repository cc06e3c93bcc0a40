"""sweep.html: what its numbers mean, that names cannot break it, and that it works in a browser."""

import io
import json
import re

import numpy as np
import pytest

from experiments.search.options import parse
from experiments.search.report.importance import average_ranks, cells, explained, importance
from experiments.search.report.page import page_data, script_json, sweep_page
from experiments.search.space.domains import Choice, Range
from tests.search.browser import browser, chromium
from tests.search.fake_trials import metrics
from tests.search.test_sweep import FAKE, SPACE

EVIL = "</script><img src=x onerror=alert(1)><!--\u2028"


def records(job, n=24, seeds=3, fail=()):
    """Records as the ledger holds them, without running anything."""
    out = []
    for point, values in enumerate(job.sampler.propose(0, n)):
        for seed in range(seeds):
            bad = point in fail
            got = {} if bad else metrics(job.space.configure(values, seed))
            result = {"status": "failed" if bad else "ok", "reason": EVIL if bad else "", "metrics": got}
            spec = {"point": point, "rung": 0, "seed": seed, "fold": 0, "values": values, "budget": {}}
            timing = {"ended": 10.0 + point, "seconds": 0.9, "machine": "host boot", "pid": 1 + seed % 2}
            out.append({"key": f"{point:05d}-r0-s{seed}-f0", "spec": spec, "result": result, "timing": timing})
    return out


@pytest.fixture(scope="module")
def job():
    words = [*SPACE, "--epochs", "4", "--objective.kind", json.dumps(EVIL) + ",plain", "--objective", "smooth,rough"]
    return parse([*FAKE, *words, "--trials", "24", "--seeds", "3", "--minimize", "loss,rate"])


def test_importance_is_the_share_of_variance():
    rng = np.random.default_rng(0)
    a, b = rng.random(4000), rng.random(4000)
    share = float(explained(cells(a, Range(0, 1)), 3 * a + b))
    assert share == pytest.approx(0.9, abs=0.02)  # Var(3a) / Var(3a + b), less what 8 cells cannot see
    noise = [float(explained(cells(rng.random(64), Range(0, 1)), rng.random(64))) for _ in range(200)]
    assert np.mean(noise) < 0.03  # the plain share would be (k - 1) / (n - 1) = 0.05


def test_importance_ranks_fields_and_its_interval_holds_the_estimate():
    rng = np.random.default_rng(1)
    points = [
        {"x": float(x), "y": float(y), "part": c} for x, y, c in zip(*rng.random((2, 80)), "ab" * 40, strict=True)
    ]
    scores = [3 * p["x"] + p["y"] for p in points]
    found = importance(points, scores, {"part": Choice(("a", "b")), "y": Range(0, 1), "x": Range(0, 1)})
    assert next(iter(found)) == "x"
    assert all(0 <= i.low <= i.estimate <= i.high <= 1 for i in found.values())
    assert found["x"].low > found["part"].high
    assert importance(points[:7], scores[:7], {"x": Range(0, 1)}) == {}


def test_ties_share_a_rank_and_a_field_that_does_nothing_explains_nothing():
    np.testing.assert_array_equal(average_ranks(np.array([2.0, 1.0, 2.0, 0.0, 2.0])), [3, 1, 3, 0, 3])
    points = [{"x": i / 32, "works": "ab"[i % 2]} for i in range(32)]  # sorted by x, as a grid is
    fields = {"x": Range(0, 1), "works": Choice(("a", "b"))}
    found = importance(points, [float(p["works"] == "b") for p in points], fields)
    assert found["works"].estimate == pytest.approx(1.0)
    assert found["x"].estimate == 0.0
    assert importance(points, [1.0] * 32, fields)["x"].estimate == 0.0


def test_page_data_are_the_records(job):
    data = page_data(records(job, fail={3}), job.plan, job.space)
    assert len(data["points"]) == 23
    assert len(data["trials"]) == 72
    assert "epochs" not in [field["name"] for field in data["fields"]]  # it is fixed
    losses = {p["id"]: p["metrics"]["loss"][0] for p in data["points"]}
    assert data["best"] == min(losses, key=losses.get)
    pairs = {p["id"]: np.array([p["metrics"][m][0] for m in ("loss", "rate")]) for p in data["points"]}
    for p in data["points"]:
        beaten = [q for q in pairs.values() if (q <= pairs[p["id"]]).all() and (q < pairs[p["id"]]).any()]
        assert p["front"] == (not beaten)


def test_names_cannot_leave_their_script():
    text = script_json({EVIL: [EVIL]})
    assert not re.search("[<>&\u2028]", text)
    assert json.loads(text) == {EVIL: [EVIL]}


def test_the_page_asks_for_nothing(job):
    page = sweep_page(records(job), job.plan, job.space)
    links = re.findall(
        r"(?:src|href|url)\s*[=(]\s*\S+", re.sub(r'<script type="application/json".*?</script>', "", page)
    )
    assert links
    assert all("data:," in link for link in links)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)


def test_the_page_works_in_a_browser(job, tmp_path):
    if chromium() is None:
        pytest.skip("no chromium and chromedriver (Debian: apt-get install chromium chromium-driver)")
    path = tmp_path / "sweep.html"
    path.write_text(sweep_page(records(job, fail={3}), job.plan, job.space), encoding="utf-8")
    with browser(tmp_path / "profile") as page:
        page.open(path)
        assert page.errors() == []
        assert page.run("return [...document.querySelectorAll('section')].map(s => s.id)") == [
            "parallel", "history", "front", "importance", "slices", "seeds", "timeline", "failures",
        ]  # fmt: skip
        assert page.run("return document.querySelectorAll('img').length") == 0
        assert EVIL in page.run("return document.querySelector('#failures').textContent")
        shot = page.screenshot()
        kept = lambda: page.run("return document.querySelectorAll('#parallel path:not(.off)').length")
        assert kept() == 23
        box = "const b = document.querySelector('[data-axis=lr]').getBoundingClientRect();"
        x, top, bottom = page.run(box + "return [b.x + b.width / 2, b.top, b.bottom].map(Math.round)")
        page.drag((x, top + 2), (x, (top + bottom) // 2))  # the upper half of lr, which is drawn by its logarithm
        data = page_data(records(job, fail={3}), job.plan, job.space)
        upper = sum(p["values"]["lr"] > 1e-3 for p in data["points"])
        assert abs(kept() - upper) <= 1
        assert 0 < kept() < 23
        faded = page.run("return document.querySelectorAll('#history circle.off').length")
        assert faded == 23 - kept()  # the charts are linked
        page.drag((x, top + 20), (x, top + 20))
        assert kept() == 23
        assert page.errors() == []
    from PIL import Image

    pixels = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
    blue = (pixels[..., 2] > pixels[..., 0].astype(int) + 60).mean()
    assert blue > 0.002
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
