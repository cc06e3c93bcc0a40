"""Trackers: copies of a run's metrics and figures; offline, and never the end of a training."""

import sys

import pytest

from training import RunError, RunFolder
from training.pictures import drawing, trackers

ROWS = [
    {"step": 9 * n, "epoch": n, "train": {"loss": 3.0 / n, "per_unit": [1, 2]}, "validation": {"mse": 1.0 / n}}
    for n in (1, 2, 3)
]
WANTED = {"train/loss": 1.0, "validation/mse": 1 / 3}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with RunFolder.create(tmp_path / "run", {"model": {"latent": 2}}, "") as run:
        yield run


def test_values_are_the_numbers_of_a_row():
    assert trackers.values_of(ROWS[2]) == pytest.approx(WANTED)


def test_tensorboard_gets_every_row_and_picture(run):
    pytest.importorskip("tensorboardX", reason="the extra [tensorboard] is not installed")
    with trackers.Copies(["tensorboard"], run.path, {}) as copies:
        run.metrics.copy = copies
        for row in ROWS:
            run.metrics.append(row)
        drawing.curves(run.figures / "curves.png", ROWS)
        copies.pictures([run.figures / "curves.png"])
    events = b"".join(path.read_bytes() for path in (run.path / "tensorboard").iterdir())
    assert events.count(b"validation/mse") == len(ROWS)
    assert b"curves" in events


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inside MLflow's own database code
def test_mlflow_holds_the_same_numbers(run):
    mlflow = pytest.importorskip("mlflow", reason="the extra [mlflow] is not installed")
    for row in ROWS:
        run.metrics.append(row)
    trackers.send("mlflow", run.path)
    client = mlflow.MlflowClient(f"sqlite:///{run.path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("autoencoders-jax").experiment_id
    (found,) = client.search_runs([experiment])
    assert found.data.metrics == pytest.approx(WANTED)
    assert found.data.params["model.latent"] == "2"
    assert [(m.step, m.value) for m in client.get_metric_history(found.info.run_id, "train/loss")] == [
        (9, 3.0), (18, 1.5), (27, 1.0)
    ]  # fmt: skip


def test_wandb_offline_leaves_its_file(run):
    pytest.importorskip("wandb", reason="the extra [wandb] is not installed")
    for row in ROWS:
        run.metrics.append(row)
    trackers.send("wandb", run.path)
    (file,) = run.path.glob("wandb/offline-run-*/run-*.wandb")
    assert b"validation/mse" in file.read_bytes()


def test_a_tracker_that_fails_is_dropped_and_training_goes_on(run, capsys):
    copies = trackers.Copies([], run.path, {})
    sent = []
    bad = lambda *_: (_ for _ in ()).throw(OSError("the service\nis gone"))
    copies.trackers = {
        "wandb": trackers.Tracker(bad, bad, bad),
        "mlflow": trackers.Tracker(lambda step, values: sent.append(step), lambda path: None, lambda: None),
    }
    run.metrics.copy = copies
    for row in ROWS:
        run.metrics.append(row)
    assert sent == [9, 18, 27]
    assert capsys.readouterr().err == "--log wandb is given up (OSError: the service is gone); training goes on\n"


@pytest.mark.parametrize("kind", ["tensorboard", "wandb", "mlflow"])
def test_without_its_package_the_command_is_named(kind, tmp_path, monkeypatch):
    package = {"tensorboard": "tensorboardX"}.get(kind, kind)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RunError, match=rf"--log {kind} needs {package}; install it with pip install {package}"):
        trackers.send(kind, tmp_path)


def test_what_is_no_run_folder_is_one_line(tmp_path, capsys):
    pytest.importorskip("tensorboardX", reason="the extra [tensorboard] is not installed")
    assert trackers.main(["tensorboard", str(tmp_path)]) == 1
    assert "is no run folder" in capsys.readouterr().err
    assert trackers.main(["tensorboard"]) == 2
    with pytest.raises(RunError, match="there is no tracker 'neptune'"):
        trackers.check(["neptune"])


def test_a_run_is_tracked_while_it_trains(tmp_path, capsys):
    pytest.importorskip("tensorboardX", reason="the extra [tensorboard] is not installed")
    import train

    folder = tmp_path / "run"
    assert train.main(["--run-dir", str(folder), "--epochs", "2", "--log", "tensorboard"]) == 0
    events = b"".join(path.read_bytes() for path in (folder / "tensorboard").iterdir())
    assert events.count(b"validation/mse") == 2
    assert b"reconstructions" in events


def test_a_tracker_without_its_package_is_refused_before_anything_begins(tmp_path, monkeypatch, capsys):
    import train

    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert train.main(["--run-dir", str(tmp_path / "run"), "--log", "tensorboard"]) == 1
    assert "needs tensorboardX" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
