"""Which moments of a training the panel keeps, by a clock of the test's own, in the host's own Python."""

import itertools
import json

import pytest


@pytest.fixture(scope="module")
def found(tmp_path_factory, run_in_host):
    target = tmp_path_factory.mktemp("moments") / "found.json"
    run_in_host("moments_in_host.py", target)
    return json.loads(target.read_text())


def gaps(steps) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(steps)]


@pytest.mark.parametrize("case", ["even", "slow at first", "slow", "cheap"])
def test_the_last_step_is_kept_and_all_take_little_of_the_time(found, case):
    assert found[case]["steps"][-1] == 400
    assert found[case]["share"] <= 0.02


def test_moments_are_spread_over_the_training(found):
    # 400 steps of .4 s leave 2.4 s: some 24 moments of .1 s.
    steps = found["even"]["steps"]
    assert 20 <= len(steps) <= 26 and max(gaps(steps)) <= 2 * min(gaps(steps)[:-1])


def test_a_slow_first_look_does_not_hold_the_others_back(found):
    steps = found["slow at first"]["steps"]
    assert len(steps) >= 8 and max(gaps(steps)) <= 400 / 5


def test_slow_looks_are_few_and_cheap_ones_not_too_many(found):
    assert len(found["slow"]["steps"]) == 2
    assert 38 <= len(found["cheap"]["steps"]) <= 41


def test_the_end_cannot_be_asked_for_after_the_last_step(found):
    assert "has done its last step; choose the moment once it has finished" in found["asked at the end"]
