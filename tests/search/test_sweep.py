"""Whole sweeps: one table for any workers, engine, interruption; failures recorded; one line for errors."""

import contextlib
import csv
import io
import json
import os
import pty
import random
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments.search.__main__ import main
from experiments.search.command import run
from experiments.search.options import parse, parser
from experiments.search.record.lease import identity
from experiments.search.record.ledger import Ledger
from experiments.search.report.table import best, front, points_of, to_csv
from experiments.search.sweep import fingerprint, run_sweep
from experiments.search.workers.engine import Engine, Event
from experiments.search.workers.execute import run_chunk
from experiments.search.workers.guardian import marked

ROOT = Path(__file__).resolve().parents[2]
FAKE = ["--problem", "tests.search.fake_trials:problem"]
SPACE = ["--lr", "1e-4:1e-2:log", "--objective.beta", "0.5:8", "--net.latent", "2,8,32"]


class Inline(Engine):
    """Runs each group in this process; `lose` says which submissions die before, during or after their work."""

    def __init__(self, job, ledger, lose=None):
        self.job, self.ledger, self.lose = job, ledger, lose or (lambda n, trials: "")
        self.events, self.count = [], 0

    def room(self):
        return int(not self.events)

    def submit(self, chunk, trials):
        self.count += 1
        how = self.lose(self.count, trials)
        if how == "during":
            for lease in self.ledger.claim([t.key for t in trials]):
                lease.path.write_text(json.dumps({**identity(), "start": "long ago"}))
        elif how != "before":
            run_chunk(self.job.problem, self.job.space, self.ledger, trials)
        self.events.append(Event(chunk, died=bool(how)))

    def wait(self, seconds):
        events, self.events = self.events, []
        return events

    def close(self):
        pass


def sweep(folder, *words, lose=None, resume=False):
    """Run a command line on the inline engine; return (job, records, table)."""
    job = parse([*FAKE, "--out", str(folder), *words])
    ledger = Ledger(folder)
    ledger.open(fingerprint(job.plan, job.space, job.options.problem), resume)
    records = run_sweep(job.plan, job.space, job.sampler, ledger, Inline(job, ledger, lose), size=job.options.group)
    return job, records, to_csv(records, job.space.names)


def rows(table):
    return list(csv.DictReader(io.StringIO(table)))


def calls(folder):
    log = Path(folder) / "calls.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def logged(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TRIALS_LOG", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [["--trials", "12"], ["--trials", "9", "--halving", "epochs:1:9"], ["--trials", "12", "--sampler", "tpe"]],
    ids=["random", "halving", "tpe"],
)
def test_the_table_does_not_depend_on_deaths_or_groups(tmp_path, logged, words):
    if "tpe" in words:
        pytest.importorskip("optuna")
    calm = sweep(tmp_path / "calm", *SPACE, *words)[2]
    begun = len(calls(logged))
    dice = random.Random(0)
    deaths = lambda n, trials: dice.choice(["", "", "", "before", "during", "after"])
    assert sweep(tmp_path / "rough", *SPACE, *words, "--group", "3", lose=deaths)[2] == calm
    assert len(calls(logged)) == 2 * begun  # what died after its work is not repeated
    assert sweep(tmp_path / "rough", *SPACE, *words, resume=True)[2] == calm
    assert len(calls(logged)) == 2 * begun


def test_a_longer_sweep_keeps_what_is_there(tmp_path, logged):
    short = rows(sweep(tmp_path / "a", *SPACE, "--trials", "5")[2])
    long = rows(sweep(tmp_path / "a", *SPACE, "--trials", "8", resume=True)[2])
    assert long[:5] == short
    assert len(calls(logged)) == 2 * 8


def test_groups_hold_equal_structures_and_one_fold(tmp_path, monkeypatch):
    import jax

    from tests.search import fake_trials

    seen = []

    def spy(configs, fold, width):
        seen.append(([jax.tree.structure(c) for c in configs], fold))
        return fake_trials.run_group(configs, fold, width)

    monkeypatch.setattr(fake_trials, "problem", fake_trials.SweepProblem(fake_trials.FakeConfig(), spy))
    sweep(tmp_path / "a", *SPACE, "--trials", "10", "--seeds", "2", "--folds", "2", "--group", "64")
    assert all(len(set(structures)) == 1 for structures, _ in seen)
    assert len(seen) == 3 * 2  # latent sizes x folds: floats and seeds share a program
    assert sum(len(structures) for structures, _ in seen) == 40


