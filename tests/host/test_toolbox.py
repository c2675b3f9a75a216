"""The nodes that explore latents, in a real ComfyUI on the miniature: everything in two graphs, and what is refused."""

import io
import json

import pytest
import torch
from comfy_host import PromptRejected
from comfyui_stylegan_fusion.metrics.figures import to_pictures
from comfyui_stylegan_fusion.miniature import GENERATOR
from comfyui_stylegan_fusion.stylegan import (
    load_generator,
    read_metadata,
    render_samples,
    sample_z,
    save_generator,
)
from foreign_files import STYLEGAN3_T, build, small
from graphs import MINIATURE
from PIL import Image


def node(kind, **inputs):
    return {"class_type": f"StyleGANFusion{kind}", "inputs": inputs}


def show(source, output=0):
    return {"class_type": "PreviewImage", "inputs": {"images": [source, output]}}


SAMPLE = {"seed": 3, "count": 3, "truncation_psi": 0.7, "truncation_cutoff": 0}
LAYERS = {"layers": "coarse", "custom_layers": "0-3"}
EDIT = {"direction": 0, **LAYERS, "strength": 4.0, "strip": 3}
MIX = {
    "row_seed": 0,
    "rows": 1,
    "column_seed": 1,
    "columns": 2,
    "truncation_psi": 0.7,
    "noise": "const",
    "cell_size": 64,
}
WALK = {
    "seed": 0,
    "keyframes": 2,
    "frames_per_key": 4,
    "loop": True,
    "path": "curve",
    "pace": "even",
    "truncation_psi": 0.7,
    "noise": "const",
}
BLEND = {"mode": "swap layers", "weight": 1.0, "swap_from": "16", "softness": 0.0}
PROJECT = {
    "steps": 4,
    "editability": 0.5,
    "features": "miniature",
    "pixel_weight": 1.0,
    "learning_rate": 0.06,
    "seed": 0,
}


def toolbox(first=MINIATURE, output=3, second=MINIATURE, **changes):
    """Every node, on the generators of two nodes. Changes: "node.input" = value."""
    a, b = ["first", output], ["second", output]
    graph = {
        "first": first,
        "second": second,
        "sample": node("SampleLatents", generator=a, **SAMPLE),
        "picture": node("SampleGenerator", generator=a, **SAMPLE, noise="const"),
        "draw": node("DrawLatents", generator=a, latents=["sample", 0], noise="const"),
        "pick": node("PickLatents", latents=["sample", 0], numbers="0, 2"),
        "edit": node("EditLatents", generator=a, latents=["pick", 0], **EDIT),
        "edited": node("DrawLatents", generator=b, latents=["edit", 0], noise="none"),
        "mix": node("StyleMixing", generator=a, **LAYERS, **MIX, row_latents=["pick", 0]),
        "walk": node("LatentWalk", generator=a, **WALK),
        "blend": node("BlendGenerators", first=a, second=b, **BLEND),
        "save": node("SaveGenerator", generator=["blend", 0], filename_prefix="blended"),
        "project": node("ProjectImage", generator=a, images=["picture", 0], **PROJECT),
        "join": node("PickLatents", latents=["project", 0], numbers="", more_latents=["sample", 0]),
        "carried": node("DrawLatents", generator=["blend", 0], latents=["join", 0], noise="const"),
    }
    for name, value in changes.items():
        target, key = name.split(".")
        graph[target]["inputs"][key] = value
    shown = {"drawn": "draw", "sampled": "picture", "strip": "edited", "grid": "mix", "film": "walk", "end": "carried"}
    graph.update({name: show(source) for name, source in shown.items()})
    return graph | {"mixed": show("mix", 1), "found": show("project", 1), "target": show("project", 2)}


def pictures(host, run, name):
    return [Image.open(io.BytesIO(host.view(image))).convert("RGB") for image in run.outputs[name]["images"]]


def numbers(pictures):
    return torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).float() for p in pictures])


def test_latents_are_truncated_when_they_are_drawn(host):
    a = ["first", 3]
    graph = {
        "first": MINIATURE,
        "plain": node("SampleLatents", generator=a, **{**SAMPLE, "truncation_psi": 1.0}),
        "near": node("SampleLatents", generator=a, **{**SAMPLE, "truncation_psi": 0.6}),
        "late": node("DrawLatents", generator=a, latents=["plain", 0], noise="const", truncation_psi=0.6),
        "early": node("DrawLatents", generator=a, latents=["near", 0], noise="const"),
        "a": show("late"),
        "b": show("early"),
    }
    run = host.run(graph)
    assert run.succeeded, run.error
    assert (numbers(pictures(host, run, "a")) - numbers(pictures(host, run, "b"))).abs().max() <= 1


