"""adapt by CLIP: alone, beside a diffusion model, resumed; and what does not go together."""

import json

import pytest
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.cli.options import parse
from comfyui_stylegan_fusion.cli.planning import CLIP_TRAINING, MINIATURE_CLIP_TRAINING, plan_for
from comfyui_stylegan_fusion.miniature import GENERATOR
from comfyui_stylegan_fusion.stylegan import read_metadata

ADAPT = ["adapt", "--generator", "miniature", "--prompt", "a portrait of a fox"]
CLIP = [*ADAPT, "--clip", "miniature"]
FEW = ["--steps", "2", "--batch-size", "2"]


def trained(folder, arguments=(), start=CLIP):
    assert main([*start, *FEW, *arguments, "--output", str(folder)]) == 0
    metadata = read_metadata(folder / "generator.safetensors")
    return load_generator(folder / "generator.safetensors").state_dict(), json.loads(metadata["settings"])


def same(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


def test_by_clip_alone_no_diffusion_model_is_needed(tmp_path):
    weights, settings = trained(tmp_path / "fox")
    (term,) = settings["terms"]
    assert term.pop("clip") and "guidance_scale" not in settings
    texts = {"source": "a portrait of a person", "target": "a portrait of a fox"}
    assert term == {"term": "clip directional", "weight": 1.0, "phrasings": 10, **texts}
    assert {path.name for path in (tmp_path / "fox").iterdir()} >= {"generator.safetensors", "loss.png", "run.json"}
    assert not same(weights, load_generator(GENERATOR).state_dict())
    assert main(["adapt", "--resume", str(tmp_path / "fox")]) == 0  # its plan is read again


def test_beside_score_distillation_both_pull(tmp_path):
    both = ["--model", "miniature", "--distillation", "sds", "--clip-weight", "0.5"]
    _, settings = trained(tmp_path / "both", both)
    assert [(term["term"], term["weight"]) for term in settings["terms"]] == [
        ("sds", 1.0),
        ("clip directional", 0.5),
        ("directional", 2.0),
    ]


def test_what_is_usual_alone():
    plan = plan_for(parse([*CLIP, "--output", "x"]))
    assert plan.settings == MINIATURE_CLIP_TRAINING and plan.model == "" and not any(plan.weights.values())
    assert plan_for(parse([*ADAPT, "--clip", "folder", "--output", "x"])).settings == CLIP_TRAINING


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ([*CLIP, "--model", "miniature"], "leave out --model"),
        ([*CLIP, "--directional", "1"], "--directional is for a diffusion model; add --model"),
        ([*CLIP, "--image-size", "512"], "--image-size is for a diffusion model"),
        ([*CLIP, "--targets", "20"], "--targets is for a diffusion model"),
        ([*CLIP, "--clip-weight", "-1"], "The CLIP directional weight is -1.0; give 0 or more"),
        ([*CLIP, "--source-prompt", "a portrait of a fox"], "are the same; write what the generator draws"),
        ([*ADAPT, "--clip", "nowhere"], "nowhere is no CLIP in the layout of transformers"),
        ([*ADAPT, "--model", "miniature", "--clip-weight", "1"], "--clip-weight says how --clip counts"),
    ],
)
def test_what_does_not_go_together_gets_a_sentence(tmp_path, capsys, arguments, sentence):
    assert main([*arguments, *FEW, "--output", str(tmp_path / "out")]) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_file_needs_its_text(tmp_path, capsys):
    start = ["adapt", "--generator", str(GENERATOR), "--prompt", "a portrait of a fox", "--clip", "miniature"]
    assert main([*start, "--output", str(tmp_path / "out")]) == 1
    assert "say what the generator draws as it is with --source-prompt" in capsys.readouterr().err
