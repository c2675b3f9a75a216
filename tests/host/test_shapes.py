"""Generators of pictures that are not square, grey, or have an alpha channel, in a real ComfyUI."""

import io

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import GeneratorConfig, load_generator, save_generator
from foreign_files import build
from graphs import training
from PIL import Image

SHAPES = {
    "rgba_tall": ({"const_size": (4, 2), "img_channels": 4}, "RGBA", (32, 64)),
    "grey_wide": ({"const_size": (2, 4), "img_channels": 1}, "RGB", (64, 32)),
}


def showing(node, output=0):
    return {"class_type": "PreviewImage", "inputs": {"images": [node, output]}}


def graph_of(file):
    """Everything that draws, from one loaded generator."""
    generator, psi = {"generator": ["load", 0]}, {"truncation_psi": 0.7, "noise": "const"}
    walk = {"seed": 3, "keyframes": 2, "frames_per_key": 1, "loop": True, "path": "curve", "pace": "even"}
    mixing = {"layers": "coarse", "custom_layers": "", "row_seed": 0, "rows": 1, "column_seed": 1, "columns": 2}
    finding = {"features": "miniature", "steps": 2, "editability": 0.5, "pixel_weight": 1.0, "learning_rate": 0.06}
    inputs = {
        "sample": ("SampleGenerator", {**generator, **psi, "seed": 3, "count": 2, "truncation_cutoff": 0}),
        "walk": ("LatentWalk", {**generator, **psi, **walk}),
        "mix": ("StyleMixing", {**generator, **psi, **mixing, "cell_size": 64}),
        "project": ("ProjectImage", {**generator, "images": ["sample", 0], **finding, "seed": 0}),
        "draw": ("DrawLatents", {**generator, "latents": ["project", 0], "noise": "const"}),
        "compare": ("CompareSamples", {"before": ["sample", 0], "after": ["draw", 0]}),
    }
    graph = {name: {"class_type": f"StyleGANFusion{kind}", "inputs": given} for name, (kind, given) in inputs.items()}
    graph["load"] = {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": file}}
    shown = {f"show_{name}": showing(name) for name in ("sample", "walk", "mix", "draw", "compare")}
    return graph | shown | {"show_target": showing("project", 2)}


@pytest.mark.parametrize("name", SHAPES)
def test_they_are_drawn_compared_and_adapted(host, name):
    shape, mode, (width, height) = SHAPES[name]
    generator = build(GeneratorConfig(64, 16, 16, 0, 2, 1024, 16, **shape))
    (host.models / "stylegan").mkdir(parents=True, exist_ok=True)
    save_generator(generator, host.models / "stylegan" / f"{name}.safetensors")
    run = host.run(graph_of(f"{name}.safetensors"))
    assert run.succeeded, run.error

    def first(node):
        return Image.open(io.BytesIO(host.view(run.outputs[node]["images"][0])))

    assert (first("show_sample").mode, first("show_sample").size) == (mode, (width, height))
    assert first("show_draw").mode == mode and first("show_draw").size == (width, height)
    assert {first(node).mode for node in ("show_walk", "show_mix", "show_compare", "show_target")} == {"RGB"}
    assert first("show_compare").size == (2 * width, height)

    graph = training(2, **{"train.generator": ["load", 0], "save.filename_prefix": name})
    graph["load"] = {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": f"{name}.safetensors"}}
    run = host.run(graph)
    assert run.succeeded, run.error
    assert first("after").mode == mode and first("after").size == (width, height)
    adapted = load_generator(host.output / "stylegan" / f"{name}_00001.safetensors")
    assert adapted.config == generator.config
    pairs = zip(adapted.synthesis.layers, generator.synthesis.layers, strict=True)
    assert any(not torch.equal(a.weight, b.weight) for a, b in pairs)
