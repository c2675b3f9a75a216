"""Settings that make no sense are answered with a sentence that names them."""

import math

import pytest
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    ManualLayers,
    ReconstructionRegularizer,
    TopKLayers,
    TrainSettings,
)


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"steps": 0}, "steps is 0; it must be at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"learning_rate": 0.0}, "learning rate is 0.0"),
        ({"learning_rate": math.nan}, "learning rate is nan"),
        ({"cooldown": 1.1}, "cooldown is 1.1; give a share of the steps"),
        ({"cooldown": math.nan}, "cooldown is nan"),
        ({"t_max": 1.5}, "range 0.01 to 1.5 leaves the schedule"),
        ({"t_min": -0.1}, "range -0.1 to 0.5 leaves the schedule"),
        ({"t_min": 0.6, "t_max": 0.5}, "range 0.6 to 0.5 is empty"),
        ({"t_max": math.nan}, "leaves the schedule"),
        ({"seed": -1}, "seed is -1"),
        ({"gradient_clamp": 0.0}, "gradient_clamp is 0.0"),
        ({"image_clamp_quantile": 1.5}, "image_clamp_quantile is 1.5"),
        ({"also_train": ("mapping",)}, "no parameter group 'mapping'; choose from constant, 4x4, to_rgb"),
        ({"diversity_samples": 1}, "diversity_samples is 1"),
        ({"diversity_every": 0}, "diversity_every is 0"),
        ({"max_skipped_in_a_row": 0}, "max_skipped_in_a_row is 0"),
    ],
)
def test_settings_out_of_range_are_named(setting, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainSettings(**setting)


def test_the_learning_rate_falls_to_nothing_over_the_cooldown():
    settings = TrainSettings(steps=10, learning_rate=0.4, cooldown=0.4)
    rates = [settings.rate(step) for step in range(10)]
    assert rates == pytest.approx([0.4] * 7 + [0.3, 0.2, 0.1])
    constant = TrainSettings(steps=10, learning_rate=0.4)
    assert {constant.rate(step) for step in range(10)} == {0.4}


@pytest.mark.parametrize("kind", [DirectionalRegularizer, ReconstructionRegularizer])
@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_regularizer_weights_out_of_range_are_named(kind, weight):
    with pytest.raises(ValueError, match=f"{kind.kind} regularizer's weight is {weight}"):
        kind(weight)


def test_layer_choices_without_layers_are_refused():
    with pytest.raises(ValueError, match="list of layers is empty"):
        ManualLayers(())
    with pytest.raises(ValueError, match="number of layers to select is 0"):
        TopKLayers(0)
    with pytest.raises(ValueError, match="number of selection steps is 0"):
        TopKLayers(1, steps=0)
