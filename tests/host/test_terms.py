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


@pytest.mark.parametrize("term", ["bridge", "asd", "dds", "ld"])
def test_each_combination_trains_by_prompts_and_by_a_guider(host, term):
    by_prompts = with_term(training(f"{term}-prompts"), term)
    (weights, metadata), (others, _) = trained(host, by_prompts), trained(host, with_term(with_guider(term), term))
    assert same(weights, others) and terms_of(metadata)[0] == {"term": term, "weight": 1.0}


def test_nfsd_asks_for_an_extra_prompt_and_takes_one_of_scale_0(host):
    run = host.run(with_term(training("nfsd-not"), "nfsd"))
    assert "add an extra prompt of scale 0" in run.error["exception_message"]
    graph = with_extra(with_term(training("nfsd"), "nfsd"), "blurry", 0.0)
    assert terms_of(trained(host, graph)[1])[0]["term"] == "nfsd"


def with_matching(graph, **changes):
    """The graph with Distribution Matching between its regularizer and Train Generator."""
    inputs = {"weight": 1.0, "rank": 2, "learning_rate": 0.001, "warmup": 1, "updates": 1, "normalization": "none"}
    inputs |= {"previous": ["regularizer", 0], **changes}
    graph["term"] = {"class_type": "StyleGANFusionDistributionMatching", "inputs": inputs}
    graph["train"]["inputs"]["regularizer"] = ["term", 0]
    return graph


@pytest.mark.parametrize(("rank", "normalization"), [(2, "none"), (0, "dmd")])
def test_distribution_matching_trains_by_prompts_or_a_guider(host, rank, normalization):
    given = {"rank": rank, "normalization": normalization}
    by_prompts = with_matching(training(f"vsd-{rank}-prompts"), **given)
    by_guider = with_matching(with_guider(f"vsd-{rank}-guider"), **given)
    (weights, metadata), (others, _) = trained(host, by_prompts), trained(host, by_guider)
    assert same(weights, others)
    described = terms_of(metadata)[0]
    assert described["term"] == "vsd" and described["rank"] == rank and described["warmup"] == 1
    assert not same(weights, trained(host, training(f"vsd-{rank}-not"))[0])


def test_distribution_matching_takes_a_guider_with_one_prompt(host):
    assert terms_of(trained(host, with_matching(with_guider("vsd-basic", "BasicGuider")))[1])[0]["term"] == "vsd"


def test_a_scale_made_for_sds_is_warned_of(host):
    graph = with_matching(training("vsd-scale", **{"guidance.guidance_scale": 100.0}))
    run = host.run(graph)
    assert run.succeeded
    said = " ".join(str(message) for message in run.texts)
    assert "made for guidance scales up to 30" in said