def test_every_node_works_on_the_miniature(host):
    run = host.run(toolbox())
    assert run.succeeded, run.error
    counts = {name: len(output["images"]) for name, output in run.outputs.items() if "images" in output}
    assert counts == {
        "drawn": 3, "sampled": 3, "strip": 6, "grid": 1, "mixed": 4, "film": 8, "end": 6, "found": 3, "target": 3,
    }  # fmt: skip
    expected = render_samples(generator := load_generator(GENERATOR), sample_z(generator.z_dim, 3, 3), 0.7)
    for name in ("drawn", "sampled", "target"):
        assert (numbers(pictures(host, run, name)) - numbers(to_pictures(expected))).abs().max() <= 1
    assert pictures(host, run, "grid")[0].size == (3 * 64, 3 * 64)
    strip = numbers(pictures(host, run, "strip"))
    assert (strip[0] - strip[2]).abs().mean() > 1, "the ends of a strip differ"
    (path,) = (host.output / "stylegan").glob("blended_*.safetensors")
    assert json.loads(read_metadata(path)["blend"])["second"]["name"] == "miniature"
    assert any("perceptual distance" in text for text in run.texts)
    assert "project" in dict(run.previews)


def test_every_node_works_on_classes_crops_and_stylegan3(host):
    folder = host.models / "stylegan"
    save_generator(small(c_dim=3), folder / "toolboxcars.safetensors", {"crop": "32x24"})
    save_generator(build(STYLEGAN3_T), folder / "toolbox3.safetensors", {})
    for name, size, options in (
        ("toolboxcars", (32, 24), {f"{n}.class_index": 1 for n in ("sample", "picture", "mix", "walk", "project")}),
        ("toolbox3", (32, 32), {"walk.path": "sphere", "edit.layers": "custom", "edit.custom_layers": "14-15"}),
    ):
        load = node("LoadGenerator", file=f"{name}.safetensors")
        run = host.run(toolbox(load, 0, load, **{"save.filename_prefix": name, "mix.cell_size": 32}, **options))
        assert run.succeeded, run.error
        for shown in ("drawn", "strip", "mixed", "film", "end", "found", "target"):
            assert {picture.size for picture in pictures(host, run, shown)} == {size}


def test_latents_of_another_mapping_are_noticed_wherever_they_are_drawn(host):
    folder = host.models / "stylegan"
    for seed in (0, 1):
        save_generator(small(seed=seed), folder / f"mapping{seed}.safetensors", {})
    graph = {name: node("LoadGenerator", file=f"{name}.safetensors") for name in ("mapping0", "mapping1")}
    for name in list(graph):
        graph[f"of {name}"] = node("SampleLatents", generator=[name, 0], **SAMPLE)
    drawn = {"generator": ["mapping0", 0], "noise": "const"}
    mix = {**LAYERS, **MIX, **drawn, "row_latents": ["of mapping0", 0], "column_latents": ["of mapping1", 0]}
    graph["mix"] = node("StyleMixing", **mix)
    graph["walk"] = node("LatentWalk", **{**WALK, **drawn, "latents": ["of mapping1", 0]})
    graph["draw"] = node("DrawLatents", **drawn, latents=["mix", 2])
    graph["its own"] = node("DrawLatents", **drawn, latents=["of mapping0", 0])
    run = host.run(graph | {f"{name} shown": show(name) for name in ("mix", "walk", "draw", "its own")})
    assert run.succeeded, run.error
    assert sum("another mapping" in text for text in run.texts) == 3


def test_what_cannot_be_done_gets_a_sentence(host):
    folder = host.models / "stylegan"
    save_generator(small(), folder / "toolbox32.safetensors", {})
    small_one = node("LoadGenerator", file="toolbox32.safetensors")
    cases = [
        ({"draw": ("generator", ["small", 0])}, "draw", "These latents have 10 x 128 numbers each"),
        ({"blend": ("second", ["small", 0])}, "blend", "not built alike"),
        ({"walk": ("latents", ["sample", 0]), "walk ": ("path", "sphere")}, "walk", "given latents do not have"),
        ({"pick": ("numbers", "1-9")}, "pick", "There is no latent 9: there are 3"),
        ({"edit": ("direction", 128)}, "edit", "There is no direction 128"),
        ({"mix": ("layers", "custom"), "mix ": ("custom_layers", "0, 12")}, "mix", "There is no layer 12"),
        ({"sample": ("class_index", 2)}, "sample", "There is no class 2"),
    ]
    for changes, failing, saying in cases:
        graph = toolbox()
        graph["small"] = small_one
        for target, (key, value) in changes.items():
            graph[target.strip()]["inputs"][key] = value
        kept = {"draw": ("drawn",), "blend": ("save",), "walk": ("film",), "mix": ("grid",)}.get(failing, ("strip",))
        needed = ancestors(graph, kept)
        run = host.run({name: graph[name] for name in needed})
        assert run.error is not None and run.error["node_id"] == failing, (failing, run.error)
        message = run.error["exception_message"].strip()
        assert saying in message and message.endswith("."), message