def test_failures_and_divergence_are_recorded_and_stop_nothing(tmp_path):
    words = ["--lr", "1e-3,1.0", "--net.latent", "2,7", "--sampler", "grid", "--group", "64"]
    job, records, table = sweep(tmp_path / "a", *words, "--problem", "tests.search.fake_trials:rough")
    got = {(r["lr"], r["net.latent"]): (r["status"], r["reason"]) for r in rows(table)}
    raised = ("failed", "FloatingPointError: lr 1 is too large")
    assert got == {
        ("0.001", "2"): ("ok", ""),
        ("0.001", "7"): ("diverged", "loss is nan"),
        ("1.0", "2"): raised,
        ("1.0", "7"): raised,
    }
    assert best(points_of(records, job.plan), job.plan).values["net.latent"] == 2


def test_a_trial_whose_worker_always_dies_is_given_up(tmp_path):
    dies = lambda n, trials: "during" if any(t.point == 2 for t in trials) else ""
    table = sweep(tmp_path / "a", *SPACE, "--trials", "4", lose=dies)[2]
    assert [r["status"] for r in rows(table)] == ["ok", "ok", "failed", "ok"]
    assert "the worker died 5 times" in rows(table)[2]["reason"]


def test_two_objectives_have_a_front(tmp_path):
    words = ["--objective.beta", "0.5:8", "--trials", "12", "--minimize", "loss,rate", "--sampler", "sobol"]
    job, records, _ = sweep(tmp_path / "a", *words)
    found = front(points_of(records, job.plan), job.plan)
    assert len(found) == 12  # beta trades rate for loss, so every point is on it
    assert [p.values["objective.beta"] for p in found] == sorted(p.values["objective.beta"] for p in found)


def test_seeds_are_common_to_points_and_give_an_interval(tmp_path):
    job, records, table = sweep(tmp_path / "a", *SPACE, "--trials", "3", "--seeds", "4", "--folds", "3")
    assert len(rows(table)) == 36
    winner = best(points_of(records, job.plan), job.plan)
    interval = winner.interval("loss")
    assert interval.low < interval.estimate < interval.high
    assert len(winner.scores["loss"]) == 12
    noise = {(r["seed"], r["fold"]): float(r["loss"]) for r in rows(table) if r["point"] == "0"}
    other = {(r["seed"], r["fold"]): float(r["loss"]) for r in rows(table) if r["point"] == "1"}
    gaps = [noise[k] - other[k] for k in noise]
    assert max(gaps) - min(gaps) < 1e-9  # what a seed adds, it adds to every point


def command(folder, *words, group="1"):
    line = [sys.executable, "-m", "experiments.search", *FAKE, *SPACE, *words]
    return [*line, "--out", str(folder), "--group", group]


