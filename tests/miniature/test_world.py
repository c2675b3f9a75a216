"""The renderer, its factors and captions, and the measures that judge pictures of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.miniature import tokenizer
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.damage import blurred, damaged, recompressed
from comfyui_stylegan_fusion.miniature.factors import (
    COUNT,
    DOMAINS,
    PLAIN_COUNT,
    captions,
    factors_from_uniform,
    sample_factors,
)
from comfyui_stylegan_fusion.miniature.metrics import diversity, fine_detail, fine_details, shares, smeared
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.stages import run_stage, seeded
from comfyui_stylegan_fusion.miniature.tokenizer import learned_tokenizer
from comfyui_stylegan_fusion.miniature.train_generator import portraits_of
from comfyui_stylegan_fusion.training.phases import Average, Outcome, Phase, gradients_of
from PIL import Image


def portrait(domain="person", **changes):
    """One portrait with every factor in the middle of its range, and `changes`."""
    factors = factors_from_uniform(torch.full([1, COUNT], 0.5), torch.tensor([DOMAINS.index(domain)]))
    for name, value in changes.items():
        setattr(
            factors, name, torch.as_tensor(value, dtype=getattr(factors, name).dtype).reshape_as(getattr(factors, name))
        )
    return factors


def test_portraits_are_pictures_of_the_stated_size_and_range():
    images = render(sample_factors(24, seeded(1)))
    assert images.shape == (24, 3, 64, 64)
    assert images.min() >= -1 and images.max() <= 1
    assert render(sample_factors(2, seeded(1)), resolution=32).shape == (2, 3, 32, 32)


def test_every_domain_looks_different_with_the_same_factors():
    images = torch.cat([render(portrait(domain)) for domain in DOMAINS])
    assert torch.pdist(images.flatten(1)).min() > 10


def test_a_portrait_depends_only_on_its_own_factors():
    factors = sample_factors(12, seeded(2))
    torch.testing.assert_close(render(factors)[5:7], render(factors[slice(5, 7)]))


def test_position_moves_the_head_and_background_colours_the_corner():
    centre, moved = render(portrait(x=0.0)), render(portrait(x=0.25))
    torch.testing.assert_close(moved[..., 10:40, 16:60], centre[..., 10:40, 8:52], atol=0.35, rtol=0)
    corner = render(portrait(background=[0.2, 0.4, 0.6]))[0, :, 0, 0]
    assert corner.argsort().tolist() == [0, 1, 2]


def test_edges_are_soft_over_about_one_pixel():
    row = render(portrait(background=[1.0, 1.0, 1.0], hair=0, surface=[0.0, 0.0, 0.0]))[0, 0, 30]
    steps = row.diff().abs()
    assert 0.05 < steps.max() < 1.9  # a hard edge would jump by 2 at once


def test_captions_name_the_domain_and_never_what_is_not_there():
    factors = sample_factors(300, seeded(3))
    for i, line in enumerate(captions(factors, seeded(4))):
        assert f" {DOMAINS[factors.domain[i]]}" in f" {line}"
        assert ("glasses" in line) <= (factors.accessory[i] == 1).item()
        assert ("smiling" in line) <= (factors.smile[i] > 0).item()
        assert "a orange" not in line


def test_factors_refuse_unknown_domains_and_shapes():
    with pytest.raises(ValueError, match=r"no domain 'dog'.*person, cat"):
        sample_factors(1, seeded(0), "dog")
    with pytest.raises(ValueError, match=r"\[B, 32\] or \[B, 29\]"):
        factors_from_uniform(torch.rand(2, 3), torch.zeros(2, dtype=torch.long))


def test_diversity_is_the_mean_distance_of_pairs():
    assert diversity(torch.tensor([[0.0], [1.0], [3.0]])) == pytest.approx((1 + 3 + 2) / 3)


def test_blur_keeps_flat_pictures_and_matches_a_gaussian():
    flat = torch.full([1, 3, 16, 16], 0.3)
    torch.testing.assert_close(blurred(flat, torch.tensor([2.0])), flat)
    spike = torch.zeros(1, 1, 33, 33)
    spike[..., 16, 16] = 1
    out = blurred(spike, torch.tensor([1.5]))[0, 0]
    x = torch.arange(33) - 16.0
    variance = (out.sum(0) * x.square()).sum()
    assert variance == pytest.approx(1.5**2, rel=0.02)


def test_recompression_and_damage_stay_in_range_and_recolour_the_labels():
    factors = sample_factors(16, seeded(5))
    images = render(factors)
    assert 0 < (recompressed(images[0], 20) - images[0]).abs().mean() < 0.2
    out, background, surface = damaged(images, factors, seeded(6))
    assert out.abs().max() <= 1
    changed = (background - factors.background).abs().amax(1) > 1e-6
    assert 0 < changed.sum() < 16 and surface.shape == (16, 3)


def test_an_interrupted_stage_goes_on_to_the_same_weights(tmp_path):
    def run(folder, stop_at=None):
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 1)

        def compute(micro_steps):
            step = micro_steps[0].step
            if step == stop_at:
                raise KeyboardInterrupt
            x = torch.randn(8, 4, generator=seeded(1, step))
            loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
            return Outcome(gradients_of(loss, model.parameters()), {"loss": loss.item()})

        average = Average.of(model, lambda step: 0.9)
        adam = torch.optim.Adam(model.parameters())
        run_stage(folder, [Phase("line", model, adam, compute, lambda step: 0.01, average=average)], 20, save_every=0)
        return torch.cat([model.weight, average.module.weight])

    whole = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "parts", stop_at=7)
    torch.testing.assert_close(run(tmp_path / "parts"), whole, rtol=0, atol=0)


def test_a_training_that_goes_on_keeps_its_vocabulary(tmp_path, monkeypatch):
    """Learning one twice can number the words in another order, and the text encoder would read other words."""
    first = learned_tokenizer(tmp_path / "tokenizer").get_vocab()
    assert "portrait</w>" in first
    monkeypatch.setattr(tokenizer, "_learn", lambda folder: pytest.fail("learned again"))
    assert learned_tokenizer(tmp_path / "tokenizer").get_vocab() == first


def test_the_first_factors_are_drawn_as_ever():
    """portraits.png was written when hats, hair and collars had one outline each; the judge was trained on such."""
    with Image.open(Path(__file__).parent / "portraits.png") as picture:
        wanted = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
    for row, domain in enumerate(DOMAINS):
        drawn = torch.cat([*render(sample_factors(4, seeded(31), domain, plain=True))], dim=2)
        found = drawn.add(1).mul(127.5).round().byte()
        difference = found.int() - wanted[:, 64 * row : 64 * (row + 1)].int()
        assert difference.abs().max() <= 1  # other processors round otherwise


def test_outlines_came_behind_the_numbers_that_were_there():
    uniform = torch.rand(6, COUNT, generator=seeded(5))
    domain = torch.arange(6)
    plain, rich = (factors_from_uniform(u, domain) for u in (uniform[:, :PLAIN_COUNT], uniform))
    for name in ("background", "surface", "x", "hair", "accessory", "clothes"):
        assert torch.equal(getattr(plain, name), getattr(rich, name))
    assert not (plain.hat_shape.any() or plain.hair_shape.any() or plain.collar.any())
    assert not torch.equal(render(plain), render(rich))


@pytest.mark.parametrize("factor, value", [("hat_shape", 1), ("hat_shape", 2), ("hair_shape", 1), ("hair_shape", 2)])
def test_an_outline_changes_what_is_above_the_head_and_nothing_below(factor, value):
    accessory = 2 if factor == "hat_shape" else 0
    plain, other = (portrait(accessory=accessory, hair=1, collar=0, **{factor: v}) for v in (0, value))
    assert (render(plain)[..., :20, :] - render(other)[..., :20, :]).abs().max() > 0.3
    torch.testing.assert_close(render(plain)[..., 40:, :], render(other)[..., 40:, :])


@pytest.mark.parametrize("domain", ["person", "cat"])
def test_every_latent_stands_for_a_portrait(domain):
    portraits = portraits_of(torch.randn(50, 128, generator=seeded(6)), domain)
    assert set(portraits.domain.tolist()) == {DOMAINS.index(domain)}
    assert len(set(portraits.hat_shape.tolist())) == 3
    assert render(portraits).shape == (50, 3, 64, 64)


def test_fine_detail_falls_with_blur():
    images = render(sample_factors(40, seeded(7), "fox"))
    details = [fine_detail(blurred(images, torch.full([40], sigma))) for sigma in (0.0, 0.5, 1.0, 2.0)]
    assert details == sorted(details, reverse=True) and details[2] < 0.3 * details[0]
    some = blurred(images, torch.tensor([2.0] * 4 + [1e-3] * 36))
    assert smeared(fine_details(some)) - smeared(fine_details(images)) >= 0.075


@pytest.mark.parametrize(
    "domain, outline, other", [("fox", "ears", "person"), ("cat", "ears", "person"), ("robot", "square head", "person"),
                               ("robot", "antenna", "person")]
)  # fmt: skip
def test_an_outline_is_found_where_it_is_and_seldom_elsewhere(domain, outline, other):
    judge = load_classifier()
    found = {}
    for drawn in (domain, other):
        images = render(sample_factors(200, seeded(8), drawn))
        found[drawn] = shares(images, judge.read(images), domain)[outline]
    assert found[domain] > 0.75 and found[other] < 0.3


@pytest.mark.parametrize("domain", ["fox", "robot", "zombie", "doll", "person"])
def test_open_eyes_are_found_and_smeared_ones_are_not(domain):
    judge, images = load_classifier(), render(sample_factors(200, seeded(9), domain))
    smeared = blurred(images, torch.full([200], 2.0))
    sharp, soft = (shares(pictures, judge.read(images), domain)["eyes"] for pictures in (images, smeared))
    assert sharp > 0.85 and soft < 0.3
