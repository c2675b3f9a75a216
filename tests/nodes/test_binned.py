"""Curves in few points: means over bins of neighbouring steps."""

import random

import pytest
from comfyui_stylegan_fusion.nodes.panel.binned import Binned


def test_few_values_stay_as_they_are():
    curve = Binned(10)
    for step, value in [(1, 0.5), (2, 0.25), (5, 1.0)]:
        curve.add(step, {"sds": value})
    assert curve.means("sds") == ([1, 2, 5], [0.5, 0.25, 1.0])


def test_many_values_become_means_of_neighbours():
    draw = random.Random(1)
    values = {step: draw.random() for step in range(1, 1001)}
    curve = Binned(50)
    for step, value in values.items():
        curve.add(step, {"sds": value})
    steps, means = curve.means("sds")
    assert len(steps) <= 50 and curve.width == 32 and steps[-1] == 1000
    bins = [[values[step] for step in range(1000 + 1) if step in values and step // 32 == index] for index in range(32)]
    assert means == pytest.approx([sum(bin) / len(bin) for bin in bins])


def test_names_may_come_and_go():
    curve = Binned(4)
    curve.add(1, {"sds": 1.0})
    curve.add(2, {})  # skipped
    curve.add(9, {"sds": 3.0, "directional": 2.0})
    assert curve.names == ["sds", "directional"]
    assert curve.means("sds") == ([2, 9], [1.0, 3.0]) and curve.means("directional") == ([9], [2.0])
    assert curve.means("lpips") == ([], [])