def children(pid):
    try:
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def gone(pids, seconds=5.0):
    """Whether all processes end within `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not any(Path(f"/proc/{p}").exists() for p in pids):
            return True
        time.sleep(0.05)
    return False


def kill_campaign(folder, kills, trials, workers, rng, log):
    """Kill a worker or the parent `kills` times at random moments; return the final table."""
    line = command(folder, "--trials", str(trials), "--workers", str(workers))
    parent, left, wasted = None, kills, 0
    while True:
        resume = ["--resume"] if (folder / "sweep.json").exists() else []
        parent = subprocess.Popen([*line, *resume], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        begun = len(calls(log))
        while left and parent.poll() is None:
            if len(calls(log)) > begun:  # trials are running
                time.sleep(rng.uniform(0.0, 0.25))
                family = children(parent.pid)
                victim = rng.choice([parent.pid, *family])
                os.kill(victim, signal.SIGKILL)
                left, begun = left - 1, len(calls(log))
                wasted += workers if victim == parent.pid else 1
                if victim == parent.pid:
                    parent.wait()
                    assert gone(family), "workers outlived their parent by more than 5 s"
            time.sleep(0.01)
        _, errors = parent.communicate(timeout=120)
        if parent.returncode == 0 and not left:
            return (folder / "results.csv").read_bytes(), wasted
        assert parent.returncode in (0, -signal.SIGKILL), errors.decode()
        assert parent.returncode != 0, f"the sweep ended with {left} kills left: make it longer"


def check_kills(tmp_path, monkeypatch, kills, trials, seconds):
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", str(seconds))
    monkeypatch.setenv("FAKE_TRIALS_LOG", str(tmp_path))
    table, wasted = kill_campaign(tmp_path / "killed", kills, trials, 2, random.Random(kills), tmp_path)
    log = calls(tmp_path)
    begun = [line for line in log if line.startswith("begin")]
    assert len({*begun}) == trials
    assert len(begun) <= trials + wasted, "a trial ran twice that no kill had interrupted"
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "0")
    assert sweep(tmp_path / "calm", *SPACE, "--trials", str(trials))[2].encode() == table


def test_three_kills_leave_the_table_as_it_was(tmp_path, monkeypatch):
    check_kills(tmp_path, monkeypatch, kills=3, trials=24, seconds=0.1)


@pytest.mark.campaign
def test_twenty_kills_leave_the_table_as_it_was(tmp_path, monkeypatch):
    check_kills(tmp_path, monkeypatch, kills=20, trials=160, seconds=0.15)


def test_workers_read_what_the_command_line_says_and_a_crash_is_survived(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = [*SPACE, "--trials", "6", "--epochs", "2", "--seeds", "2", "--workers", "2"]
    assert main([*FAKE, *words, "--out", str(tmp_path / "local")]) == 0
    table = (tmp_path / "local" / "results.csv").read_text()
    assert table == sweep(tmp_path / "inline", *words)[2]
    assert "best: loss" in capfd.readouterr().out
    assert main([*FAKE, *words, "--out", str(tmp_path / "local")]) == 1  # no --resume
    assert "add --resume" in capfd.readouterr().err
    crash = ["--problem", "tests.search.fake_trials:rough", "--epochs", "2,13", "--sampler", "grid", "--workers", "1"]
    assert main([*crash, "--out", str(tmp_path / "crash")]) == 0
    got = rows((tmp_path / "crash" / "results.csv").read_text())
    assert [r["status"] for r in got] == ["ok", "failed"]


def test_ray_gives_the_same_table(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    script = "import sys; from experiments.search.__main__ import main; sys.exit(main(sys.argv[1:]))"  # its own process
    words = [*FAKE, *SPACE, "--trials", "8", "--workers", "2", "--engine", "ray", "--out", str(tmp_path / "ray")]
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "ray" / "results.csv").read_text() == sweep(tmp_path / "inline", *SPACE, "--trials", "8")[2]


def test_a_terminal_shows_done_running_best_and_time_left(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "0.5")
    monkeypatch.setenv("COLUMNS", "160")
    line = command(tmp_path / "a", "--trials", "4", "--seeds", "2", "--workers", "1")
    ours, theirs = pty.openpty()
    driver = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while data := os.read(ours, 4096):
            shown += data
    os.close(ours)
    assert driver.wait() == 0
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert re.search(r"[2-7]/8 \S+ 1 running, \d:\d\d left, best loss [\d.]+ \[[\d.]+, [\d.]+\] at lr=", text)
    assert re.search(r"8/8 \S+ 0 running, 0:00 left", text)


def handled(pid):
    """Whether a process handles SIGTERM, which Python by itself does not."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("delay", [0.0, 0.3, 1.0, 2.0])
def test_a_signal_in_the_first_seconds_ends_a_sweep_with_one_line(tmp_path, monkeypatch, number, delay):
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "1")
    line = command(tmp_path / "a", "--trials", "40", "--workers", "1")
    sweeping = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not handled(sweeping.pid):
        time.sleep(0.005)
    time.sleep(delay)
    family = children(sweeping.pid)
    sweeping.send_signal(number)
    begun = time.monotonic()
    out, errors = sweeping.communicate(timeout=20)
    assert time.monotonic() - begun < 2
    assert sweeping.returncode == 128 + number
    assert out == ""
    *before, last = errors.splitlines()
    assert last.startswith(("stopped before anything was begun", "stopped; go on with: python -m experiments.search"))
    assert all("trials, " in words for words in before)
    assert gone(family)


