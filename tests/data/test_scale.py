"""Scales: fitted in blocks, decided by values and not by types, inverted, saved."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import data
from data import scale
from data.errors import DataError

RNG = np.random.default_rng(1)


def fit(kind, x, known=None):
    return scale.fit(kind, lambda: scale.measure(scale.blocks(x)), x.shape[1:], "a", known)


@given(st.integers(1, 3000), st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
@settings(max_examples=25, deadline=None)
def test_blocks_measure_what_numpy_does(n, mean, std):
    x = np.random.default_rng(n).normal(mean, std, (n, 3))
    found = scale.measure(scale.blocks(x))
    np.testing.assert_allclose(found.mean, x.mean(0), rtol=1e-9, atol=1e-9 * std)
    np.testing.assert_allclose(found.std, x.std(0), rtol=1e-6, atol=1e-9 * abs(mean))
    assert found.range == (x.min(), x.max())


@pytest.mark.parametrize(
    ("x", "kind"),
    [
        (RNG.integers(0, 256, (50, 4, 4, 1)), "unit"),
        (RNG.integers(0, 2, (50, 4, 4, 1)), "none"),
        (RNG.random((50, 4, 4, 1)), "none"),
        (RNG.integers(0, 60_000, (50, 4, 4, 1)), "standardise"),
        (RNG.integers(0, 256, (50, 9)), "standardise"),  # a table of whole numbers is no picture
        (RNG.integers(0, 2, (50, 9)), "none"),
        (RNG.random((50, 9)), "none"),
        (RNG.random((50, 2)) * [1, 1e-3], "standardise"),  # within [0, 1], on different scales
        (RNG.normal(size=(50, 9)), "standardise"),
    ],
)
def test_auto_is_decided_by_values_whatever_their_type(x, kind):
    for dtype in (x.dtype, np.float64, np.float32):
        assert fit("auto", x.astype(dtype)).kind == kind


@pytest.mark.parametrize("kind", ["standardise", "minmax"])
def test_columns_are_scaled_and_inverted_and_constants_kept_at_zero(kind):
    x = RNG.normal(size=(200, 4)) * [1, 1e6, 1e-6, 0] + [0, 1e9, 3, 7]
    made = fit(kind, x)
    z = made.apply(x)
    np.testing.assert_array_equal(z[:, 3], 0)
    if kind == "standardise":
        np.testing.assert_allclose(z[:, :3].mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(z[:, :3].std(0), 1, rtol=1e-5)
    else:
        np.testing.assert_allclose([z[:, :3].min(0), z[:, :3].max(0)], [[0] * 3, [1] * 3], atol=1e-6)
    np.testing.assert_allclose(made.invert(z), x, rtol=1e-6, atol=1e-6)
    again = data.Scale.from_json(json.loads(json.dumps(made.to_json())))
    np.testing.assert_array_equal(again.apply(x), z)


def test_a_column_that_only_varies_later_stays_at_zero():
    assert np.all(fit("standardise", np.zeros((20, 2))).apply(np.ones((3, 2))) == 0)


@pytest.mark.parametrize(
    "values", [{}, None, {"kind": "unit", "shift": "x", "factor": 1}, {"kind": 3, "shift": 0, "factor": 1}]
)
def test_what_is_no_saved_scale_is_refused(values):
    with pytest.raises(DataError, match="not a saved scale"):
        data.Scale.from_json(values)


def test_unit_needs_a_known_range():
    assert fit("unit", RNG.integers(0, 60_000, (50, 4, 4, 1))).factor == 1 / 65535
    assert fit("unit", np.full((9, 2), 16.0), (0.0, 16.0)).factor == 1 / 16
    with pytest.raises(DataError, match="use --scale minmax"):
        fit("unit", RNG.normal(size=(50, 3)))


@pytest.mark.parametrize("save", ["npy int", "npy float", "npz", "csv", "csv.gz", "tsv"])
def test_the_same_numbers_give_the_same_training_set(tmp_path, save):
    import gzip

    table = RNG.integers(0, 300, (60, 5))
    path = tmp_path / {"npy int": "a.npy", "npy float": "a.npy"}.get(save, f"a.{save}")
    if save == "npz":
        np.savez(path, X=table.astype(np.float32))
    elif save.startswith("npy"):
        np.save(path, table.astype(int if save.endswith("int") else float))
    else:
        separator = "\t" if save == "tsv" else ","
        text = "\n".join(separator.join(map(str, row)) for row in table)
        path.write_bytes(gzip.compress(text.encode()) if save.endswith("gz") else text.encode())
    np.save(tmp_path / "reference.npy", table)
    found, wanted = (data.load(f"file:{p}") for p in (path, tmp_path / "reference.npy"))
    for part in ("train", "validation", "test"):
        a, b = (s.scale.apply(s.splits[part].x) for s in (found, wanted))
        np.testing.assert_array_equal(a, b)
        assert found.splits[part].x.dtype == wanted.splits[part].x.dtype
