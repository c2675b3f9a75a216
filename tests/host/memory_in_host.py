"""Run by ComfyUI's Python: what becomes of networks and of the host's models when memory runs out while nodes draw.

Arguments: the project, where to write what is found as JSON."""

import json
import sys
from pathlib import Path

from in_host import start

project, target = sys.argv[1:3]
start(project)

import comfy.model_management
import torch
from project.miniature import GENERATOR
from project.nodes.drawing import draw, sampled
from project.nodes.host.device import retry_without_models
from project.nodes.judge.evaluation import evaluated
from project.nodes.on_device import on_device
from project.nodes.types import NamedGenerator
from project.stylegan import load_generator
from project.stylegan.projection import ProjectionOutOfMemory

FULL = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
found = {}
generator = NamedGenerator(load_generator(GENERATOR), "miniature", {})
network = generator.generator
synthesize, unload = network.synthesis.forward, comfy.model_management.unload_all_models
unloaded, calls = [], []


def count_and_unload():
    unloaded.append(True)
    unload()


def fails(times):
    """Let the next so many renderings run out of memory."""
    calls.clear()

    def forward(*arguments, **options):
        calls.append(True)
        if len(calls) <= times:
            raise FULL
        return synthesize(*arguments, **options)

    network.synthesis.forward = forward


comfy.model_management.unload_all_models = count_and_unload
with torch.inference_mode():
    ws = sampled(generator, 0, 6, 1.0).ws
    expected = draw(generator, ws)
    found["unloaded without need"] = len(unloaded)
    fails(1)
    found["the same in the end"] = torch.equal(draw(generator, ws), expected)
    found["unloaded once"] = len(unloaded)
    fails(99)
    try:
        draw(generator, ws)
    except RuntimeError as error:
        found["sentence"] = str(error)
    found["attempts"] = len(calls)
    measured = {"text": "", "count": 4, "seed": 0, "truncation_psi": 1.0, "features": "miniature"}
    fails(1)
    found["evaluated"] = evaluated(generator, **measured).text()
    fails(99)
    try:
        evaluated(generator, **measured)
    except RuntimeError as error:
        found["not evaluated"] = str(error)
    network.synthesis.forward = synthesize

    attempts = []

    def search():
        attempts.append(True)
        if len(attempts) == 1:
            raise ProjectionOutOfMemory("Out of memory.")
        return "found"

    found["projection"] = retry_without_models(search)

    class Stubborn(torch.nn.Linear):
        """Cannot be moved the first time."""

        def to(self, device):
            went.append(device.type)
            if len(went) == 1:
                raise FULL
            return super().to(device)

    network, went = Stubborn(2, 2), []
    try:
        with on_device(torch.device("meta"), network):
            found["moved"] = True
    except torch.OutOfMemoryError:
        found["went"] = went

Path(target).write_text(json.dumps(found))
