"""The race of timers: who runs when, how often, and when it stops."""

import time

import jax.numpy as jnp
import pytest

from grads.costs.timing import best, race, timed


def test_calls_take_turns():
    seen = []
    times = race({"a": lambda: seen.append("a"), "b": lambda: seen.append("b")}, turns=2, each=2)
    assert "".join(seen) == "ab" + 2 * "aabb"  # once untimed, then in turns
    assert {name: len(t) for name, t in times.items()} == {"a": 4, "b": 4}


@pytest.mark.parametrize(
    ("how", "count"), [({"turns": 3}, 3), ({"turns": 1, "seconds": 60, "most": 4}, 4), ({"turns": 9, "most": 2}, 2)]
)
def test_it_stops_after_turns_and_time_and_at_the_most(how, count):
    assert len(race({"": lambda: None}, warm=False, **how)[""]) == count


def test_it_goes_on_until_the_seconds_are_spent():
    times = race({"": lambda: time.sleep(0.01)}, turns=1, seconds=0.05)[""]
    assert 3 <= len(times) <= 6
    assert sum(times) >= 0.03


def test_seconds_are_those_of_the_call_and_best_is_the_shortest():
    pauses = iter([0.0, 0.03, 0.01, 0.03])  # the first run is not timed
    shortest = best({"": lambda: time.sleep(next(pauses))}, turns=3)[""]
    assert 0.01 <= shortest < 0.03
    took, result = timed(lambda: jnp.ones(3) + 1)
    assert took > 0
    assert result.tolist() == [2, 2, 2]
