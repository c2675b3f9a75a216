"""Terms as objects: which count, what they are called, what tells them apart, what they may ask for."""

import dataclasses
from typing import ClassVar

import pytest
import torch
from comfyui_stylegan_fusion.metrics.lpips import Features
from comfyui_stylegan_fusion.sds import (
    TERMS,
    DirectionalRegularizer,
    ImageTerm,
    LatentTerm,
    PerceptualRegularizer,
    ReconstructionRegularizer,
    ScoreDistillation,
    of_objective,
    train_generator,
)
from comfyui_stylegan_fusion.sds.objective import Objective
from comfyui_stylegan_fusion.sds.terms import instance_names
from comfyui_stylegan_fusion.training.settings import setting
from trainings import moved, settings

SDS = ScoreDistillation()


class Pixels(torch.nn.Module):
    """Features that are the pixels themselves, named to be told apart."""

    image_size, calibration = 64, None

    def __init__(self, name: str):
        super().__init__()
        self.name = name

    def forward(self, images):
        return [images]


def features(name: str) -> Features:
    return Pixels(name)


def test_sds_is_there_unless_another_distillation_is():
    directional, csd = DirectionalRegularizer(), TERMS["csd"]()
    assert of_objective([directional], SDS) == [SDS, directional]
    assert of_objective([directional, csd], SDS) == [csd, directional]
    assert of_objective([directional, csd, SDS], SDS) == [csd, SDS, directional]
    assert of_objective([ScoreDistillation(0.0), directional], SDS) == [directional]


def test_a_distillation_that_is_switched_off_stays_off(generator, prior):
    regularizer = PerceptualRegularizer(2.0, features("pixels"))
    result = train_generator(generator, prior, settings(), [ScoreDistillation(0.0), regularizer])
    assert result.history.terms == ["lpips"] and not prior.calls


def test_nothing_to_train_towards_is_said(generator, prior):
    with pytest.raises(ValueError, match="every term has the weight 0"):
        train_generator(generator, prior, settings(), [ScoreDistillation(0.0), DirectionalRegularizer(0.0)])


def test_several_terms_of_a_kind_train_together(generator, prior):
    terms = [PerceptualRegularizer(2.0, features("a")), PerceptualRegularizer(3.0, features("b"))]
    assert instance_names([SDS, *terms]) == ["sds", "lpips", "lpips 2"]
    result = train_generator(generator, prior, settings(), terms)
    assert result.history.terms == ["sds", "lpips", "lpips 2"] and prior.calls == [(2, t) for _, t in prior.calls]
    with pytest.raises(ValueError, match="lpips regularizer is given twice with no difference but its weight"):
        train_generator(generator, prior, settings(), [terms[0], dataclasses.replace(terms[0], weight=9.0)])


def test_a_description_says_what_differs_from_the_declaration():
    @dataclasses.dataclass(frozen=True)
    class Later(LatentTerm):
        reach: float = setting(0.5, "How far.", least=0)

        kind: ClassVar[str] = "later"
        needs: ClassVar[frozenset[str]] = frozenset({"eps_hat"})

        def gradient(self, view):
            return view.eps_hat

    assert Later(2.0).describe() == {"term": "later", "weight": 2.0}
    assert Later(2.0, reach=1.0).describe() == {"term": "later", "weight": 2.0, "reach": 1.0}
    with pytest.raises(ValueError, match="reach is -1"):
        Later(reach=-1)


def test_what_a_term_needs_is_in_a_view_and_nothing_else_is_computed(prior):
    z, z0, eps = (torch.full((2, 4, 8, 8), value) for value in (0.1, 0.2, 0.3))
    asked = {ReconstructionRegularizer: "z0", DirectionalRegularizer: "eps_hat_frozen", TERMS["csd"]: "conditions"}
    for term, part in asked.items():
        view = Objective(prior, [term()], None, None).view(z, z0, 0.4, eps)
        assert getattr(view, part) is not None and view.eps_hat is not None
        assert (view.conditions is None) == (part != "conditions")
        assert (view.eps_hat_frozen is None) == (part != "eps_hat_frozen")
    with pytest.raises(TypeError, match="needs eps_hatt, which a View does not have"):
        type("Misspelt", (LatentTerm,), {"needs": frozenset({"eps_hatt"})})


def test_a_latent_term_may_look_at_the_images_too(generator, prior):
    seen = []

    @dataclasses.dataclass(frozen=True)
    class Looking(LatentTerm):
        kind: ClassVar[str] = "looking"
        needs: ClassVar[frozenset[str]] = frozenset({"eps_hat", "images", "frozen_images"})

        def gradient(self, view):
            seen.append((view.images.shape, view.frozen_images.shape))
            return view.eps_hat

    assert Looking.on != ImageTerm.on
    result = train_generator(generator, prior, settings(steps=1), [Looking()])
    assert seen == [((2, 3, 16, 16), (2, 3, 16, 16))] and moved(generator, result.generator)


def test_lpips_without_a_network_is_refused():
    with pytest.raises(ValueError, match="features"):
        PerceptualRegularizer(600.0)
