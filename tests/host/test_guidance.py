"""SDS Guidance as a node: guiders, extra prompts, schedules and weightings."""

import json

import pytest
import torch
from comfy_host import PromptRejected
from guided_graphs import same, trained, training, with_extra, with_guider


@pytest.fixture(scope="module")
def plain(host):
    return trained(host, training("plain-guidance"))


def test_a_guider_in_place_of_model_and_prompts_is_the_same_critic(host, plain):
    weights, metadata = trained(host, with_guider("guider"))
    assert same(weights, plain[0])
    assert metadata["prompt"] == "a portrait of a fox"
    assert json.loads(metadata["settings"])["guidance_scale"] is None
    assert json.loads(plain[1]["settings"])["guidance_scale"] == 7.5


def test_the_guiders_own_guidance_counts(host, plain):
    weights, _ = trained(host, with_guider("basic", "BasicGuider"))
    assert not same(weights, plain[0])


def test_a_prompt_that_is_switched_off_is_no_critic(host):
    graph = training("off")
    graph["range"] = {
        "class_type": "ConditioningSetTimestepRange",
        "inputs": {"conditioning": graph["guidance"]["inputs"]["positive"], "start": 0.0, "end": 0.01},
    }
    graph["guidance"]["inputs"]["positive"] = ["range", 0]
    run = host.run(graph)
    assert "'positive' is switched off at timestep" in run.error["exception_message"]
    graph["range"]["inputs"]["end"] = 1.0
    assert host.run(graph).succeeded


def test_extra_prompts_join_the_sum_and_chain(host, plain):
    nothing, metadata = trained(host, with_extra(training("nothing"), "smiling", 0.0))
    settings = json.loads(metadata["settings"])
    assert (settings["extra_prompts"], settings["extra_scales"], settings["image_size"]) == ("smiling", [0.0], 64)
    for name in nothing:
        torch.testing.assert_close(nothing[name], plain[0][name], rtol=1e-3, atol=1e-5)
    smiling, _ = trained(host, with_extra(training("smiling"), "smiling", 7.0))
    frowning, _ = trained(host, with_extra(training("frowning"), "smiling", -7.0))
    assert not same(smiling, plain[0]) and not same(smiling, frowning)
    # The same prompt in two halves is the prompt.
    halves = with_extra(with_extra(training("halves"), "smiling", 3.5), "smiling", 3.5, "extra", "second")
    weights, _ = trained(host, halves)
    moved = [(smiling[name] - plain[0][name]).norm() for name in smiling]
    off = [(weights[name] - smiling[name]).norm() for name in smiling]
    assert sum(off) < 0.05 * sum(moved)


@pytest.mark.parametrize(
    "change", [{"timestep_schedule": "linear"}, {"weighting": "uniform"}, {"guidance_end": 0.1}], ids=str
)
def test_schedules_and_weightings_are_inputs(host, plain, change):
    changes = {f"guidance.{name}": value for name, value in change.items()}
    weights, metadata = trained(host, training("scheduled", **changes))
    assert not same(weights, plain[0])
    ((name, value),) = change.items()
    assert json.loads(metadata["settings"])[name] == value


def refusal(host, graph):
    run = host.run(graph)
    assert not run.succeeded
    return run.error["exception_message"]


def rejection(host, graph):
    """What is said before anything runs."""
    with pytest.raises(PromptRejected) as raised:
        host.submit(graph)
    return str(raised.value)


def test_what_does_not_go_together_gets_a_sentence(host):
    both = with_guider("both")
    both["guidance"]["inputs"]["positive"] = ["positive", 0]
    assert "has a guider and positive, which the guider brings itself; unlink one of both" in rejection(host, both)
    half = training("half")
    del half["guidance"]["inputs"]["negative"]
    assert "needs model, positive and negative, or a guider; link them. Missing: negative" in rejection(host, half)
    extra = with_extra(with_guider("extra"), "smiling", 1.0)
    assert "has a guider and extra_prompts" in rejection(host, extra)
    aimless = training("aimless")
    del aimless["train"]["inputs"]["guidance"], aimless["train"]["inputs"]["regularizer"]
    assert "link a guidance, or targets, or both" in rejection(host, aimless)
    fixed = with_guider("fixed", "BasicGuider", **{"guidance.guidance_end": 0.5})
    assert "no guidance scale that could change; set guidance_end to 1" in refusal(host, fixed)
