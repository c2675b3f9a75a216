"""Latents that are drawn again and again: what is computed once changes nothing but the time."""

import itertools

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    AllLayers,
    DirectionalRegularizer,
    ReconstructionRegularizer,
    SavedTraining,
    TargetPictures,
    Targets,
    TopKLayers,
    TrainingInterrupted,
    train_generator,
)
from comfyui_stylegan_fusion.sds.latent_pool import LatentPool
from comfyui_stylegan_fusion.sds.terms.combinations import DeltaDistillation
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.stylegan import Draw
from comfyui_stylegan_fusion.training.draws import MicroStep
from eg3d_files import head
from gaussian import GaussianPrior
from trainings import assert_same_weights, settings, small_generator

KINDS = {
    "new noise": {"latent_pool": 3},
    "noises": {"latent_pool": 3, "noise_pool": 2},
    "several of an image": {"latent_pool": 3, "noise_pool": 5, "timesteps_per_image": 2},
    "accumulated": {"latent_pool": 3, "noise_pool": 2, "accumulation": 2},
}
TERMS = {
    "directional": [DirectionalRegularizer()],
    "DDS": [DeltaDistillation()],
    "pixels": [ReconstructionRegularizer()],
}


def asked(**given):
    return settings(**{"steps": 6, "batch_size": 2, **given})


class Forgetting(LatentPool):
    """Computes everything anew."""

    def reference(self, *given):
        self._latents.clear(), self._predictions.clear()
        return super().reference(*given)


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_remembered_is_what_would_be_computed(monkeypatch, generator, kind, terms):
    remembering = train_generator(generator, GaussianPrior(), asked(**kind), terms)
    monkeypatch.setattr("comfyui_stylegan_fusion.sds.adapting.LatentPool", Forgetting)
    assert_same_weights(
        remembering.generator, train_generator(generator, GaussianPrior(), asked(**kind), terms).generator
    )


def test_the_frozen_side_of_each_sample_is_computed_once(monkeypatch, generator, prior):
    encoded, encode = [], prior.encode
    monkeypatch.setattr(prior, "encode", lambda images, *rest: (encoded.append(len(images)), encode(images, *rest))[1])
    given = asked(steps=30, latent_pool=3, noise_pool=2)
    train_generator(generator, prior, given, [DirectionalRegularizer()])
    assert (encoded.count(1), encoded.count(2)) == (3, 30)
    rows = [rows for rows, _ in prior.calls]
    assert (rows.count(1), rows.count(2)) == (3 * 2, 30)
    assert len({t for _, t in prior.calls}) == 2


@pytest.mark.parametrize("made", [small_generator, head], ids=["flat", "in 3D"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_both_sides_are_looked_at_alike(kind, made):
    """Before anything has moved, trained and frozen generator differ by rounding alone."""
    result = train_generator(made(), GaussianPrior(), asked(steps=1, **kind), [DirectionalRegularizer()])
    assert result.history.records[0].losses["directional"] < 1e-10 < result.history.records[0].losses["sds"]


def test_all_latents_come_before_any_comes_again(generator):
    pool = LatentPool(Draw(torch.zeros(6, 1, 16)), None, generator, asked(latent_pool=6))
    drawn = [pool.rows(MicroStep(0, step)) for step in range(6)]
    assert [sorted(itertools.chain(*drawn[i : i + 3])) for i in (0, 3)] == [[0, 1, 2, 3, 4, 5]] * 2
    assert drawn[:3] != drawn[3:]


def test_timesteps_of_noises_cover_the_range(generator):
    pool = LatentPool(
        Draw(torch.zeros(1, 1, 16)), None, generator, asked(latent_pool=1, noise_pool=4, t_min=0.2, t_max=0.6)
    )
    assert [pool.timestep(noise) for noise in range(4)] == pytest.approx([0.25, 0.35, 0.45, 0.55])
    drawn = {tuple(pool.noises(MicroStep(0, step), 2)) for step in range(40)}
    assert drawn == {(0, 2), (1, 3), (2, 0), (3, 1)}


@pytest.mark.parametrize("layers", [None, TopKLayers(2, steps=2)], ids=["all", "top 2"])
def test_a_training_from_a_pool_goes_on_as_if_never_stopped(tmp_path, generator, layers):
    given, terms = asked(latent_pool=3, noise_pool=2), [DirectionalRegularizer()]
    saved = SavedTraining(tmp_path / "training.safetensors")

    def stop(progress):
        if progress.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train_generator(generator, GaussianPrior(), given, terms, layers, stop, saved)
    resumed = train_generator(generator, GaussianPrior(), given, terms, layers, saved=saved)
    whole = train_generator(generator, GaussianPrior(), given, terms, layers)
    assert_same_weights(resumed.generator, whole.generator)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"noise_pool": 4}, "set latent_pool, too"),
        ({"latent_pool": 4, "noise_pool": 2, "timestep_schedule": "annealed"}, "timestep_schedule to uniform"),
        ({"latent_pool": 4, "noise_pool": 2, "guidance_end": 0.5}, "guidance_end to 1"),
        ({"latent_pool": 4, "noise_pool": 2, "timesteps_per_image": 3}, "noise_pool to as many"),
        ({"latent_pool": -1}, "number of latents"),
    ],
)
def test_pools_that_cannot_be_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        asked(**wrong)


def test_targets_have_latents_of_their_own(generator, prior):
    targets = Targets(torch.zeros(4, generator.num_ws, generator.w_dim), torch.zeros(4, 3, 16, 16, dtype=torch.uint8))
    with pytest.raises(ValueError, match="latent_pool to 0"):
        train_generator(generator, prior, asked(latent_pool=4), [TargetPictures(targets=targets)])


def test_each_sample_in_3d_keeps_its_camera_and_its_rays(monkeypatch, prior):
    given, terms = asked(steps=3, **KINDS["noises"]), [DirectionalRegularizer()]
    pool = GeneratorTraining(head(), prior, given, terms, AllLayers()).adaptation.latents
    two = pool.samples([2, 0])
    assert torch.equal(two.cameras, pool.draw.cameras[[2, 0]]) and two.ray_seeds == pool.draw.ray_seeds[2::-2]
    assert not torch.equal(two.cameras[0], two.cameras[1]) and two.ray_seeds[0] != two.ray_seeds[1]
    remembering = train_generator(head(), prior, given, terms)
    monkeypatch.setattr("comfyui_stylegan_fusion.sds.adapting.LatentPool", Forgetting)
    assert_same_weights(remembering.generator, train_generator(head(), prior, given, terms).generator)
