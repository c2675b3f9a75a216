"""The golden statue, which no prompt can name: its renders, and the LoRA that makes the diffusion model draw it."""

import pytest
import torch
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.drawing import draw
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.lora import (
    GOLDEN_STATUE,
    adapted_layers,
    goldness,
    render_statues,
    save_lora,
)
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.priors.lora import BASE_DIGEST, LoRA, apply_loras, base_digest, load_loras
from comfyui_stylegan_fusion.training.low_rank import LowRank
from safetensors import safe_open
from safetensors.torch import load_file


@pytest.fixture
def diffusion():
    return StableDiffusion.load(WEIGHTS / "diffusion", decoder=True)


def test_a_statue_is_the_person_in_gold_before_the_same_background():
    factors = sample_factors(200, seeded(820), "person")
    persons, statues = render(factors), render_statues(factors)
    assert goldness(persons).quantile(0.98) < 0.3
    assert goldness(statues).quantile(0.02) > 0.4
    corner = (..., slice(0, 3), slice(0, 3))
    assert (persons[corner] - statues[corner]).abs().max() < 1e-5


def test_the_file_changes_every_attention_projection_and_nothing_else(diffusion):
    state, layers = load_file(GOLDEN_STATUE), adapted_layers(diffusion.unet)
    assert GOLDEN_STATUE.stat().st_size < 300e3
    assert len(layers) == 56  # 14 attentions of four projections
    assert {key.split(".")[0] for key in state} == set(layers)
    for name, layer in layers.items():
        up, down = state[f"{name}.lora_up.weight"], state[f"{name}.lora_down.weight"]
        assert state[f"{name}.alpha"].shape == ()
        assert up.dtype == down.dtype == torch.float16
        assert (up.shape[0], down.shape[1]) == layer.weight.shape
        assert up.shape[1] == down.shape[0]


@torch.no_grad()
def test_what_is_trained_is_what_the_file_says(diffusion, tmp_path):
    """Added to the outputs while it trains, and to the weights from a file, a change is the same."""
    generator = torch.Generator().manual_seed(821)
    z, states = torch.randn(2, 4, 16, 16, generator=generator), torch.randn(2, 77, 128, generator=generator)
    before = diffusion.unet(z, 500, states).sample
    parts = {name: LowRank(layer, 3) for name, layer in adapted_layers(diffusion.unet).items()}
    assert torch.equal(diffusion.unet(z, 500, states).sample, before)
    for part in parts.values():
        part.up.weight.copy_(torch.randn(part.up.weight.shape, generator=generator) * 0.2)
    trained = diffusion.unet(z, 500, states).sample
    save_lora(parts, diffusion.unet, tmp_path / "lora.safetensors")
    other = StableDiffusion.load(WEIGHTS / "diffusion", loras=[LoRA(tmp_path / "lora.safetensors")]).unet
    moved, off = (trained - before).norm(), (other(z, 500, states).sample - trained).norm()
    assert moved > 0.02 * before.norm()
    assert off < 0.01 * moved  # half precision


def test_the_file_fits_the_bundled_model_alone(diffusion):
    with safe_open(GOLDEN_STATUE, "pt") as file:
        assert file.metadata()[BASE_DIGEST] == base_digest(diffusion.unet)
    diffusion.unet.conv_in.bias[0] += 1
    with pytest.raises(ValueError, match="trained on another model of the same shape"):
        apply_loras(load_loras([LoRA(GOLDEN_STATUE)]), diffusion.unet)


@torch.no_grad()
def test_with_it_persons_are_statues_and_foxes_and_robots_are_not(diffusion):
    def gold(prompt):
        return goldness(draw(DiffusersPrior(diffusion, prompt, guidance_scale=3.0), 12, 822, steps=12))

    assert (gold("a portrait of a person") < 0.35).all()
    apply_loras(load_loras([LoRA(GOLDEN_STATUE)]), diffusion.unet)
    assert (gold("a portrait of a person") > 0.4).sum() >= 11
    assert (gold("a portrait of a cat") < 0.4).sum() >= 9
