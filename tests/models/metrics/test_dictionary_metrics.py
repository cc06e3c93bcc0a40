"""Metrics of dictionaries beside known features: dictionaries whose numbers can be written down."""

import numpy as np
import pytest

from models.metrics.known import dictionary as d

RNG = np.random.default_rng(0)
TRUE = np.linalg.qr(RNG.normal(size=(8, 8)))[0][:5]  # orthonormal rows
PARENT = np.array([-1, 0, 0, -1, -1])


def coefficients(n=400):
    """Features 1 and 2 are children of 0, never both on; 3 and 4 are free."""
    on = RNG.random((n, 5)) < 0.4
    on[:, 2] &= ~on[:, 1]
    on[:, 0] |= on[:, 1] | on[:, 2]
    return on * RNG.uniform(0.5, 1.5, (n, 5))


def test_a_perfect_dictionary_in_any_order_and_with_idle_units():
    order, c = RNG.permutation(5), coefficients()
    columns, codes = np.concatenate([3 * TRUE[order], RNG.normal(size=(2, 8))]), np.pad(c[:, order], ((0, 0), (0, 2)))
    assert d.mean_cosine(columns, TRUE) == pytest.approx(1, abs=1e-12)
    assert d.detection(codes, c, d.matching(columns, TRUE)) == (1, 1, 1)
    assert d.absorption(columns, TRUE, codes, c, PARENT) == 0
    assert d.uniqueness(columns[:5], TRUE) == 1
    assert d.in_use(codes) == (pytest.approx((c != 0).sum(1).mean()), pytest.approx(2 / 7))
    back = codes @ (columns * np.r_[np.full(5, 1 / 3), 1, 1][:, None])
    assert d.explained_variance(c @ TRUE, back) == pytest.approx(1)


@pytest.mark.parametrize("angle", [0.3, 0.7])
def test_a_rotated_dictionary_has_the_cosine_of_its_angle(angle):
    """Every direction is turned into a fresh dimension by the same angle."""
    directions = np.eye(4, 8)
    turned = np.cos(angle) * np.eye(4, 8) + np.sin(angle) * np.eye(8)[4:]
    assert d.mean_cosine(turned, directions) == pytest.approx(np.cos(angle), abs=1e-12)
    assert d.mean_cosine(turned[:2], directions) == pytest.approx(np.cos(angle) / 2, abs=1e-12)  # two are not found


def test_units_that_share_a_feature_are_not_unique():
    columns = np.concatenate([TRUE[:1], TRUE[:1], TRUE[:2]])
    assert d.uniqueness(columns, TRUE) == 0.5
    assert d.uniqueness(columns, TRUE, np.array([False, False, True, True])) == 1


def test_f1_of_a_unit_that_is_always_on_and_of_one_that_misses_half():
    c = np.tile([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], (5, 1))
    codes = c.copy()
    codes[:, 0] = 1
    codes[::4, 1] = codes[2::4, 1] = 0  # on in every second example with its feature
    found = d.detection(codes, c, d.matching(np.eye(2), np.eye(2)))
    assert found == pytest.approx(((2 / 3 + 2 / 3) / 2, (0.5 + 1) / 2, (1 + 0.5) / 2))


def test_a_child_that_speaks_for_its_parent_absorbs_it():
    """The column of feature 1 is (1 + 0)/√2, and unit 0 is silent wherever 1 is on; without silence there is none."""
    c = coefficients()
    columns = TRUE.copy()
    columns[1] = (TRUE[0] + TRUE[1]) / np.sqrt(2)
    codes = c.copy()
    assert d.absorption(columns, TRUE, codes, c, PARENT) == 0
    codes[c[:, 1] != 0, 0] = 0
    assert d.absorption(columns, TRUE, codes, c, PARENT) == pytest.approx(1 / 2)  # one child of two
    assert d.absorption(TRUE, TRUE, codes, c, PARENT) == 0  # silent, but the child's column does not hold it