def ancestors(graph, names):
    found = set(names)
    for name in names:
        links = [value[0] for value in graph[name]["inputs"].values() if isinstance(value, list)]
        found |= ancestors(graph, links)
    return found


@pytest.mark.parametrize(
    "shown, changes, saying",
    [
        ("grid", {"mix.layers": "custom", "mix.custom_layers": "3-1"}, "write for example 0-3, 6"),
        ("strip", {"pick.numbers": "one"}, "write for example 0, 3, 5-7"),
        ("found", {"project.features": "missing.pth"}, "There is no file 'missing.pth' in models/lpips"),
        ("found", {"project.editability": 1.5}, "bigger than max"),
    ],
)
def test_what_is_wrong_in_a_graph_is_refused_before_it_runs(host, shown, changes, saying):
    graph = toolbox(**changes)
    with pytest.raises(PromptRejected, match=saying):
        host.submit({name: graph[name] for name in ancestors(graph, [shown])})


@pytest.mark.parametrize(
    "name, changes",
    [
        ("found", {"project.steps": 5000}),
        ("film", {"walk.frames_per_key": 1000}),
        ("sampled", {"picture.count": 4096}),
    ],
)
def test_cancel_ends_what_takes_long(host, name, changes):
    graph = toolbox(**changes)
    began = []

    def cancel(kind, data):
        if kind == "progress" and not began:
            began.append(True)
            host.interrupt()

    run = host.follow(host.submit({n: graph[n] for n in ancestors(graph, (name,))}), cancel)
    assert run.interrupted and began and name not in run.outputs


def test_texts_may_come_from_other_nodes(host):
    """The host knows them only while the graph runs."""

    def text(value):
        return {"class_type": "PrimitiveString", "inputs": {"value": value}}

    def number(value):
        return {"class_type": "PrimitiveInt", "inputs": {"value": value}}

    linked = {"pick.numbers": "which", "mix.custom_layers": "layers", "save.filename_prefix": "name"}
    graph = toolbox(**{"mix.layers": "custom"}, **{name: [source, 0] for name, source in linked.items()})
    graph |= {"which": text("0, 2"), "layers": text("0-1"), "name": text("linked")}
    graph = {name: graph[name] for name in ancestors(graph, ["strip", "grid", "save"])}
    run = host.run(graph)
    assert run.succeeded, run.error
    assert len(run.outputs["strip"]["images"]) == 6 and list((host.output / "stylegan").glob("linked_*.safetensors"))
    for name, value, saying in (
        ("which", "two", "no list; write for example"),
        ("layers", "coarse-ish", "no number or range of layers"),
        ("name", "../outside", "leads out of the folder"),
    ):
        run = host.run({**graph, name: text(value)})
        assert saying in run.error["exception_message"]
    for target, value in (("edit.direction", -1), ("edit.strip", 0), ("sample.count", 0), ("mix.cell_size", 0)):
        run = host.run({**toolbox(**{target: ["which", 0]}), "which": number(value)})
        assert f"{target.partition('.')[2]} is {value}; give it" in run.error["exception_message"]


def test_what_came_of_it_is_told_on_the_node_in_the_page(page):
    """The host's pages show no text that a node returns, only what it sends."""
    measured = {"text": "", "count": 4, "seed": 0, "truncation_psi": 1.0, "features": "miniature"}
    graph = {
        "1": MINIATURE,
        "2": node("EvaluateGenerator", generator=["1", 3], **measured),
        "3": node("SaveGenerator", generator=["1", 3], filename_prefix="told"),
    }
    page.evaluate("graph => window.app.loadApiJson(graph, 'told')", graph)
    assert page.run() is None
    told = """([id, text]) => window.app.graph.getNodeById(id).widgets.some(w => String(w.value).includes(text))"""
    page.wait_until(told, 2, "Diversity: ")
    page.wait_until(told, 3, "Saved as stylegan/told_00001.safetensors")
