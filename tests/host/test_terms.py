"""Distillation Term as a node: what it puts in the place of SDS, and which guidance can serve it."""

import json

import pytest
from guided_graphs import same, trained, training, with_extra, with_guider


def with_term(graph, term, weight=1.0):
    """The graph with a Distillation Term between its regularizer and Train Generator."""
    inputs = {"term": term, "weight": weight, "previous": ["regularizer", 0]}
    graph["term"] = {"class_type": "StyleGANFusionDistillationTerm", "inputs": inputs}
    graph["train"]["inputs"]["regularizer"] = ["term", 0]
    return graph


def terms_of(metadata):
    return json.loads(metadata["settings"])["terms"]


DIRECTIONAL = {"term": "directional", "weight": 0.3}


def test_sds_by_name_is_sds_without_the_node(host):
    plain, named = training("terms-plain"), with_term(training("terms-named"), "sds")
    (weights, metadata), (others, others_metadata) = trained(host, plain), trained(host, named)
    assert same(weights, others)
    assert terms_of(metadata) == terms_of(others_metadata) == [{"term": "sds", "weight": 1.0}, DIRECTIONAL]


@pytest.mark.parametrize("scale", [7.5, 1.0])
def test_csd_trains_in_its_place_by_prompts_or_a_guider(host, scale):
    by_prompts = with_term(training("csd-prompts", **{"guidance.guidance_scale": scale}), "csd")
    by_guider = with_term(with_guider("csd-guider"), "csd")
    by_guider["guider"]["inputs"]["cfg"] = scale
    (weights, metadata), (others, _) = trained(host, by_prompts), trained(host, by_guider)
    assert same(weights, others) and terms_of(metadata) == [{"term": "csd", "weight": 1.0}, DIRECTIONAL]
    assert not same(weights, trained(host, training("csd-not", **{"guidance.guidance_scale": scale}))[0])


def test_csd_takes_extra_prompts_and_a_guidance_that_changes(host):
    graph = with_extra(with_term(training("csd-extra", **{"guidance.guidance_end": 0.5}), "csd"), "a hat", 2.0)
    assert terms_of(trained(host, graph)[1])[0]["term"] == "csd"


def test_a_guider_with_one_prompt_gets_a_sentence(host):
    run = host.run(with_term(with_guider("csd-basic", "BasicGuider"), "csd"))
    assert "The term csd compares the prompt with the negative prompt" in run.error["exception_message"]
    assert "such as CFG Guider" in run.error["exception_message"]


def test_nothing_to_train_towards_gets_a_sentence(host):
    graph = with_term(training("nothing", **{"regularizer.weight": 0.0}), "sds", weight=0.0)
    assert "every term has the weight 0" in host.run(graph).error["exception_message"]
