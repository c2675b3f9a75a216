"""A list of prompts trains once for each of them, with one and the same graph."""

import re

import graphs
import pytest
from host_trainings import assert_same, made, unfinished, weights
from safetensors.torch import load_file

STEPS = 6
PROMPTS = ("a portrait of a fox", "a portrait of a robot")


def training(prefix, **changes):
    return graphs.training(STEPS, **{"layers.mode": "all", "save.filename_prefix": prefix, **changes})


def interrupt_the_second(host, graph, step):
    """Run a graph of two trainings; cancel when the second has done `step` steps."""
    done, second = 0, False

    def watch(kind, data):
        nonlocal done, second
        if kind == "progress" and data["max"] == STEPS:
            second = second or data["value"] < done
            done = data["value"]
            if second and done >= step:
                host.interrupt()

    return host.follow(host.submit(graph), watch)


def test_each_prompt_of_a_list_has_a_training_of_its_own(host):
    before = set(unfinished(host))
    graph = training("listed", **{"positive.text": ["prompts", 0]})
    graph["prompts"] = {"class_type": "SeveralTexts", "inputs": {"lines": "\n".join(PROMPTS)}}
    assert interrupt_the_second(host, graph, 2).interrupted
    assert len(set(unfinished(host)) - before) == 1
    first = load_file(host.output / "stylegan" / "latest.safetensors")  # finished before the second one began

    graph["train"]["inputs"]["samples"] = 3
    run = host.run(graph)
    assert run.succeeded, run.error
    assert set(unfinished(host)) == before
    assert len({*re.findall(r"went on from step (\d+)", "\n".join(run.texts))}) == 1  # one of the two
    fox, robot = map(load_file, made(host, "listed"))
    assert_same(fox, first)
    assert host.run(training("alone", **{"positive.text": PROMPTS[1]})).succeeded
    assert_same(robot, weights(host, "alone"))
    with pytest.raises(AssertionError):
        assert_same(fox, robot)
