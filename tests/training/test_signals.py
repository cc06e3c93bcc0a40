"""A signal is a request the loop sees; a second Ctrl-C is an order, and so is the first where all is saved."""

import collections
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from training import StopSignals

LOOP = """
import hashlib, sys, time
from training.signals import StopSignals
with StopSignals() as stop:
    print("ready", flush=True)
    while not stop:
        time.sleep(0.01)
    if "stuck" in sys.argv:
        print("stuck", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C: no Python handler runs
    print("saved", flush=True)
sys.exit(stop.exit_code)
"""
AT_ONCE = """
import hashlib, sys
from training.signals import StopSignals
with StopSignals() as stop, stop.at_once("all is saved", lambda: print("left", flush=True)):
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes in C
"""
DRAWING = """
import sys, time
import train
from training.pictures import figures
def write_all(*_):
    print("ready", flush=True)
    time.sleep(60)
figures.write_all = write_all
sys.exit(train.main(sys.argv[1:]))
"""
ROOT = Path(__file__).resolve().parents[2]
SMALL = ["--epochs", "1", "--model.encoder.hidden", "8", "--dispatch", "loop"]


@contextlib.contextmanager
def start(*arguments, code=LOOP, before=""):
    command = [sys.executable, "-c", before + code, *map(str, arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT) as process:
        try:
            assert "ready\n" in iter(process.stdout.readline, "")
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_one_signal_ends_the_loop_in_order(number, code):
    with start() as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
    assert (out, process.returncode) == ("saved\n", code)
    assert f"{signal.Signals(number).name}: saving" in err


def test_a_second_interrupt_stops_at_once_even_inside_a_long_call():
    with start("stuck") as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stuck\n"
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        out, _ = process.communicate(timeout=20)
    assert (out, process.returncode) == ("", 130)
    assert time.monotonic() - begin < 5


def test_a_hang_up_that_is_ignored_stays_so():
    """As under nohup, which starts a process that ignores SIGHUP."""
    with start(before="import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n") as process:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.2)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=20)[0] == "saved\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_where_all_is_saved_the_first_signal_ends_the_process(number, code):
    with start(code=AT_ONCE) as process:
        process.send_signal(number)
        begin = time.monotonic()
        out, err = process.communicate(timeout=20)
    assert time.monotonic() - begin < 2
    assert (out, process.returncode) == ("left\n", code)
    assert err == f"\n{signal.Signals(number).name}: all is saved\n"


def test_a_signal_while_figures_are_drawn_leaves_a_run_to_resume(tmp_path):
    with start("--run-dir", tmp_path / "a", *SMALL, code=DRAWING) as process:
        process.send_signal(signal.SIGTERM)
        begin = time.monotonic()
        _, err = process.communicate(timeout=20)
    assert time.monotonic() - begin < 2
    assert process.returncode == 143
    assert "saved, but not tested; continue with: --resume --run-dir" in err
    cut = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (cut["status"], cut["test"]) == ("preempted", None)
    command = [sys.executable, "train.py", "--resume", "--run-dir", tmp_path / "a", "--no-figures"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    whole = json.loads((tmp_path / "a" / "summary.json").read_text())
    assert (whole["status"], whole["end"]) == ("finished", cut["end"])


def interrupted(seconds, folder):
    """Send SIGINT to a run after so many seconds; return what it said on stderr and its exit code."""
    command = [sys.executable, "train.py", "--epochs", "9999", "--no-figures", "--run-dir", folder]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        return process.communicate(timeout=120)[1], process.returncode


def verdict(seconds, folder):
    """Return how a run that was interrupted ended: quiet, early or wrong.

    early: before the first line of train.py Python has its own handler, and nobody can replace it.
    """
    said, code = interrupted(seconds, folder)
    if "Fatal Python error: init_" in said:
        return "early"
    if code not in (130, -signal.SIGINT):
        return "wrong"
    if "Traceback" in said or "not installed" in said:
        early = 'train.py", line 0, in <module>\nKeyboardInterrupt' in said or "<frozen site>" in said
        return "early" if early else "wrong"
    return "quiet"


def test_an_interrupt_while_libraries_load_leaves_no_traceback_and_no_folder(tmp_path):
    assert verdict(0.6, tmp_path / "run") == "quiet"
    assert not (tmp_path / "run").exists()


@pytest.mark.campaign
def test_forty_interrupts_in_the_first_three_seconds(tmp_path):
    rng = random.Random(int(os.environ.get("SIGNAL_SEED", "0")))
    verdicts = {t: verdict(t, tmp_path / str(t)) for t in (rng.uniform(0, 3) for _ in range(40))}
    print(collections.Counter(verdicts.values()))
    assert {t: v for t, v in verdicts.items() if v == "wrong" or (v == "early" and t > 0.5)} == {}


def test_handlers_and_wakeup_pipe_are_restored():
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(n) for n in numbers]
    threads = threading.active_count()
    with StopSignals() as stop:
        assert not stop
        assert stop.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop
        assert stop.exit_code == 143
        signal.raise_signal(signal.SIGINT)
        assert stop.exit_code == 143  # the first one counts
    assert [signal.getsignal(n) for n in numbers] == before
    assert signal.set_wakeup_fd(-1) == -1
    assert threading.active_count() == threads


def test_outside_the_main_thread_it_catches_nothing():
    seen = []

    def work():
        with StopSignals() as stop:
            seen.append((bool(stop), stop.exit_code))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, 0)]
    assert signal.getsignal(signal.SIGTERM) == before
