"""Which moments of a training the panel keeps, by a clock of the test's own."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from comfyui_stylegan_fusion.nodes.panel import panel_report, report
from comfyui_stylegan_fusion.nodes.panel.panel import Ended
from comfyui_stylegan_fusion.nodes.panel.panel_report import PanelReport
from comfyui_stylegan_fusion.sds import History

STEPS, STEP_SECONDS = 400, 0.4
LOOKS = {"even": [0.1], "slow at first": [0.9, 0.1], "slow": [1.5], "cheap": [0.001]}


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def trained(panel, node, monkeypatch):
    """A function that trains with looks that take look_seconds, the last of these from then on: the steps that are kept,
    and the share of the time."""

    def train(look_seconds) -> tuple[list[int], float]:
        looks, took, clock = iter(look_seconds), 0.0, Clock()
        for module in (panel_report, report):
            monkeypatch.setattr(module, "time", clock)

        def samples(count):
            nonlocal took
            took = next(looks, took)
            clock.now += took
            return torch.zeros(count, 3, 8, 8)

        panel.begin("a training", STEPS, 3, 0)
        shown = PanelReport(STEPS, node, panel)
        for step in range(1, STEPS + 1):
            clock.now += STEP_SECONDS
            progress = {"step": step, "steps": STEPS, "losses": {}, "warning": None, "history": History()}
            shown(SimpleNamespace(**progress, samples=samples, weights=lambda: {"w": torch.zeros(2)}))
        return panel.moments.steps, shown.spent / clock.now

    return train


def gaps(steps) -> list[int]:
    return [later - earlier for earlier, later in itertools.pairwise(steps)]


@pytest.mark.parametrize("case", LOOKS)
def test_the_last_step_is_kept_and_all_take_little_of_the_time(trained, case):
    steps, share = trained(LOOKS[case])
    assert steps[-1] == 400
    assert share <= 0.02


def test_moments_are_spread_over_the_training(trained):
    # 400 steps of .4 s leave 2.4 s: some 24 moments of .1 s.
    steps, _ = trained(LOOKS["even"])
    assert 20 <= len(steps) <= 26 and max(gaps(steps)) <= 2 * min(gaps(steps)[:-1])


def test_a_slow_first_look_does_not_hold_the_others_back(trained):
    steps, _ = trained(LOOKS["slow at first"])
    assert len(steps) >= 8 and max(gaps(steps)) <= 400 / 5


def test_slow_looks_are_few_and_cheap_ones_not_too_many(trained, panel):
    assert len(trained(LOOKS["slow"])[0]) == 2
    panel.moments.clear()
    assert 38 <= len(trained(LOOKS["cheap"])[0]) <= 41


def test_the_end_cannot_be_asked_for_after_the_last_step(trained, panel):
    trained(LOOKS["even"])
    with pytest.raises(ValueError, match="has done its last step; choose the moment once it has finished"):
        panel.ask_to_end(None)


def made(done: int, rows: list[int]):
    return SimpleNamespace(done=done, count=4, rows=rows, targets=torch.ones(len(rows), 3, 8, 8))


def test_refreshing_targets_is_shown_and_does_not_count_as_steps(panel, node, monkeypatch):
    clock, targets = Clock(), torch.zeros(4, 3, 8, 8)
    for module in (panel_report, report):
        monkeypatch.setattr(module, "time", clock)
    panel.begin("a training", STEPS, 3, 0)
    shown = PanelReport(STEPS, node, panel, targets=targets)
    told = {"steps": STEPS, "losses": {}, "warning": None, "history": History(), "weights": dict}

    def step(number: int) -> None:
        clock.now += 2.0
        shown(SimpleNamespace(step=number, **told, samples=lambda count: torch.zeros(count, 3, 8, 8)))

    step(1)
    step(2)
    clock.now += 20.0
    shown.refreshing(made(2, [1, 7]))
    assert panel.state["refreshing"] == [2, 4] and panel.state["step"] == 2
    assert targets[1].eq(1).all() and targets[[0, 2, 3]].eq(0).all()
    step(3)
    assert panel.state["refreshing"] is None and panel.state["seconds_per_step"] == pytest.approx(2.0)
    panel.ask_to_end(None)
    with pytest.raises(Ended):
        shown.refreshing(made(4, [0, 3]))
