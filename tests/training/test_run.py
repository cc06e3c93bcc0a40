"""The command line from end to end: results, restarts, signals, refusals. Small runs on the bundled digits."""

import functools
import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import train as T
from tests.conftest import ROOT
from training import host
from training.cli.parse import load_config, parse
from training.host import Pace
from training.inputs import load_inputs
from training.store.arrays import params_sha256
from training.store.checkpoint import load, restore_like, steps
from training.store.metrics_file import read_metrics

SMALL = ["--model.encoder.hidden", "16", "--model.latent", "2", "--epochs", "4", "--no-figures", "--dispatch", "loop"]


def run(*options, expect=0, pace=Pace()):
    """Run the command line in this process; return nothing but fail on another exit code."""
    try:
        code = T.main([*map(str, options)], pace)
    except SystemExit as leave:
        code = leave.code
    assert code == expect


def summary(folder):
    return json.loads((folder / "summary.json").read_text())


def rows(folder):
    """Return the rows of metrics without their seconds."""
    return [{**row, "seconds": None} for row in read_metrics(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    run("--run-dir", folder, *SMALL)
    return folder


def test_a_run_leaves_what_the_readme_says(finished):
    names = {p.name for p in finished.iterdir()}
    assert {"config.json", "command.txt", "env.json", "metrics.jsonl", "summary.json", "checkpoints"} <= names
    result = summary(finished)
    assert result["status"] == "finished"
    assert {"negative_elbo_nats", "bits_per_dim", "mse", "rmse", "mae"} <= set(result["test"])
    np.testing.assert_allclose(result["test"]["rmse"] ** 2, result["test"]["mse"], rtol=1e-5)
    bits = result["test"]["negative_elbo_nats"] / (64 * np.log(2))
    np.testing.assert_allclose(result["test"]["bits_per_dim"], bits, rtol=1e-5)
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert [row["epoch"] for row in rows] == [1, 2, 3, 4]


def test_from_repeats_a_run_and_seeds_differ(finished, tmp_path):
    run("--from", finished, "--run-dir", tmp_path / "b", "--no-figures", "--dispatch", "loop")
    assert summary(tmp_path / "b")["params_sha256"] == summary(finished)["params_sha256"]
    run("--from", finished, "--run-dir", tmp_path / "c", "--seed", 1, "--no-figures", "--dispatch", "loop")
    assert summary(tmp_path / "c")["params_sha256"] != summary(finished)["params_sha256"]


def test_chunks_do_not_change_the_result(finished, tmp_path):
    """A dispatch of one step, always, against chunks of whole epochs: the same bits."""
    run("--from", finished, "--run-dir", tmp_path / "b", "--no-figures", "--dispatch", "loop", pace=Pace(chunk=1))
    assert summary(tmp_path / "b")["params_sha256"] == summary(finished)["params_sha256"]


def test_a_codebook_and_a_second_player_resume_to_the_same_bits(tmp_path):
    """Both are state beside the parameters: running means and counts, a critic and its optimizer."""
    parts = ["--model.posterior", "vq", "--model.posterior.entries", 8, "--model.prior", "codes", "--objective"]
    parts += ["reconstruction", "--terms", "commitment", "adversarial", "--model.encoder.hidden", 8]
    parts += ["--model.latent", 4, "--epochs", 2, "--batch_size", 400, "--no-figures", "--dispatch", "loop"]
    run(*parts, "--run-dir", tmp_path / "a")

    def interrupt(step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    run(*parts, "--run-dir", tmp_path / "b", expect=143, pace=Pace(chunk=1, after=interrupt))
    run("--resume", "--run-dir", tmp_path / "b")
    assert summary(tmp_path / "b")["params_sha256"] == summary(tmp_path / "a")["params_sha256"]
    assert rows(tmp_path / "b") == rows(tmp_path / "a")


def test_resume_after_an_interrupt_is_bit_identical(finished, tmp_path):
    folder = tmp_path / "b"
    beats = []

    def interrupt(step):
        beats.append(step)
        if step == 13:
            os.kill(os.getpid(), signal.SIGTERM)

    options = ["--from", finished, "--run-dir", folder, "--no-figures", "--dispatch", "loop"]
    run(*options, expect=143, pace=Pace(chunk=1, after=interrupt))
    assert summary(folder)["status"] == "preempted"
    assert beats[-1] in (13, 14)
    run("--resume", "--run-dir", folder)
    assert summary(folder)["status"] == "finished"
    assert summary(folder)["params_sha256"] == summary(finished)["params_sha256"]
    assert summary(folder)["test"] == summary(finished)["test"]
    assert rows(folder) == rows(finished)


def test_a_damaged_checkpoint_is_refused_and_the_one_before_used(finished, tmp_path, capsys):
    options = ["--from", finished, "--run-dir", tmp_path / "b", "--no-figures", "--dispatch", "loop", "--patience", 9]
    run(*options, pace=Pace(save_seconds=0))
    folder = tmp_path / "b"
    newest = folder / "checkpoints" / f"step-{steps(folder / 'checkpoints')[0]:09d}.safetensors"
    raw = bytearray(newest.read_bytes())
    raw[-20] ^= 1
    newest.write_bytes(raw)
    before = summary(folder)
    (folder / "summary.json").unlink()
    (folder / "checkpoints" / "best.safetensors").unlink()
    run("--resume", "--run-dir", folder, "--no-figures")
    assert "refused" in capsys.readouterr().out
    assert summary(folder)["params_sha256"] == before["params_sha256"]


def test_early_stopping_tests_the_best(finished, tmp_path):
    folder = tmp_path / "b"
    options = ["--lr", 0.3, "--patience", 1, "--epochs", 30, "--run-dir", folder, "--no-figures", "--dispatch", "loop"]
    run("--from", finished, *options)
    result = summary(folder)
    assert result["end"]["stopped_early"]
    assert result["last"]["epoch"] == result["best"]["epoch"] + 1
    assert result["best"]["metrics"] != result["last"]["validation"]


def test_the_summary_says_whose_the_test_numbers_are(finished, tmp_path):
    folder = tmp_path / "b"
    options = ["--lr", 0.3, "--patience", 1, "--epochs", 30, "--run-dir", folder, "--no-figures", "--dispatch", "loop"]
    run("--from", finished, *options)
    for path, which, file in ((folder, "best", "best"), (finished, "last", "step-000000036")):
        result = summary(path)
        assert (result["tested"], result["tested_file"]) == (which, f"checkpoints/{file}.safetensors")
        config = load_config(T.Config, str(path))[0]
        inputs = load_inputs(config, None)
        state = T.init(config, jax.random.key(0), inputs.splits["train"])
        state = restore_like(state, path / result["tested_file"])
        assert params_sha256(nnx.state(state.model, nnx.Param)) == result["params_sha256"]
        got = T.evaluate(config, state, inputs.splits["test"], jax.random.fold_in(jax.random.key(0), 2))
        np.testing.assert_allclose(got["mse"], result["test"]["mse"], rtol=1e-9)
    assert len(summary(finished)["kl_per_dim_nats"]) == 2
    assert summary(finished)["test"]["baseline_mse"] > 0


def test_resuming_a_finished_run_without_figures_draws_them(finished, tmp_path):
    run("--from", finished, "--run-dir", tmp_path / "b", "--no-figures")
    before = summary(tmp_path / "b")
    assert not list((tmp_path / "b" / "figures").iterdir())
    run("--resume", "--run-dir", tmp_path / "b")
    assert (tmp_path / "b" / "figures" / "reconstructions.png").exists()
    after = summary(tmp_path / "b")
    assert set(after["figures"]) >= {"reconstructions.png", "curves.png"}
    assert {k: v for k, v in after.items() if k not in ("figures", "digest")} == {
        k: v for k, v in before.items() if k not in ("figures", "digest")
    }


def test_divergence_stops_and_names_the_cause(finished, tmp_path, capsys):
    """At lr 1e38, near the end of float32, a loss of the first steps, or the gradient before it, is the first to go."""
    options = ["--optimizer", "sgd", "--lr", "1e38", "--run-dir", tmp_path / "b", "--no-figures", "--dispatch", "loop"]
    run("--from", finished, *options, expect=1)
    result = summary(tmp_path / "b")
    assert result["status"] == "diverged"
    assert (result["end"]["term"], result["end"]["step"]) in {
        *((loss, step) for loss in ("nll", "kl") for step in (1, 2)),
        *(("gradient", step) for step in (0, 1, 2)),
    }
    assert "diverged" in capsys.readouterr().out


def test_a_gradient_noticed_late_is_named_by_replaying(tmp_path):
    """A chunk of many steps sees the ruined loss of step 4; the replay finds the gradient of step 3."""

    def ruined(state, *args):
        new = T.train_step(state, *args)
        ruin = lambda a: jnp.where(state.step == 3, jnp.nan, a) if jnp.issubdtype(a.dtype, jnp.floating) else a
        return new._replace(model=jax.tree.map(ruin, new.model))

    core = T.CORE._replace(train_steps=functools.partial(T.train_steps, step=ruined))
    command = parse(T.Config, ["--run-dir", str(tmp_path / "b"), "--lr", "0.002", *SMALL], "")
    assert host.fit(core, command, Pace(chunk=9))[2] == 1
    end = summary(tmp_path / "b")["end"]
    assert (end["term"], end["step"]) == ("gradient", 3)


def test_a_stream_trains_and_resumes(tmp_path):
    options = ["--read", "stream", "--epochs", "2", *SMALL[:4], "--no-figures"]
    run("--run-dir", tmp_path / "a", *options)

    def interrupt(step):
        if step == 5:
            os.kill(os.getpid(), signal.SIGINT)

    run("--run-dir", tmp_path / "b", *options, expect=130, pace=Pace(chunk=1, after=interrupt))
    run("--resume", "--run-dir", tmp_path / "b", "--no-figures")
    assert summary(tmp_path / "a")["params_sha256"] == summary(tmp_path / "b")["params_sha256"]


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--epoch", "3"], 2, ["--epoch", "did you mean --epochs"]),
        (["--dataset", "mnits"], 2, ["mnits", "mnist"]),
        (["--lr", "fast"], 2, ["--lr", "fast"]),
        (["--lr", "-1"], 2, ["lr must be > 0", "-1"]),
        (["--model.latent", "0"], 2, ["latent", "0"]),
        (["--batch-size", "100000"], 2, ["batch_size", "100000"]),
        (["--objective", "elbow"], 2, ["elbow", "elbo"]),
        (["--model.encoder", "conv", "--model.encoder.channels"], 2, ["channels"]),
        (["--model.posterior", "point"], 2, ["posterior"]),
        (["--resume"], 2, ["--run-dir"]),
        (["--from", "/no/such/run"], 2, ["/no/such/run"]),
        (["--dataset", "file:/no/such.npz"], 1, ["/no/such.npz"]),
        (["--run-dir", "/proc/nowhere"], 1, ["/proc/nowhere", "--run-dir"]),
        (["--optimizer", "optax", "--optimizer.name", "adma"], 2, ["adma", "adam"]),
    ],
)
def test_bad_input_is_one_line_with_the_way_out(options, code, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run(*options, expect=code)
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1, said
    for word in words:
        assert word in said
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_a_folder_in_use_or_done_is_refused(finished, capsys):
    before = (finished / "summary.json").read_bytes()
    run("--run-dir", finished, expect=1)
    assert "--resume" in capsys.readouterr().err
    run("--resume", "--run-dir", finished, "--lr", 0.5, expect=2)
    assert "lr" in capsys.readouterr().err
    assert (finished / "summary.json").read_bytes() == before


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(10))
def test_a_kill_at_any_moment_is_survived(number, tmp_path_factory):
    """Two SIGKILLs each, at random moments of compile, train, evaluate and save; resumed until done: the same hash."""
    root = tmp_path_factory.getbasetemp()
    options = ["--epochs", "60", "--no-figures", "--run-dir"]
    command = [sys.executable, "train.py", *options]
    whole = root / "whole"
    if not (whole / "summary.json").exists():
        begin = time.monotonic()
        subprocess.run([*command, whole], cwd=ROOT, check=True, capture_output=True)
        (root / "seconds").write_text(str(time.monotonic() - begin))
    seconds = float((root / "seconds").read_text())
    folder, rng, kills = root / f"killed-{number}", np.random.default_rng(number), 0
    while True:
        process = subprocess.Popen([*command, folder, "--resume"], cwd=ROOT, stdout=-3, stderr=-3)
        if kills == 2:
            assert process.wait() == 0
            break
        try:
            process.wait(rng.uniform(0.2, 1.0) * seconds)
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    assert summary(folder)["params_sha256"] == summary(whole)["params_sha256"]
    assert summary(folder)["test"] == summary(whole)["test"]


def state_of(folder, file):
    """The checkpoint's arrays."""
    return load(folder / "checkpoints" / file).arrays


def test_init_from_starts_from_the_weights_that_were_tested(finished, tmp_path, capsys):
    """One step at a rate of next to nothing leaves the weights where they came from."""
    still = ["--lr", 1e-30, "--epochs", 1, "--run-dir"]
    run("--from", finished, "--init-from", finished, "--no-figures", *still, tmp_path / "b")
    assert summary(tmp_path / "b")["params_sha256"] == summary(finished)["params_sha256"]
    said = capsys.readouterr().out
    assert "--init-from: weights of" in said
    assert "optimizer fresh" in said
    record = json.loads((tmp_path / "b" / "config.json").read_text())["init_from"]
    assert record["params_sha256"] == summary(finished)["params_sha256"]
    run("--from", finished, "--no-figures", *still, tmp_path / "c")
    assert summary(tmp_path / "c")["params_sha256"] != summary(finished)["params_sha256"]
    assert "not its weights" in capsys.readouterr().out
    run("--from", finished, "--init-from", finished, "--init-optimizer", "kept", "--no-figures", *still, tmp_path / "d")
    moments = [name for name in state_of(finished, "step-000000036.safetensors") if ".mu" in name]
    assert moments
    old = state_of(finished, "step-000000036.safetensors")
    fresh, kept = (state_of(tmp_path / f, "step-000000009.safetensors") for f in "bd")
    count = next(name for name in old if name.endswith(".count"))
    assert (int(fresh[count]), int(kept[count])) == (9, 45)


def test_init_from_another_model_is_refused_in_one_line(finished, tmp_path, capsys):
    options = ["--init-from", finished, "--model.latent", 3, "--run-dir", tmp_path / "b"]
    run("--from", finished, *options, expect=1)
    said = capsys.readouterr().err.strip()
    assert len(said.splitlines()) == 1
    assert "--init-from" in said
    run("--init-from", tmp_path / "nowhere", "--run-dir", tmp_path / "c", expect=1)
    assert "there is no run" in capsys.readouterr().err
    other = ["--init-from", finished, "--init-optimizer", "kept", "--optimizer", "sgd", "--run-dir", tmp_path / "d"]
    run("--from", finished, *other, expect=1)
    assert "its optimizer is another one" in capsys.readouterr().err
    run("--resume", "--init-from", tmp_path, "--run-dir", finished, expect=1)
    assert "began with fresh weights" in capsys.readouterr().err


@pytest.mark.parametrize("alone", [["--init-optimizer", "kept"], ["--accept", "data"]])
def test_an_option_without_the_one_it_is_for_is_refused(alone, tmp_path, capsys):
    run(*alone, "--run-dir", tmp_path / "a", expect=2)
    assert "needs --" in capsys.readouterr().err


def test_resume_with_more_epochs_is_the_longer_run(finished, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run("--from", finished, "--epochs", 3, "--no-figures", "--run-dir", whole, "--dispatch", "loop")
    capsys.readouterr()
    run("--from", finished, "--epochs", 2, "--no-figures", "--run-dir", parts, "--dispatch", "loop", "--resume")
    assert "holds no run yet, a new one starts" in capsys.readouterr().out
    run("--resume", "--epochs", 3, "--no-figures", "--run-dir", parts)
    assert summary(parts)["params_sha256"] == summary(whole)["params_sha256"]
    assert summary(parts)["test"] == summary(whole)["test"]
    assert rows(parts) == rows(whole)
    run("--resume", "--no-figures", "--run-dir", parts)
    run("--resume", "--epochs", 1, "--run-dir", parts, expect=2)


def test_a_schedule_that_needs_the_number_of_epochs_names_init_from(finished, tmp_path, capsys):
    folder = tmp_path / "b"
    run("--from", finished, "--schedule", "cosine", "--epochs", 1, "--no-figures", "--run-dir", folder)
    run("--resume", "--epochs", 2, "--run-dir", folder, expect=2)
    assert f"--init-from {folder}" in capsys.readouterr().err
