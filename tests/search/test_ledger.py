"""The ledger: one result per trial, whatever is killed, full, damaged or shared."""

import errno
import json
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from experiments.benchmarks.ledger import measure
from experiments.search.record import lease as leases
from experiments.search.record.ledger import Ledger, LedgerError
from training.store.trial import encode

SPACE = {"space": {"lr": [1, 2]}, "sampler": "random"}
RESULT = {"status": "ok", "reason": "", "metrics": {"loss": 0.1 + 0.2}}


@pytest.fixture
def ledger(tmp_path):
    made = Ledger(tmp_path / "sweep", patience=0.3)
    made.open(SPACE)
    return made


def age(lease, seconds=100.0, machine="another machine"):
    """Make a lease look like one of a silent process elsewhere."""
    lease.path.write_text(json.dumps({"machine": machine, "pid": 1, "start": ""}))
    os.utime(lease.path, (time.time() - seconds,) * 2)


def test_a_result_is_read_as_it_was_published(ledger):
    (lease,) = ledger.claim(["a"])
    odd = {"status": "diverged", "reason": 'é "quoted"\n', "metrics": {"loss": float("inf"), "kl": 1e-300}}
    assert ledger.publish(lease, {"point": 0}, odd)
    record = ledger.read("a")
    assert record["result"]["reason"] == odd["reason"]
    assert {k: float(v) for k, v in record["result"]["metrics"].items()} == odd["metrics"]
    assert ledger.finished() == {"a"}
    assert os.listdir(ledger.trials) == ["a.json"]  # no lease, no temporary file is left


def test_only_one_process_holds_a_trial(ledger):
    other = Ledger(ledger.folder, patience=60)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda i: (ledger, other)[i % 2].claim([f"t{k}" for k in range(20)]), range(8)))
    keys = sorted(lease.key for got in taken for lease in got)
    assert keys == sorted(f"t{k}" for k in range(20))
    assert other.claim(["t3"]) == []


def test_a_finished_trial_cannot_be_claimed(ledger):
    (lease,) = ledger.claim(["a"])
    ledger.publish(lease, {}, RESULT)
    assert ledger.claim(["a", "b"])[0].key == "b"


def test_a_silent_holder_is_replaced_and_its_late_result_is_refused(ledger):
    (old,) = ledger.claim(["a"])
    age(old)
    (new,) = ledger.claim(["a"])
    assert new.number == old.number + 1
    assert not ledger.publish(old, {}, {**RESULT, "reason": "late"})  # fenced before the new holder is done
    assert ledger.read("a") is None
    assert ledger.publish(new, {}, RESULT)
    assert not ledger.publish(old, {}, {**RESULT, "reason": "later still"})
    assert ledger.read("a")["result"] == RESULT


def test_a_beating_lease_is_not_taken_over(ledger):
    held = ledger.claim(["a"])
    age(held[0], 0)
    with ledger.heartbeat(held):
        for _ in range(8):
            time.sleep(0.1)
            assert ledger.claim(["a"]) == []
    time.sleep(0.5)
    assert len(ledger.claim(["a"])) == 1


def test_two_that_take_over_at_once_do_not_both_succeed(ledger):
    for k in range(20):
        age(ledger.claim([f"t{k}"])[0])
    barrier = threading.Barrier(4)

    def rush(_):
        barrier.wait()
        return [lease.key for k in range(20) for lease in Ledger(ledger.folder, 5).claim([f"t{k}"])]

    with ThreadPoolExecutor(4) as pool:
        taken = sorted(key for keys in pool.map(rush, range(4)) for key in keys)
    assert taken == sorted(f"t{k}" for k in range(20))


