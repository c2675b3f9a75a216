"""The golden statue, which no prompt can name: its renders, and the LoRA that makes the diffusion model draw it."""

import pytest
import torch
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.drawing import draw
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.lora import (
    GOLDEN_STATUE,
    LowRank,
    adapted_layers,
    apply_lora,
    goldness,
    render_statues,
    save_lora,
)
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
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
    save_lora(parts, tmp_path / "lora.safetensors")
    other = StableDiffusion.load(WEIGHTS / "diffusion").unet
    apply_lora(other, tmp_path / "lora.safetensors")
    moved, off = (trained - before).norm(), (other(z, 500, states).sample - trained).norm()
    assert moved > 0.02 * before.norm()
    assert off < 0.01 * moved  # half precision


@torch.no_grad()
def test_with_it_persons_are_statues_and_foxes_and_robots_are_not(diffusion):
    def gold(prompt):
        return goldness(draw(DiffusersPrior(diffusion, prompt, guidance_scale=3.0), 12, 822, steps=12))

    assert (gold("a portrait of a person") < 0.35).all()
    apply_lora(diffusion.unet)
    assert (gold("a portrait of a person") > 0.4).sum() >= 11
    assert (gold("a portrait of a cat") < 0.4).sum() >= 9
