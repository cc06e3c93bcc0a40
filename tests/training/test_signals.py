"""A signal is a request the loop sees; a second Ctrl-C is an order."""

import contextlib
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


@contextlib.contextmanager
def start(*arguments):
    command = [sys.executable, "-c", LOOP, *arguments]
    root = Path(__file__).resolve().parents[2]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=root) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
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


def test_handlers_and_wakeup_pipe_are_restored():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    threads = threading.active_count()
    with StopSignals() as stop:
        assert not stop
        assert stop.exit_code == 0
        signal.raise_signal(signal.SIGTERM)
        assert stop
        assert stop.exit_code == 143
        signal.raise_signal(signal.SIGINT)
        assert stop.exit_code == 143  # the first one counts
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
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
