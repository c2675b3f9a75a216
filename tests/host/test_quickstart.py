"""The templates in the real page and the real queue: what a new user does first."""

import dataclasses
import io
import json

import pytest
from comfy_host import PROJECT, PromptRejected
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.miniature.settings import DEMOS, MINIATURE_SETTINGS
from comfyui_stylegan_fusion.stylegan import read_metadata
from PIL import Image, ImageChops

TEMPLATES = PROJECT / "example_workflows"
STEPS = 8  # the template's own number takes minutes


def by_class(graph: dict, kind: str, title: str | None = None) -> str:
    """Id of the one node of a class (and title) in a graph in API form."""
    (found,) = [
        node
        for node, content in graph.items()
        if content["class_type"] == kind and title in (None, content["_meta"]["title"])
    ]
    return found


@pytest.fixture(scope="module")
def quickstart(host, page):
    """The template in API form, shortened, and its run."""
    graph = page.api_form(TEMPLATES / "quickstart.json")
    train = graph[by_class(graph, "StyleGANFusionTrainGenerator")]["inputs"]
    assert train["steps"] == MINIATURE_SETTINGS.training.steps
    train["steps"] = STEPS
    return graph, host.run(graph)


def pictures(host, run, node) -> list[Image.Image]:
    return [Image.open(io.BytesIO(host.view(image))).convert("RGB") for image in run.outputs[node]["images"]]


def test_quickstart_runs_from_the_page_to_the_files(host, quickstart):
    graph, run = quickstart
    assert run.succeeded, run.error
    before, after, plot, new = (
        pictures(host, run, by_class(graph, kind, title))
        for kind, title in (
            ("PreviewImage", "Before"),
            ("PreviewImage", "After"),
            ("PreviewImage", "Progress of each term"),
            ("SaveImage", "New images"),
        )
    )
    assert len(before) == len(after) == 8 and len(new) == 16 and len(plot) == 1
    assert all(picture.size == (64, 64) for picture in before + after + new)
    assert all(ImageChops.difference(a, b).getbbox() for a, b in zip(before, after, strict=True))
    assert all(ImageChops.difference(before[0], other).getbbox() for other in before[1:])
    assert plot[0].width > 400


def test_the_quick_start_tells_the_settings_of_a_robot():
    robot, text = DEMOS["robot"], (TEMPLATES / "quickstart.json").read_text(encoding="utf-8")
    training = robot.training
    assert f"guidance_scale {robot.guidance_scale}, t_min {training.t_min}, t_max {training.t_max}" in text
    assert f"weight {robot.directional_weight:g} and learning_rate {training.learning_rate}" in text


def test_quickstart_reports_progress_with_previews(quickstart):
    _, run = quickstart
    assert [value for value, most in run.progress if most == STEPS][-STEPS:] == list(range(1, STEPS + 1))
    assert len(run.previews) == STEPS
    with Image.open(io.BytesIO(run.previews[0])) as preview:
        assert preview.width >= 128


def test_opening_a_template_gives_no_error(page):
    before = len(page.errors)  # the page of the oldest host starts with one of its own
    for name in ("quickstart", "sd15_ffhq"):
        page.open(TEMPLATES / f"{name}.json")
    assert page.errors[before:] == []


def test_quickstart_shows_the_time_left_on_the_node(quickstart):
    _, run = quickstart
    assert f"step {STEPS} of {STEPS}, 0 s left" in run.texts[-1]
    assert "sds" in run.texts[-1]


def test_quickstart_saves_a_generator_that_knows_its_history(host, quickstart):
    (path,) = (host.output / "stylegan").glob("fox_*.safetensors")
    metadata = read_metadata(path)
    assert metadata["prompt"] == "a portrait of a fox"
    assert metadata["source"] == "miniature" and metadata["license"] == "MIT" and metadata["seed"] == "0"
    # The template's settings are those that the miniature's figures were measured with.
    chosen, settings = MINIATURE_SETTINGS, json.loads(metadata["settings"])
    measured = dataclasses.asdict(dataclasses.replace(chosen.training, steps=STEPS))
    assert {name: settings[name] for name in measured} == {**measured, "also_train": []}
    assert settings["regularizers"] == {"directional": chosen.directional_weight}
    assert settings["guidance_scale"] == chosen.guidance_scale and settings["layers"] == repr(chosen.layers)
    assert metadata["negative_prompt"] == chosen.negative_prompt
    generator, original = load_generator(path), load_generator("miniature")
    changed = [
        not bool((a.weight == b.weight).all())
        for a, b in zip(generator.synthesis.layers, original.synthesis.layers, strict=True)
    ]
    assert any(changed)
    assert f"output/{path.name}" in str(host.object_info()["StyleGANFusionLoadGenerator"]["input"])


def test_the_adapted_generator_loads_and_draws(host, quickstart):
    graph = {
        "load": {"class_type": "StyleGANFusionLoadGenerator", "inputs": {"file": "output/fox_00001.safetensors"}},
        "sample": {
            "class_type": "StyleGANFusionSampleGenerator",
            "inputs": {
                "generator": ["load", 0],
                "seed": 5,
                "count": 3,
                "truncation_psi": 0.7,
                "truncation_cutoff": 4,
                "noise": "random",
            },
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["sample", 0], "filename_prefix": "again"}},
    }
    run = host.run(graph)
    assert run.succeeded, run.error
    assert [picture.size for picture in pictures(host, run, "save")] == [(64, 64)] * 3


@pytest.mark.parametrize("name", ["quickstart", "sd15_ffhq"])
def test_templates_are_readable_and_listed(host, page, tmp_path, name):
    page.open(TEMPLATES / f"{name}.json")
    assert page.overlapping_nodes() == []
    page.screenshot(tmp_path / f"{name}.png")
    saved = page.saved_form()
    ours = [node["type"] for node in saved["nodes"] if node["type"].startswith("StyleGANFusion")]
    assert "StyleGANFusionTrainGenerator" in ours
    assert name in str(host.get("/api/workflow_templates"))


def test_the_template_for_real_checkpoints_names_what_is_missing(host, page):
    with pytest.raises(PromptRejected) as rejected:
        host.submit(page.api_form(TEMPLATES / "sd15_ffhq.json"))
    assert "stylegan2-ffhq-1024x1024.pkl" in str(rejected.value) and "models/stylegan" in str(rejected.value)
