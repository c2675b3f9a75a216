"""Every family of text-to-image models that ComfyUI knows can be the critic: its own classes, tiny, random weights."""

import io

import graphs
import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.stylegan import save_generator
from foreign_files import small
from PIL import Image
from safetensors.torch import load_file
from zoo.families import CRITICS, FAMILIES, OTHERS

STEPS = 2
GENERATOR = "zoo.safetensors"

WITHOUT_GRADIENTS = ("Anima", "Cosmos Predict 2", "Ernie-Image", "HiDream-O1", "JoyImage")
"""Families whose classes, in newer hosts, compute with operations that have no gradient."""


@pytest.fixture(scope="module")
def known(host):
    """Names of the families whose classes this ComfyUI has. The generator to adapt is in place."""
    (host.models / "stylegan").mkdir(exist_ok=True)
    save_generator(small(), host.models / "stylegan" / GENERATOR, {})
    return str(host.object_info()["TinyModel"]["input"]["required"]["family"])


@pytest.fixture
def known_family(known, host, request):
    """A family's name, if this ComfyUI has it."""
    if repr(request.param) not in known:
        pytest.skip(f"ComfyUI {host.version} has no {request.param}")
    return request.param


def adaptation(name: str) -> dict:
    """A generator, adapted twice with a family's tiny model, to one prompt and to another."""
    file = name.lower().replace(" ", "_").replace(",", "")
    changes = {
        "guidance.model": ["tiny", 0],
        "guidance.vae": ["tiny", 1],
        "guidance.positive": ["tiny", 2],
        "guidance.negative": ["tiny", 3],
        "guidance.image_size": FAMILIES[name].image_size,
        "train.generator": ["load", 0],
        "regularizer.weight": 0.5,
        "layers.mode": "all",
        "save.filename_prefix": f"{file}_one",
    }
    graph = graphs.training(STEPS, **changes)
    for unused in ("miniature", "positive", "negative", "before", "after", "plot"):
        del graph[unused]
    graph["load"] = {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": GENERATOR}}
    graph["tiny"] = {"class_type": "TinyModel", "inputs": {"family": name, "seed": 0}}
    for node, changes in {
        "guidance": {"positive": ["tiny", 4]},
        "train": {"guidance": ["other guidance", 0]},
        "save": {"generator": ["other train", 0], "filename_prefix": f"{file}_other"},
    }.items():
        graph[f"other {node}"] = {**graph[node], "inputs": graph[node]["inputs"] | changes}
    return graph


def targets(name: str) -> dict:
    """Two targets by a family's tiny model for one prompt, and for another."""
    whole = adaptation(name)
    graph = {node: whole[node] for node in ("load", "tiny", "guidance", "other guidance")}
    for before, guidance in (("", "guidance"), ("other ", "other guidance")):
        graph[f"{before}make"] = {
            "class_type": "StyleGANFusionMakeTargets",
            "inputs": {
                "generator": ["load", 0],
                "guidance": [guidance, 0],
                "guidance_scale": 3.0,
                "count": 2,
                "strength": 0.8,
                "levels": 2,
                "inversion": "ddim",
                "seed": 0,
                "batch_size": 2,
            },
        }
        inputs = {"images": [f"{before}make", 2], "filename_prefix": "zoo"}
        graph[f"{before}pictures"] = {"class_type": "SaveImage", "inputs": inputs}
    return graph


def sampling(name: str) -> dict:
    """ComfyUI's own sampling from a family's tiny model, to show that it is a whole model."""
    size = FAMILIES[name].image_size
    return {
        "tiny": {"class_type": "TinyModel", "inputs": {"family": name, "seed": 0}},
        "image": {"class_type": "EmptyImage", "inputs": {"width": size, "height": size, "batch_size": 1, "color": 255}},
        "encode": {"class_type": "VAEEncode", "inputs": {"pixels": ["image", 0], "vae": ["tiny", 1]}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["tiny", 0],
                "positive": ["tiny", 2],
                "negative": ["tiny", 3],
                "latent_image": ["encode", 0],
                "seed": 0,
                "steps": 2,
                "cfg": 3.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "sampled": {"class_type": "SaveLatent", "inputs": {"samples": ["sampler", 0], "filename_prefix": "sampled"}},
    }


def changes(host, file: str) -> dict[str, torch.Tensor]:
    """What training added to each weight of the generator."""
    (path,) = (host.output / "stylegan").glob(f"{file}_*.safetensors")
    adapted = load_generator(path).state_dict()
    return {name: adapted[name] - value for name, value in small().state_dict().items()}


@pytest.mark.parametrize("known_family", CRITICS, indirect=True)
def test_a_family_samples_and_adapts_a_generator_to_its_prompt(host, known_family):
    before = len(host.log)
    graph = sampling(known_family) | adaptation(known_family)
    run = host.run(graph)
    assert run.succeeded, (run.error["node_id"], run.error["exception_message"])
    assert "skipped" not in host.log[before:]

    (latent,) = host.output.glob("sampled_*.latent")
    sampled = load_file(latent.rename(latent.with_suffix(".read")))["latent_tensor"]
    assert sampled.isfinite().all() and sampled.std() > 0.1

    one, other = (changes(host, graph[node]["inputs"]["filename_prefix"]) for node in ("save", "other save"))
    for change in (one, other):
        assert all(change[name].isfinite().all() for name in change)
        assert any(change[name].any() for name in change)
    assert any(not torch.equal(one[name], other[name]) for name in one), "the prompt does not count"


@pytest.mark.parametrize("known_family", CRITICS, indirect=True)
def test_a_family_makes_targets_that_its_prompt_counts_in(host, known_family):
    graph = targets(known_family)
    run = host.run(graph)
    assert run.succeeded, (run.error["node_id"], run.error["exception_message"])
    one, other = (
        [np.array(Image.open(io.BytesIO(host.view(image)))) for image in run.outputs[node]["images"]]
        for node in ("pictures", "other pictures")
    )
    assert len(one) == len(other) == 2 and not np.array_equal(one[0], one[1])
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True)), "the prompt does not count"


def matching(name: str) -> dict:
    """A generator, adapted with a second network of the family's tiny model."""
    graph = {node: one for node, one in adaptation(name).items() if not node.startswith("other ")}
    inputs = {"weight": 1.0, "rank": 2, "learning_rate": 0.001, "warmup": 1, "updates": 1, "normalization": "dmd"}
    graph["matching"] = {"class_type": "StyleGANFusionDistributionMatching", "inputs": inputs}
    graph["train"]["inputs"]["regularizer"] = ["matching", 0]
    graph["save"]["inputs"]["filename_prefix"] += "_matched"
    return graph


@pytest.mark.parametrize("known_family", CRITICS, indirect=True)
def test_a_family_has_a_second_network(host, known_family):
    graph = matching(known_family)
    run = host.run(graph)
    if known_family in WITHOUT_GRADIENTS and not run.succeeded:
        assert "ComfyUI cannot train this kind of MODEL" in run.error["exception_message"]
        return
    assert run.succeeded, (run.error["node_id"], run.error["exception_message"])
    change = changes(host, graph["save"]["inputs"]["filename_prefix"])
    assert all(one.isfinite().all() for one in change.values()) and any(one.any() for one in change.values())


@pytest.mark.parametrize("known_family", OTHERS, indirect=True)
def test_what_makes_no_images_from_text_is_refused_with_a_sentence(host, known_family):
    run = host.run(adaptation(known_family))
    assert not run.succeeded
    assert FAMILIES[known_family].refused in run.error["exception_message"]
    assert run.error["exception_type"] == "ValueError"
