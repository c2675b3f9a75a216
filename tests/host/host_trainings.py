"""Trainings in a running ComfyUI: ended at a step, and what they left."""

import re

import torch
from safetensors.torch import load_file


def run_until(host, graph, step, act):
    """Run a graph; act() once the training has done `step` steps."""
    steps, acted = graph["train"]["inputs"]["steps"], []

    def watch(kind, data):
        if kind == "progress" and data["max"] == steps and data["value"] >= step and not acted:
            acted.append(act())

    return host.follow(host.submit(graph), watch)


def made(host, prefix):
    return sorted((host.output / "stylegan").glob(f"{prefix}_*.safetensors"))


def weights(host, prefix):
    (path,) = made(host, prefix)
    return load_file(path)


def unfinished(host):
    return list((host.output / "stylegan" / "unfinished").glob("*"))


def went_on(run):
    found = re.search(r"went on from step (\d+), where this training ended before", "\n".join(run.texts))
    return int(found[1]) if found else None


def assert_same(found, wanted):
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(found[name], wanted[name])] == []
