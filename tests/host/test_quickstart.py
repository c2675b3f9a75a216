"""The templates in the real page and the real queue: what a new user does first."""

import dataclasses
import io
import json
import re
from pathlib import Path
from urllib.parse import quote

import pytest
from comfy_host import PROJECT, PromptRejected
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, SDS_SETTINGS
from comfyui_stylegan_fusion.stylegan import read_metadata
from PIL import Image, ImageChops

TEMPLATES = PROJECT / "example_workflows"
ALL = sorted(TEMPLATES.glob("*.json"))
STEPS, TARGETS = 8, 8  # the template's own numbers take minutes


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
    make = graph[by_class(graph, "StyleGANFusionMakeTargets")]["inputs"]
    assert make["guidance_scale"] == MINIATURE_SETTINGS.target_scale
    measured = dataclasses.asdict(MINIATURE_SETTINGS.targets)
    assert {name: make[name] for name in measured} == measured
    train["steps"], make["count"], make["levels"] = STEPS, TARGETS, 2
    return graph, host.run(graph)


def pictures(host, run, node, name="images") -> list[Image.Image]:
    return [Image.open(io.BytesIO(host.view(image))).convert("RGB") for image in run.outputs[node][name]]


def test_quickstart_runs_from_the_page_to_the_files(host, quickstart):
    graph, run = quickstart
    assert run.succeeded, run.error
    compare = by_class(graph, "StyleGANFusionCompareSamples")
    before, after = (pictures(host, run, compare, side) for side in ("before", "after"))
    plot, new, targets = (
        pictures(host, run, by_class(graph, kind, title))
        for kind, title in (
            ("PreviewImage", "Progress of each term"),
            ("SaveImage", "New images"),
            ("StyleGANFusionMakeTargets", None),
        )
    )
    assert len(before) == len(after) == 8 and len(new) == 16 and len(plot) == len(targets) == 1
    assert targets[0].width == 2 * targets[0].height  # four samples above what they shall become
    assert all(picture.size == (64, 64) for picture in before + after + new)
    assert all(ImageChops.difference(a, b).getbbox() for a, b in zip(before, after, strict=True))
    assert all(ImageChops.difference(before[0], other).getbbox() for other in before[1:])
    assert plot[0].width > 400


def test_templates_for_style_and_shape_differ_by_their_timesteps(page):
    style, shape = (
        graph[by_class(graph, "StyleGANFusionSDSGuidance")]["inputs"]
        for graph in (page.api_form(TEMPLATES / f"{name}_change.json") for name in ("style", "shape"))
    )
    measured = SDS_SETTINGS.training
    assert style["t_max"] <= 0.3 and (shape["t_min"], shape["t_max"]) == (measured.t_min, measured.t_max)


def test_quickstart_shows_its_training_on_the_panel(host, quickstart):
    graph, run = quickstart
    training = by_class(graph, "StyleGANFusionTrainGenerator")
    train = graph[training]["inputs"]
    shown = host.get(f"/stylegan_fusion/panels/{train['panel']}")
    assert shown["status"] == "finished" and shown["step"] == shown["steps"] == STEPS
    assert {0, STEPS} <= set(shown["moments"]) and set(shown["curves"]) == {"targets", "discriminator"}
    picture = host.fetch(f"/stylegan_fusion/panels/{train['panel']}/moments/{STEPS}")
    with Image.open(io.BytesIO(picture)) as moment:
        assert moment.format == "JPEG" and moment.width == 2 * moment.height  # samples above their targets
    assert training not in dict(run.previews)  # the panel has them
    assert [value for value, most in run.progress if most == STEPS][-1] == STEPS


def test_opening_a_template_gives_no_error(page):
    before = len(page.errors)  # the page of the oldest host starts with one of its own
    for path in ALL:
        page.open(path)
    assert page.errors[before:] == []


def test_quickstart_saves_a_generator_that_knows_its_history(host, quickstart):
    # Other tests save foxes in the same ComfyUI; the quick start's is the latest.
    path = max((host.output / "stylegan").glob("fox_*.safetensors"), key=lambda path: path.stat().st_mtime)
    metadata = read_metadata(path)
    assert metadata["prompt"] == "a portrait of a fox"
    assert metadata["source"] == "miniature" and metadata["license"] == "MIT" and metadata["seed"] == "0"
    # The template's settings are those that the miniature's figures were measured with.
    chosen, settings = MINIATURE_SETTINGS, json.loads(metadata["settings"])
    measured = dataclasses.asdict(dataclasses.replace(chosen.training, steps=STEPS, precision="float32"))
    assert {name: settings[name] for name in measured} == {**measured, "also_train": []}
    assert [term["term"] for term in settings["terms"]] == ["targets"]
    assert settings["guidance_scale"] == chosen.guidance_scale and settings["layers"] == chosen.layers.describe()
    assert metadata["negative_prompt"] == "a portrait of a person"
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


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_templates_are_listed_with_a_picture(host, page, path):
    page.open(path)
    ours = [node["type"] for node in page.saved_form()["nodes"] if node["type"].startswith("StyleGANFusion")]
    kinds = ("TrainGenerator", "PreviewTargets", "TrainDomain", "Orbit", "MixDomains")
    assert {f"StyleGANFusion{kind}" for kind in kinds} & {*ours}
    (pack,) = [pack for pack, names in host.get("/api/workflow_templates").items() if path.stem in names]
    thumbnail = host.fetch(f"/api/workflow_templates/{quote(pack)}/{path.stem}.jpg")
    with Image.open(io.BytesIO(thumbnail)) as picture:
        assert picture.size == (512, 512) and len(thumbnail) < 100_000