def test_a_stopped_sweep_says_how_to_go_on_and_notes_its_session(tmp_path, monkeypatch):
    monkeypatch.setenv("FAKE_TRIALS_LOG", str(tmp_path))
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "0.2")
    line = command(tmp_path / "a", "--trials", "20", "--workers", "1")
    sweeping = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while len(calls(tmp_path)) < 4:
        assert sweeping.poll() is None
        time.sleep(0.05)
    sweeping.send_signal(signal.SIGINT)
    said = sweeping.communicate()[1].splitlines()[-1]
    assert json.loads((tmp_path / "a" / "sessions.jsonl").read_text())["trials"] < 20
    words = shlex.split(said.partition("python -m experiments.search ")[2])
    assert "--resume" in words
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "0")
    again = subprocess.run([*line[:3], *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "a" / "results.csv").read_text() == sweep(tmp_path / "calm", *SPACE, "--trials", "20")[2]


@pytest.mark.campaign
def test_a_killed_driver_leaves_no_process_of_ray_and_is_resumed(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    monkeypatch.setenv("FAKE_TRIALS_LOG", str(tmp_path))
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "0.3")
    monkeypatch.setenv("OUR_RAY_TEST", tmp_path.name)
    line = command(tmp_path / "ray", "--trials", "16", "--workers", "2", "--engine", "ray")
    driver = subprocess.Popen(line, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(calls(tmp_path)) < 3:
        assert driver.poll() is None
        time.sleep(0.1)
    family = [p for p in marked(f"OUR_RAY_TEST={tmp_path.name}") if p != driver.pid]
    assert len(family) > 4
    driver.kill()
    driver.wait()
    assert gone(family), "Ray outlived its driver by more than 5 s"
    subprocess.run([*line, "--resume"], cwd=ROOT, check=True, timeout=300)
    assert len({c for c in calls(tmp_path) if c.startswith("end")}) == 16
    monkeypatch.setenv("FAKE_TRIALS_SECONDS", "0")
    assert (tmp_path / "ray" / "results.csv").read_text() == sweep(tmp_path / "calm", *SPACE, "--trials", "16")[2]
    assert not marked(f"OUR_RAY_TEST={tmp_path.name}")


def test_without_ray_the_install_line_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main([*FAKE, *SPACE, "--trials", "2", "--engine", "ray", "--out", str(tmp_path / "a")]) == 2
    assert "pip install -e '.[ray]'" in capsys.readouterr().err
    assert not (tmp_path / "a").exists()


def test_errors_are_one_line_with_their_status(tmp_path, capsys):
    out = ["--out", str(tmp_path / "a")]
    for words, status, message in (
        (["--lrr", "1:2", "--trials", "2"], 2, "did you mean one of: lr"),
        (["--lr", "1:2", "--trials", "0"], 2, "trials must be at least 1"),
        (["--lr", "1:2", "--trials", "2", "--out", "/proc/none"], 1, "cannot write in /proc/none"),
        (
            ["--lr", "1:2", "--trials", "2", "--minimize", "los"],
            1,
            "no metric 'los'; did you mean loss? the trials report",
        ),
    ):
        assert main([*FAKE, *out, *words]) == status
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert main([*FAKE, *out, "--lr", "1:3", "--trials", "2", "--resume"]) == 1
    assert "different: domains.lr.high (was 2.0, is 3.0)" in capsys.readouterr().err


def test_a_damaged_trial_file_is_named_and_run_again(tmp_path, capsys):
    words = [*SPACE, "--trials", "4"]
    table = sweep(tmp_path / "a", *words)[2]
    victim = next((tmp_path / "a" / "trials").glob("00002*.json"))
    victim.write_text("{")
    records = run(parse([*FAKE, *words, "--out", str(tmp_path / "a"), "--resume", "--workers", "1"]))
    assert to_csv(records, parse([*FAKE, *words]).space.names) == table
    assert f"damaged trial file {victim.name}: set aside" in capsys.readouterr().err


def test_options_do_not_hide_fields_of_the_real_config():
    train = pytest.importorskip("train")
    options = {action.dest for action in parser()._actions}
    assert not options & set(train.Config.__hints__)
