"""Accumulation, micro-batches, and terms on the images."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    ImageTerm,
    LatentTerm,
    ReconstructionRegularizer,
    ScoreDistillation,
    TopKLayers,
    TrainSettings,
    train_generator,
)
from comfyui_stylegan_fusion.sds.draws import draw_timestep, draw_z, noise_source
from comfyui_stylegan_fusion.sds.objective import Batch, Objective, Reference, prior_input
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.stylegan import Draw
from comfyui_stylegan_fusion.training.draws import MicroStep
from comfyui_stylegan_fusion.training.loop import train_step
from comfyui_stylegan_fusion.training.out_of_memory import split_rows


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def settings(**changes):
    return TrainSettings(**{"steps": 2, "batch_size": 3, "t_max": 0.8, "diversity_samples": 2, **changes})


@dataclasses.dataclass(frozen=True)
class PixelDistance(ImageTerm):
    """The mean squared difference of the images: a term whose gradient is known."""

    kind: ClassVar[str] = "pixels"
    needs: ClassVar[frozenset[str]] = frozenset({"images", "frozen_images"})

    def distance(self, view):
        return (view.images - view.frozen_images).square().mean(dim=(1, 2, 3))


def objective(prior, *regularizers, **options):
    return Objective(
        prior, [ScoreDistillation(), *regularizers], **{"gradient_clamp": None, "image_clamp_quantile": None, **options}
    )


def test_micro_batches_cover_a_batch():
    assert split_rows(5, 2) == [slice(0, 2), slice(2, 4), slice(4, 5)]
    assert split_rows(5, None) == [slice(0, 5)]


@pytest.mark.parametrize("micro_batch", [1, 2])
@pytest.mark.parametrize("clamps", [{}, {"gradient_clamp": 0.5, "image_clamp_quantile": 0.9}])
def test_a_batch_in_micro_batches_gives_the_gradients_of_the_whole(generator, prior, micro_batch, clamps):
    regularizers = [DirectionalRegularizer(0.5), ReconstructionRegularizer(0.2), PixelDistance(3.0)]
    target = objective(prior, *regularizers, **clamps)
    weight = generator.synthesis.layers[3].weight.requires_grad_()
    ws = generator.mapping(torch.randn(3, 16)).detach()
    moved = ws + 0.3 * torch.randn(ws.shape)
    eps = torch.randn(3, 4, 8, 8)

    def gradients(micro_batch):
        leaf = moved.clone().requires_grad_()
        reference = target.reference(generator, Draw(ws), micro_batch)
        batch = Batch(Draw(leaf), [0.4], lambda *_: eps)
        return target.gradients(generator, batch, reference, [weight, leaf], micro_batch)

    (whole, losses), (parts, losses_of_parts) = gradients(None), gradients(micro_batch)
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5 * a.abs().max().item())
    assert losses == pytest.approx(losses_of_parts, rel=1e-4)
    assert set(losses) == {"sds", "directional", "reconstruction", "pixels"}


def test_accumulated_batches_count_like_one_batch_of_their_mean(generator, prior):
    """One step of Adam is the sign of the mean gradient: compare the gradients themselves."""
    given = settings(batch_size=2, accumulation=3, steps=1)
    run = GeneratorTraining(generator, prior, given, [], TopKLayers(7))
    seen, adaptation = {}, run.adaptation
    (phase,) = run.training.phases
    phase.update = lambda outcome, step: seen.update(outcome.gradients)
    losses = train_step(run.training).losses
    expected, of_batches = [], []
    parameters = list(seen)
    for turn in range(3):
        micro_step = MicroStep(0, 0, turn)
        ws = adaptation.frozen.mapping(draw_z(micro_step, 2, 16)).detach()
        batch = Batch(Draw(ws), [draw_timestep(micro_step, given)], noise_source(micro_step, prior.device))
        gradients, found = adaptation.objective.gradients(adaptation.generator, batch, Reference(), parameters)
        expected.append(gradients)
        of_batches.append(found["sds"])
    for i, parameter in enumerate(parameters):
        torch.testing.assert_close(seen[parameter], sum(g[i] for g in expected) / 3, rtol=1e-4, atol=1e-7)
    assert losses["sds"] == pytest.approx(sum(of_batches) / 3)


def test_one_batch_is_the_same_with_and_without_the_setting(generator, prior):
    one = train_generator(generator, prior, settings(), layers=TopKLayers(2))
    same = train_generator(generator, prior, settings(accumulation=1), layers=TopKLayers(2))
    more = train_generator(generator, prior, settings(accumulation=2), layers=TopKLayers(2))
    assert one.history.records == same.history.records != more.history.records
    assert [rows for rows, _ in prior.calls] == [3, 3] * 2 + [3, 3, 3, 3]


def test_layers_are_searched_over_all_batches_of_a_step(generator, prior):
    result = train_generator(generator, prior, settings(accumulation=2, steps=1), layers=TopKLayers(2, steps=3))
    assert len(result.history.records[0].layers) == 2
    assert [rows for rows, _ in prior.calls] == [3] * 6  # each of three search steps looks at both batches


def test_a_term_on_the_images_adds_its_gradient_after_the_clamp(generator, prior):
    assert PixelDistance(1.0).on == ImageTerm.on != LatentTerm.on == DirectionalRegularizer(1.0).on
    ws, eps = generator.mapping(torch.randn(2, 16)).detach(), torch.randn(2, 4, 8, 8)
    moved = ws + 0.5
    weight = generator.synthesis.layers[3].weight.requires_grad_()
    clamp = {"image_clamp_quantile": 0.6}
    batch = Batch(Draw(moved), [0.4], lambda *_: eps)
    without = objective(prior, **clamp).gradients(generator, batch, Reference(), [weight])[0]
    target = objective(prior, PixelDistance(2.5), **clamp)
    reference = target.reference(generator, Draw(ws))
    assert reference.latents is None
    with_term, losses = target.gradients(generator, batch, reference, [weight])
    images, frozen = (prior_input(generator.synthesis(Draw(codes)), 16) for codes in (moved, ws))
    (pull,) = torch.autograd.grad(2.5 * (images - frozen.detach()).square().mean(), weight)
    torch.testing.assert_close(with_term[0] - without[0], pull, rtol=1e-3, atol=1e-6)
    assert losses["pixels"] == pytest.approx((images - frozen).square().mean().item(), rel=1e-4)


def test_a_strong_term_on_the_images_holds_them(generator, prior):
    def distance(result):
        images = [
            prior_input(
                g.synthesis(Draw(g.mapping(torch.randn(8, 16, generator=torch.Generator().manual_seed(3))))), 16
            )
            for g in (generator, result.generator)
        ]
        return (images[0] - images[1]).square().mean().item()

    with torch.no_grad():
        free = distance(train_generator(generator, prior, settings(steps=30, learning_rate=0.01)))
        held = distance(
            train_generator(generator, prior, settings(steps=30, learning_rate=0.01), [PixelDistance(3000.0)])
        )
    assert held < 0.3 * free


def test_the_encoder_is_told_whether_to_keep_activations(generator, prior):
    seen, encode = [], prior.encode
    prior.encode = lambda images, recompute=False: seen.append(recompute) or encode(images)
    plain = train_generator(generator, prior, settings(steps=1))
    again = train_generator(generator, prior, settings(steps=1, recompute=True))
    assert seen == [False, True]
    for a, b in zip(plain.generator.state_dict().values(), again.generator.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_term_on_the_images_alone_asks_for_no_prediction(generator, prior):
    ws = generator.mapping(torch.randn(2, 16)).detach()
    weight = generator.synthesis.layers[3].weight.requires_grad_()
    target = Objective(prior, [PixelDistance(2.0)], None, None)
    reference = target.reference(generator, Draw(ws))
    gradients, losses = target.gradients(
        generator, Batch(Draw(ws + 0.5), [0.4], lambda shape, place: torch.zeros(shape)), reference, [weight]
    )
    assert not prior.calls and list(losses) == ["pixels"] and gradients[0].abs().sum() > 0
