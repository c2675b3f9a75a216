"""What the files of adapted generators say of how they were made."""

import json

from comfyui_stylegan_fusion.sds import AllLayers, DirectionalRegularizer, TrainSettings, training_metadata


def adapted(prompt, source, source_metadata):
    regularizers = [DirectionalRegularizer(2.0)]
    settings = {"prompt": prompt, "negative_prompt": "", "guidance": {"guidance_scale": 7.5}}
    return training_metadata(
        TrainSettings(seed=3), regularizers, AllLayers(), **settings, source=source, source_metadata=source_metadata
    )


def test_a_training_is_described_with_every_setting():
    metadata = adapted("a fox", "ffhq.pkl", {"license": "CC BY-NC", "format": "old"})
    assert (metadata["source"], metadata["prompt"], metadata["seed"]) == ("ffhq.pkl", "a fox", "3")
    assert metadata["license"] == "CC BY-NC" and "format" not in metadata and "adapted_from" not in metadata
    settings = json.loads(metadata["settings"])
    assert settings["guidance_scale"] == 7.5 and settings["terms"] == [{"term": "directional", "weight": 2.0}]
    assert settings["layers"] == {"choice": "all"} and settings["max_skipped_in_a_row"] == 10


def test_trainings_in_a_row_are_all_told():
    first = adapted("a fox", "ffhq.pkl", {})
    second = adapted("an old fox", "fox.safetensors", first)
    third = adapted("an old fox with glasses", "old fox.safetensors", second)
    assert third["prompt"] == "an old fox with glasses" and third["source"] == "old fox.safetensors"
    earlier = json.loads(third["adapted_from"])
    assert [(how["source"], how["prompt"]) for how in earlier] == [
        ("ffhq.pkl", "a fox"),
        ("fox.safetensors", "an old fox"),
    ]
    assert all(json.loads(how["settings"])["seed"] == 3 for how in earlier)


def test_a_damaged_list_of_trainings_begins_anew():
    metadata = adapted("an old fox", "fox.safetensors", {**adapted("a fox", "ffhq.pkl", {}), "adapted_from": "{"})
    assert [how["prompt"] for how in json.loads(metadata["adapted_from"])] == ["a fox"]