def test_the_lease_of_a_dead_process_is_free_at_once(ledger):
    code = f"""
from experiments.search.record.ledger import Ledger
print(len(Ledger({str(ledger.folder)!r}).claim(["a"])), flush=True)
import os; os.kill(os.getpid(), 9)"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "1"
    assert len(Ledger(ledger.folder, patience=1e9).claim(["a"])) == 1


def test_a_reused_process_number_is_not_mistaken_for_the_holder():
    me = leases.identity()
    if not me["start"]:
        pytest.skip("this system does not tell when a process began (/proc)")
    assert not leases.is_dead(me)
    assert leases.is_dead({**me, "start": "1"})
    assert not leases.is_dead({**me, "machine": "elsewhere", "pid": 2**22 + 1})


@pytest.mark.parametrize("damage", [b"", b"{", b"\x00" * 300, "flip", "other key"])
def test_a_damaged_file_is_named_set_aside_and_its_trial_runs_again(ledger, damage):
    for key in ("a", "b"):
        ledger.publish(ledger.claim([key])[0], {}, RESULT)
    path = ledger.trials / "a.json"
    data = path.read_bytes()
    if damage == "flip":
        damage = data.replace(b"0.3000", b"0.2000")
    elif damage == "other key":
        damage = (ledger.trials / "b.json").read_bytes()
    assert damage != data
    path.write_bytes(damage)
    assert ledger.read("a") is None
    assert ledger.damaged == ["a.json"]
    assert (ledger.trials / "a.damaged.1").read_bytes() == damage
    assert ledger.publish(ledger.claim(["a"])[0], {}, RESULT)
    assert ledger.read("a")["result"] == RESULT


WRONG = {
    "record": [[], None, 3, "text"],
    "spec": [None, [], "text"],
    "result": [None, {}, {**RESULT, "metrics": []}, {**RESULT, "status": 1}, {**RESULT, "reason": None}],
    "metrics": [{"loss": "abc"}, {"loss": None}, {"loss": [1]}],
    "timing": [None, {}, {"ended": "now", "seconds": 1, "machine": "m", "pid": 1}],
    "key": [None, 3, ["a"]],
}


@pytest.mark.parametrize(("part", "value"), [(part, v) for part, values in WRONG.items() for v in values])
def test_a_record_whose_fields_have_other_types_is_set_aside_although_its_digest_is_right(ledger, part, value):
    ledger.publish(ledger.claim(["a"])[0], {}, RESULT)
    path = ledger.trials / "a.json"
    record = json.loads(path.read_bytes())["record"]
    if part == "metrics":
        record["result"]["metrics"] = value
    elif part != "record":
        record[part] = value
    path.write_bytes(encode(value if part == "record" else record))
    assert ledger.read("a") is None
    assert ledger.damaged == ["a.json"]


@pytest.mark.parametrize("text", ["[]", "3", "null", '"x"', "[" * 100_000, "\udcff", '{"space": 1}', "{}"])
def test_a_header_of_another_type_is_one_line(ledger, text):
    (ledger.folder / "sweep.json").write_text(text, errors="surrogateescape")
    with pytest.raises(LedgerError) as error:
        Ledger(ledger.folder).open(SPACE, resume=True)
    assert "\n" not in str(error.value)
    assert "sweep" in str(error.value)


LEASES = ["[]", "3", "[" * 100_000, '{"machine": 1}', f'{{"machine": "M", "pid": {10**30}}}', "\udcff"]


@pytest.mark.parametrize("text", LEASES)
def test_a_lease_of_another_type_is_one_of_a_silent_holder(ledger, text):
    (held,) = ledger.claim(["a"])
    held.path.write_text(text.replace("M", leases.MACHINE), errors="surrogateescape")
    assert ledger.claim(["a"]) == []
    os.utime(held.path, (0, 0))
    assert len(ledger.claim(["a"])) == 1


def test_a_full_disk_leaves_no_half_result_and_the_trial_can_run_again(ledger, monkeypatch):
    (lease,) = ledger.claim(["a"])

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        ledger.publish(lease, {}, RESULT, seconds=10.0)
    assert ledger.finished() == set()
    assert os.listdir(ledger.trials) == [lease.path.name]
    monkeypatch.undo()
    monkeypatch.setattr(os, "write", lambda fd, data: full(fd))
    with pytest.raises(OSError, match="No space left"):
        ledger.claim(["b"])
    monkeypatch.undo()
    assert len(ledger.claim(["b"])) == 1
    assert ledger.publish(lease, {}, RESULT)


def test_a_file_system_without_links_still_records_once(ledger, monkeypatch):
    def refuse(*names):
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    (lease,) = ledger.claim(["a"])
    assert ledger.publish(lease, {}, RESULT)
    assert ledger.read("a")["result"] == RESULT
    assert os.listdir(ledger.trials) == ["a.json"]


def test_the_ledger_of_another_space_is_refused_and_unchanged(ledger):
    before = (ledger.folder / "sweep.json").read_bytes()
    with pytest.raises(LedgerError, match=r"another sweep; different: space.lr \(was \[1, 2\], is \[1, 3\]\)"):
        Ledger(ledger.folder).open({**SPACE, "space": {"lr": [1, 3]}}, resume=True)
    with pytest.raises(LedgerError, match="add --resume"):
        Ledger(ledger.folder).open(SPACE)
    assert (ledger.folder / "sweep.json").read_bytes() == before
    Ledger(ledger.folder).open(SPACE, resume=True)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LedgerError, match=r"cannot write in .*file/sweep"):
        Ledger(tmp_path / "file" / "sweep").open(SPACE)


def test_what_dead_processes_left_is_removed_on_opening(ledger):
    ledger.publish(ledger.claim(["a"])[0], {}, RESULT)
    (ledger.trials / "a.lease.1").write_text("{}")
    old = ledger.trials / ".tmp-1-x-b.json"
    old.write_text("half")
    os.utime(old, (0, 0))
    Ledger(ledger.folder).open(SPACE, resume=True)
    assert os.listdir(ledger.trials) == ["a.json"]


def test_the_cost_of_a_trial_does_not_grow_with_the_ledger(tmp_path):
    first, last = measure(tmp_path / "many", 1000, 8, 0.0)
    assert last < 3 * first + 1, f"{last:.2f} ms per trial, {first:.2f} at the start"
