"""Arrows go one way: experiments > train.py > training > models > grads, data; inside a package too; no circles."""

import pytest

from . import source

# One line is one rung: its items do not import each other, and each imports only rungs below.
ORDERS = {
    "": ["experiments", "train", "training", "models", "grads data"],
    "models": [
        "metrics",
        "autoencoder",
        "objectives terms",
        "posteriors",
        "priors",
        "likelihoods",
        "networks",
        "codes",
        "maps",
        "batch distributions linear config",
    ],
    "training": [
        "trained",
        "host",
        "cli evaluate",
        "devices inputs pictures players",
        "examples optimizers",
        "store signals terms",
    ],
    "experiments": [
        "__main__ apply evaluate",
        "benchmarks",
        "command",
        "tables search",
        "jacobians reporting",
        "running",
    ],
    "data": [
        "stream",
        "disk",
        "load",
        "sets",
        "tfds",
        "cache",
        "files",
        "splits stored",
        "dataset",
        "scale",
        "options",
        "errors",
    ],
    "grads": [
        "testing",
        "active explain products",
        "hessian jacobian",
        "methods",
        "costs per_example",
        "calls",
        "programs",
        "matrices",
        "arguments modules",
    ],
}


@pytest.mark.parametrize("package", ORDERS)
def test_imports_go_down(package):
    wrong, unknown = source.against(ORDERS[package], source.edges(), package)
    assert not unknown, f"give these a rung in ORDERS: {unknown}"
    assert not wrong


def test_no_circles_among_files():
    assert source.circles(source.edges()) == []


def test_the_reader_sees_an_arrow_and_a_circle():
    """Both laws above can fail: an import put upside down is found, and so is a circle of three."""
    graph = {a: frozenset({b}) for a, b in (("models.a", "train"), ("train", "training.b"), ("training.b", "models.a"))}
    assert source.against(ORDERS[""], graph)[0] == ["models.a imports train"]
    assert source.circles(graph) == [["models.a", "train", "training.b"]]
    assert {"training", "models.objectives", "data"} <= source.edges()["train"]
    assert source.against(["a b", "c"], {"p.a": frozenset({"p.b"}), "p.b.x": frozenset({"p.c"})}, "p")[0] == [
        "p.a imports p.b"
    ]
