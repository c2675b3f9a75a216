"""Domain files and the priors that they guide."""

import json

import pytest
import torch
from comfyui_stylegan_fusion.domain.files import DomainError, fingerprint, load_domain, same_base, save_domain
from comfyui_stylegan_fusion.domain.learning import learn_domain
from comfyui_stylegan_fusion.domain.on_diffusers import DOMAIN, DomainPrior, TextFreeUNet
from comfyui_stylegan_fusion.domain.settings import DomainSettings
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, ExtraPrompt
from safetensors import safe_open
from safetensors.torch import save_file

from .conftest import normal


def learned(model, pictures, rank=0, **settings):
    """A score that has learned a little, and its domain."""
    score = TextFreeUNet.copied(model)
    removals = score.take_out_text(normal(4, 4, 8, 8))
    given = DomainSettings(steps=6, learning_rate=1e-2, rank=rank, average=0, precision="float32", **settings)
    weights = learn_domain(score, pictures, given).weights
    return score, score.domain(removals, weights, {"pictures": "6"})


@pytest.mark.parametrize("rank, settings", [(0, {}), (3, {}), (0, {"train_vectors": True})])
def test_a_copy_that_is_read_again_predicts_what_was_learned(model, pictures, tmp_path, rank, settings):
    score, domain = learned(model, pictures, rank, **settings)
    save_domain(domain, tmp_path / "domain.safetensors")
    copy = TextFreeUNet.of(model, load_domain(tmp_path / "domain.safetensors"))
    z_t = normal(2, 4, 8, 8, seed=5)
    with torch.no_grad():
        wanted, found = score.eps(z_t, 0.4), copy.eps(z_t, 0.4)
    assert (wanted - found).norm() < 5e-3 * wanted.norm()  # half precision
    assert not any(parameter.requires_grad for parameter in copy.denoiser.parameters())


def test_the_blend_goes_from_the_untrained_copy_to_the_learned_one(noise_model, pictures):
    z_t, found = normal(2, 4, 8, 8), {}
    for rank in (0, 3):
        _, domain = learned(noise_model, pictures, rank)
        untrained = TextFreeUNet.copied(noise_model)
        untrained.take_out_text(normal(4, 4, 8, 8))
        with torch.no_grad():
            found = {blend: TextFreeUNet.of(noise_model, domain, blend).eps(z_t, 0.5) for blend in (0.0, 0.5, 1.0)}
            torch.testing.assert_close(found[0.0], untrained.eps(z_t, 0.5))
        away = [(found[blend] - found[0.0]).norm() for blend in (0.5, 1.0)]
        assert 0 < away[0] < away[1]


def test_names_in_files_are_those_of_single_file_checkpoints(noise_model, pictures, tmp_path):
    save_domain(learned(noise_model, pictures)[1], tmp_path / "domain.safetensors")
    with safe_open(tmp_path / "domain.safetensors", "pt") as file:
        names, metadata = list(file.keys()), file.metadata()
    assert "input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight" in names
    assert "measured.middle_block.1.transformer_blocks.0.attn2.vector" in names
    assert not any(".attn2.to_" in name or name.startswith(("down_blocks", "mid_block")) for name in names)
    assert metadata["pictures"] == "6" and json.loads(metadata["domain"])["prediction"] == "noise"