def test_templates_have_no_panel_of_their_maker():
    for path in ALL:
        for node in json.loads(path.read_text(encoding="utf-8"))["nodes"]:
            if node["type"] == "StyleGANFusionTrainGenerator":
                assert not re.search("[0-9a-f]{32}", str(node["widgets_values"])), path


@pytest.mark.parametrize(
    "path",
    [path for path in ALL if path.stem not in ("quickstart", "sd15_ffhq", "sd15_domain_control")],
    ids=lambda path: path.stem,
)
def test_templates_run_as_they_are(host, page, path):
    graph = page.api_form(path)
    for node in graph.values():  # but for their length
        if "steps" in node["inputs"] and node["class_type"].startswith("StyleGANFusion"):
            node["inputs"]["steps"] = 2
        if node["class_type"] == "StyleGANFusionMakeTargets":
            node["inputs"]["count"], node["inputs"]["levels"] = 4, 2
        if "frames_per_key" in node["inputs"]:
            node["inputs"]["frames_per_key"] = 2
    run = host.run(graph)
    assert run.succeeded, run.error
    shows = [
        name for name, node in graph.items() if node["class_type"] in ("StyleGANFusionCompareSamples", "PreviewImage")
    ]
    assert shows and all(run.outputs[name] for name in shows)


def test_the_template_for_real_checkpoints_names_what_is_missing(host, page):
    with pytest.raises(PromptRejected) as rejected:
        host.submit(page.api_form(TEMPLATES / "sd15_ffhq.json"))
    assert "stylegan2-ffhq-1024x1024.pkl" in str(rejected.value) and "models/stylegan" in str(rejected.value)


def test_a_graph_that_an_earlier_version_saved_keeps_its_links_and_runs(host, page):
    graph = page.api_form(Path(__file__).parent / "earlier" / "quickstart_0_2.json")
    train = graph[by_class(graph, "StyleGANFusionTrainGenerator")]["inputs"]
    linked = {name: graph[link[0]]["class_type"] for name, link in train.items() if isinstance(link, list)}
    assert linked == {
        "generator": "StyleGANFusionLoadMiniature",
        "guidance": "StyleGANFusionSDSGuidance",
        "regularizer": "StyleGANFusionDirectionalRegularizer",
    }
    assert (train["steps"], train["batch_size"], train["learning_rate"]) == (350, 4, 0.006)
    train["steps"] = 2
    graph[by_class(graph, "StyleGANFusionSaveGenerator")]["inputs"]["filename_prefix"] = "earlier"
    run = host.run(graph)
    assert run.succeeded, run.error
    (path,) = (host.output / "stylegan").glob("earlier_*.safetensors")
    terms = json.loads(read_metadata(path)["settings"])["terms"]
    assert [term["term"] for term in terms] == ["sds", "directional"]


def test_a_saved_graph_whose_widgets_are_linked_keeps_these_links_when_a_node_has_got_another_input(host, page):
    saved = Path(__file__).parent / "earlier" / "quickstart_linked_widgets.json"
    inputs = [
        {name for node in subgraph["nodes"] if node["type"] == "StyleGANFusionSDSGuidance" for name in by_name(node)}
        for subgraph in json.loads(saved.read_text(encoding="utf-8"))["definitions"]["subgraphs"]
    ]
    assert not any("view_prompts" in names for names in inputs)  # it came later

    def values(file):
        graph = page.api_form(file)
        return {
            node["class_type"]: {name: value for name, value in node["inputs"].items() if not isinstance(value, list)}
            for node in graph.values()
            if node["class_type"] in ("StyleGANFusionSDSGuidance", "StyleGANFusionMakeTargets")
        }

    wanted = values(TEMPLATES / "quickstart.json")
    wanted["StyleGANFusionMakeTargets"] |= {"guidance_scale": 2, "refresh": 0, "refresh_share": 1}  # as it was then
    assert values(saved) == wanted


def by_name(node):
    return {one["name"]: one for one in node["inputs"]}
