"""Run by ComfyUI's Python: which moments a panel keeps of trainings whose steps and looks take as long as is given.

Arguments: the project, where to write what is found as JSON."""

import asyncio
import json
import sys
from pathlib import Path
from types import SimpleNamespace

from in_host import start

project, target = sys.argv[1:3]
start(project)

import torch
from project.nodes import panel_report
from project.nodes import report as plain_report
from project.nodes.panel_report import PanelReport
from project.nodes.panels import Panel
from project.sds import History, TrainSettings
from server import PromptServer

STEPS, STEP_SECONDS = 400, 0.4
found = {}


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


def trained(look_seconds) -> dict:
    """A training whose looks take look_seconds, the last of these from then on."""
    looks = iter(look_seconds)
    clock = panel_report.time = plain_report.time = Clock()
    took = 0.0

    def samples(count):
        nonlocal took
        took = next(looks, took)
        clock.now += took
        return torch.zeros(count, 3, 8, 8)

    panel = Panel("one")
    panel.begin("a training", STEPS, 3, 0)
    report = PanelReport(TrainSettings(steps=STEPS), "1", panel)
    for step in range(1, STEPS + 1):
        clock.now += STEP_SECONDS
        progress = {"step": step, "steps": STEPS, "losses": {}, "warning": None, "history": History()}
        report(SimpleNamespace(**progress, samples=samples, weights=lambda: {"w": torch.zeros(2)}))
    try:
        panel.ask_to_end(None)
    except ValueError as error:
        found["asked at the end"] = str(error)
    steps = panel.moments.steps
    panel.moments.clear()
    return {"steps": steps, "share": report.spent / clock.now}


PromptServer(asyncio.new_event_loop()).client_id = None
for case, seconds in {"even": [0.1], "slow at first": [0.9, 0.1], "slow": [1.5], "cheap": [0.001]}.items():
    found[case] = trained(seconds)
Path(target).write_text(json.dumps(found))