def test_guidance_is_the_sum_of_the_differences_to_the_untouched_model(model, pictures):
    """Against the two models by hand (arXiv 2312.08195)."""
    score, _ = learned(model, pictures)
    extra = ExtraPrompt("more", "a robot", -0.7)
    prior = DomainPrior(model, "a fox", "robot", 2.0, score, 1.5, extra_prompts=[extra])
    z_t = normal(2, 4, 8, 8)
    eps = DiffusersPrior(model, "a fox", "robot", 2.0, extra_prompts=[extra]).conditions(z_t, 0.6)
    u = eps["unconditional"]
    with torch.no_grad():
        d = score.eps(z_t, 0.6)
    wanted = u + 1.5 * (d - u) + 2.0 * (eps["text"] - u) - 0.7 * (eps["more"] - u)
    torch.testing.assert_close(prior.guided(z_t, 0.6), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(prior.conditions(z_t, 0.6)[DOMAIN], d)
    half = u + 0.75 * (d - u) + 1.0 * (eps["text"] - u) - 0.35 * (eps["more"] - u)
    torch.testing.assert_close(prior.guided(z_t, 0.6, 0.5), half, rtol=1e-5, atol=1e-5)


def test_without_scale_it_is_the_model_bit_for_bit_and_alone_the_copy_itself(model, pictures):
    score, _ = learned(model, pictures)
    z_t = normal(2, 4, 8, 8)
    base = DiffusersPrior(model, "a fox", "robot", 3.0)
    assert torch.equal(DomainPrior(model, "a fox", "robot", 3.0, score, 0.0).guided(z_t, 0.5), base.guided(z_t, 0.5))
    with torch.no_grad():
        assert torch.equal(DomainPrior(model, "", "", 0.0, score, 1.0).guided(z_t, 0.5), score.eps(z_t, 0.5))
    alone = DomainPrior(model, "", "robot", 0.0, None, 0.0).guided(z_t, 0.5)
    torch.testing.assert_close(alone, base.conditions(z_t, 0.5)["unconditional"])


def test_a_domain_of_another_model_or_family_is_refused(folders, pictures):
    from comfyui_stylegan_fusion.sds.priors.diffusers import StableDiffusion

    model, xl = (StableDiffusion.load(folders[name]) for name in ("noise", "xl"))
    _, domain = learned(model, pictures)
    with torch.no_grad():
        for parameter in model.unet.parameters():
            parameter.add_(normal(*parameter.shape, seed=9), alpha=float(parameter.std(correction=0)))
    with pytest.raises(DomainError, match="whose weights differ"):
        TextFreeUNet.of(model, domain)
    with pytest.raises(DomainError):
        TextFreeUNet.of(xl, domain)


def test_a_fingerprint_survives_8_bits_and_no_other_weights():
    weights = [(f"block.{n}.attn1.to_q.weight", normal(64, 64, seed=n)) for n in range(20)]
    rounded = [(name, value.to(torch.float8_e4m3fn)) for name, value in weights]
    other = [(name, value + 0.6 * normal(64, 64, seed=50 + n)) for n, (name, value) in enumerate(weights)]
    one = fingerprint(weights)
    assert same_base(one, fingerprint([(name, value.float()) for name, value in rounded]))
    assert same_base(one, fingerprint([(name, value.half()) for name, value in reversed(weights)]))
    assert not same_base(one, fingerprint(other)) and not same_base(one, fingerprint(weights[:3]))


def test_files_that_are_none_are_named(tmp_path):
    with pytest.raises(DomainError, match="There is no file"):
        load_domain(tmp_path / "absent.safetensors")
    (tmp_path / "text.safetensors").write_text("nothing")
    with pytest.raises(DomainError, match="cannot be read as safetensors"):
        load_domain(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(DomainError, match="holds no domain"):
        load_domain(tmp_path / "other.safetensors")


@pytest.mark.parametrize("broken", ["no description", "a vector less", "a number that is none"])
def test_a_damaged_file_is_named(noise_model, pictures, tmp_path, broken):
    path = tmp_path / "domain.safetensors"
    save_domain(learned(noise_model, pictures)[1], path)
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if broken == "no description":
        del metadata["domain"]
    elif broken == "a vector less":
        del tensors[next(name for name in tensors if name.startswith("measured."))]
    else:
        next(value for name, value in tensors.items() if name.endswith("weight")).view(-1)[0] = float("nan")
    save_file(tensors, path, metadata)
    with pytest.raises(DomainError, match="is damaged"):
        load_domain(path)
