"""The text-free copy: what is taken out, and how far it is from the model with the empty prompt."""

import pytest
import torch
from comfyui_stylegan_fusion.domain.on_diffusers import TextFreeUNet
from comfyui_stylegan_fusion.domain.text_free import ConstantAttention, NotTextFree, make_text_free, measured_removals
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.train_diffusion import encoded
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from torch import nn

from .conftest import normal


def test_before_the_text_is_taken_out_it_is_the_model_with_the_empty_prompt(model):
    prior, score = DiffusersPrior(model, "", "", 1.0), TextFreeUNet.copied(model)
    z_t = normal(3, 4, 8, 8)
    for t in (0.02, 0.5, 0.98):
        with torch.no_grad():
            torch.testing.assert_close(score.eps(z_t, t), prior.guided(z_t, t), rtol=1e-4, atol=1e-4)
            assert score.schedule(t) == prior.schedule(t)


def test_cross_attentions_and_their_norms_are_gone_and_vectors_stand_there(model):
    score = TextFreeUNet.copied(model)
    before = {name for name, _ in score.denoiser.named_parameters()}
    removals = score.take_out_text(normal(4, 4, 8, 8))
    after = {name for name, _ in score.denoiser.named_parameters()}
    assert {name for name in before - after if ".attn2." in name or ".norm2." in name} == before - after
    assert after - before == {f"{one.attention}.vector" for one in removals}
    blocks = [module for module in model.unet.modules() if hasattr(module, "attn2")]
    assert len(removals) == len(blocks) and all(one.norm.endswith("norm2") for one in removals)
    assert not any(".attn2.to_" in name or "transformer_blocks.0.norm2" in name for name in after)


def test_the_vector_is_the_mean_of_what_the_attention_put_out(noise_model):
    score, seen = TextFreeUNet.copied(noise_model), {}

    def note(name):
        def of(_, __, output):
            seen[name] = output.mean((0, 1))

        return of

    for name, module in score.denoiser.named_modules():
        if name.endswith("attn2"):
            module.register_forward_hook(note(name))
    for one in measured_removals(score.denoiser, lambda: score.denoised(normal(2, 4, 8, 8), [0.3, 0.6])):
        torch.testing.assert_close(one.vector, seen[one.attention])


def test_the_untrained_copy_is_near_the_empty_prompt_at_every_timestep():
    """Not the same: what the attention puts out depends on the place, and the vector does not."""
    model = StableDiffusion.load(WEIGHTS / "diffusion")
    z = encoded(model.vae, sample_factors(16, torch.Generator().manual_seed(3)), render)
    prior, score = DiffusersPrior(model, "", "", 1.0), TextFreeUNet.copied(model)
    score.take_out_text(z)
    eps, errors = normal(*z.shape), {}
    for t in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98):
        alpha, sigma = prior.schedule(t)
        z_t = alpha * z + sigma * eps
        with torch.no_grad():
            wanted = prior.guided(z_t, t)
            errors[t] = ((score.eps(z_t, t) - wanted).norm() / wanted.norm()).item()
    assert max(errors.values()) < 0.1 and errors[0.9] < 0.02, errors
    assert min(errors.values()) > 1e-4


def test_a_text_free_model_and_one_without_cross_attention_are_refused(noise_model):
    score = TextFreeUNet.copied(noise_model)
    score.take_out_text(normal(2, 4, 8, 8))
    with pytest.raises(NotTextFree, match="text-free already"):
        score.take_out_text(normal(2, 4, 8, 8))
    with pytest.raises(NotTextFree, match="no text-free copy"):
        make_text_free(nn.Sequential(nn.Linear(2, 2)), [])


class Mixed(nn.Module):
    """A block whose attn2 is another self-attention, computed without calling it."""

    def __init__(self):
        super().__init__()
        self.attn, self.attn2 = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, x):
        return self.attn(x) @ self.attn2.weight


def test_attention_that_is_never_asked_by_itself_is_no_text_attention():
    denoiser = nn.Sequential(Mixed())
    with pytest.raises(NotTextFree, match="no text-free copy"):
        measured_removals(denoiser, lambda: denoiser(torch.zeros(1, 2, 2)))


def test_a_constant_attention_puts_out_its_vector_for_every_token():
    constant = ConstantAttention(torch.tensor([1.0, 2.0]))
    out = constant(torch.zeros(3, 5, 2), encoder_hidden_states=None)
    assert out.shape == (3, 5, 2) and (out == torch.tensor([1.0, 2.0])).all()
