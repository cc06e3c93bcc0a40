"""What a run says at its end: the table of test metrics, or why there is none, and where to look."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from training.cli.progress import result_table
from training.store.checkpoint import steps

NOTHING = 0.1  # nats of KL below which a code says next to nothing about its example


def closing(folder: Path, summary: dict[str, Any]) -> None:
    """Print the last lines of a run."""
    end = summary["end"]
    if summary["status"] == "diverged":
        kept = "the last good checkpoint is kept" if steps(folder / "checkpoints") else "no checkpoint was written yet"
        way = "try a smaller --lr or --updates.clip 1"
        if "data" in end:  # the very first step: nothing has been learned yet that could have gone wrong
            way = f"the data are {end['data']}: try --scale standardise, or else a smaller --lr"
        print(f"diverged: {end['term']} is not finite at step {end['step']}; {kept}; {way}")
    elif summary["status"] == "preempted":
        print(f"stopped at step {end['step']}, saved; continue with: --resume --run-dir {folder}")
    elif summary["status"] == "failed":
        print(f"failed at step {end['step']}: {end['term']}; the last state is in {folder / 'checkpoints'}")
    else:
        result_table("test split", summary["test"])
        if (words := collapsed(summary["test"])) is not None:
            print(words)
    print(f"{folder}: {summary['status']} after {summary['seconds']:.1f} s")


def collapsed(test: Mapping[str, Any]) -> str | None:
    """Return in words that a model's code says nothing, and what usually helps; None where it says something."""
    kl, baseline = test.get("kl_nats"), test.get("baseline_mse")
    mse = test.get("masked_mse", test.get("mse"))  # hidden patches are what a masked autoencoder answers for
    if kl is not None and kl < NOTHING:
        return (
            f"collapsed: the code's KL is {kl:.2g} nats, it says nothing about its example; what usually helps: "
            "a smaller --objective.beta, --objective.warmup-steps, --objective.free-bits 0.1, a smaller scale"
        )
    if mse is not None and baseline is not None and mse >= baseline:
        return (
            f"collapsed: the test MSE {mse:.4g} is not below {baseline:.4g}, that of answering with the training mean; "
            "what usually helps: more --epochs, another --lr, --model.encoder.norm layer, a smaller weight of penalties"
        )
    return None
