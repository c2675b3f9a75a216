"""The table of presets."""

from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, SDS_SETTINGS
from comfyui_stylegan_fusion.sds.presets import PRESETS
from comfyui_stylegan_fusion.sds.terms import TERMS


def test_presets_name_terms_that_there_are_and_say_what_they_are_for():
    for name, preset in PRESETS.items():
        assert set(preset.weights) <= set(TERMS), name
        assert preset.about.endswith(".") and preset.guidance_scale > 0


def test_the_miniatures_settings_are_presets():
    assert {id(MINIATURE_SETTINGS), id(SDS_SETTINGS)} <= {id(preset) for preset in PRESETS.values()}


def test_a_style_is_taught_at_lower_timesteps_than_a_shape():
    style, shape = PRESETS["SD 1.5 style"], PRESETS["SD 1.5 shape"]
    assert style.training.t_max < shape.training.t_max and style.targets.strength < shape.targets.strength
