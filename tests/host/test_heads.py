"""The nodes of generators that draw in three dimensions, in a real ComfyUI on the miniature's heads."""

import io
import json

import graphs
import pytest
import torch
from comfyui_stylegan_fusion.metrics.figures import to_pictures
from comfyui_stylegan_fusion.miniature import GENERATORS
from comfyui_stylegan_fusion.stylegan import Views, load_generator, render_samples, sample_z
from graphs import MINIATURE
from PIL import Image
from safetensors import safe_open

HEADS = ["miniature", 6]
SAMPLED = {"seed": 3, "count": 2, "truncation_psi": 0.7, "truncation_cutoff": 0}


def node(kind, **inputs):
    return {"class_type": f"StyleGANFusion{kind}", "inputs": inputs}


def show(source, output=0):
    return {"class_type": "PreviewImage", "inputs": {"images": [source, output]}}


def turning(**changes):
    """A head drawn from the side and from all around, its depth and its shape."""
    side = {"yaw": 25.0, "pitch": 5.0, "radius": 0.0, "field_of_view": 0.0}
    shape = {"filename_prefix": "heads", "size": 24, "level": 10.0, "smooth": 0.0, "whole": False}
    graph = {
        "miniature": MINIATURE,
        "latents": node("SampleLatents", generator=HEADS, **SAMPLED),
        "camera": node("Camera", **side),
        "orbit": node("Orbit", frames=3, angle=20.0, camera=["camera", 0]),
        "sample": node("SampleGenerator", generator=HEADS, **SAMPLED, noise="const", camera=["camera", 0]),
        "film": node("DrawLatents", generator=HEADS, latents=["latents", 0], noise="const", camera=["orbit", 0]),
        "depth": node("DrawDepth", generator=HEADS, latents=["latents", 0], camera=["camera", 0]),
        "shape": node("ExtractShape", generator=HEADS, latents=["latents", 0], **shape),
        "sampled": show("sample"),
        "filmed": show("film"),
        "rows": show("film", 1),
        "far": show("depth"),
        "normals": show("depth", 1),
    }
    for name, value in changes.items():
        target, key = name.split(".")
        graph[target]["inputs"][key] = value
    return graph


def pictures(host, run, name):
    return [Image.open(io.BytesIO(host.view(image))).convert("RGB") for image in run.outputs[name]["images"]]


def numbers(pictures):
    return torch.stack([torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).float() for p in pictures])


def test_heads_are_turned(host):
    run = host.run(turning())
    assert run.succeeded, run.error
    generator = load_generator(GENERATORS["miniature-3d"])
    z, side = sample_z(generator.z_dim, 2, 3), Views((25.0,), (5.0,))
    expected = render_samples(generator, z, 0.7, cameras=side.cameras(generator.config))
    assert (numbers(pictures(host, run, "sampled")) - numbers(to_pictures(expected))).abs().max() <= 2
    around = side.orbit(3, 20).cameras(generator.config)
    frames = [render_samples(generator, z[row : row + 1].expand(3, -1), 0.7, cameras=around) for row in range(2)]
    filmed = numbers(pictures(host, run, "filmed"))
    assert (filmed - numbers(to_pictures(torch.cat(frames)))).abs().max() <= 2
    (rows,) = pictures(host, run, "rows")
    assert rows.size == (3 * 256, 2 * 256)
    far, normals = numbers(pictures(host, run, "far")), numbers(pictures(host, run, "normals"))
    assert len(far) == len(normals) == 2 and far.max() == 255 and far.min() == 0
    (path,) = (host.output / "stylegan").glob("heads_*.glb")
    assert path.read_bytes()[:4] == b"glTF" and any("Saved as stylegan/heads_00001.glb" in text for text in run.texts)


def test_a_camera_of_the_host_is_understood(host):
    """From where the usual camera stands, it sees what that sees."""
    info = {
        "class_type": "CreateCameraInfo",
        "inputs": {
            "mode": "look_at",
            "mode.position_x": 0.0,
            "mode.position_y": 0.0,
            "mode.position_z": 2.7,
            "target_x": 0.0,
            "target_y": 0.0,
            "target_z": 0.0,
            "roll": 0.0,
            "fov": 13.0,
            "zoom": 1.0,
            "camera_type": "perspective",
        },
    }
    if "CreateCameraInfo" not in host.object_info():
        pytest.skip("this ComfyUI has no cameras of its own")
    graph = turning(**{"camera.camera_info": ["info", 0]})
    kept = {name: graph[name] for name in ("miniature", "camera", "sample", "sampled")}
    run = host.run(kept | {"info": info})
    assert run.succeeded, run.error
    generator = load_generator(GENERATORS["miniature-3d"])
    seen = Views(field_of_view=13.0).cameras(generator.config)
    expected = render_samples(generator, sample_z(generator.z_dim, 2, 3), 0.7, cameras=seen)
    assert (numbers(pictures(host, run, "sampled")) - numbers(to_pictures(expected))).abs().max() <= 2


@pytest.mark.parametrize(
    "failing, kept", [("sample", "sampled"), ("film", "filmed"), ("depth", "far"), ("shape", None)]
)
def test_flat_generators_say_that_no_camera_helps(host, failing, kept):
    graph = turning(**{f"{failing}.generator": ["miniature", 3]})
    graph["latents"]["inputs"]["generator"] = ["miniature", 3]
    used = {"miniature", "latents", "camera", "orbit", failing, kept} - {None}
    run = host.run({name: graph[name] for name in used})
    assert run.error is not None and run.error["node_id"] == failing
    assert "draws flat pictures" in run.error["exception_message"]


def adapting(**changes):
    """One step towards a robot, which is seen from its side otherwise."""
    graph = graphs.training(
        steps=1, **{"train.generator": HEADS, "save.filename_prefix": "robot", "train.batch_size": 1}
    )
    for name in ("regularizer", "layers", "before", "after", "plot"):
        del graph[name]
    del graph["train"]["inputs"]["regularizer"], graph["train"]["inputs"]["layers"]
    graph["side"] = {
        "class_type": "CLIPTextEncode",
        "inputs": {"clip": ["miniature", 1], "text": "a fox from the side"},
    }
    graph["views"] = node("ViewPrompts", side=["side", 0])
    graph["guidance"]["inputs"]["view_prompts"] = ["views", 0]
    for name, value in changes.items():
        target, key = name.split(".")
        graph[target]["inputs"][key] = value
    return graph


def saved_settings(host, graph):
    run = host.run(graph)
    assert run.succeeded, run.error
    path = max((host.output / "stylegan").glob("robot_*.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["settings"])


def test_heads_are_held_by_lpips_unless_something_else_is_said_and_judged_by_views(host):
    settings = saved_settings(host, adapting())
    terms = {term["term"]: term["weight"] for term in settings["terms"]}
    assert terms == {"sds": 1.0, "lpips": 2.0} and settings["view_prompts"] == "a fox from the side"
    free = adapting(**{"train.regularizer": ["held", 0]})
    free["held"] = node("LPIPSRegularizer", weight=0.0, features="miniature")
    assert [term["term"] for term in saved_settings(host, free)["terms"]] == ["sds"]


def test_prompts_of_views_are_not_for_flat_generators_and_not_for_every_guider(host):
    run = host.run(adapting(**{"train.generator": ["miniature", 3]}))
    assert "a prompt for the side, and this generator draws flat pictures" in run.error["exception_message"]
    graph = adapting()
    graph["views"]["inputs"] = {}
    assert "View Prompts has no prompt" in host.run(graph).error["exception_message"]


def test_a_picture_is_found_with_its_camera(host):
    settings = {"steps": 2, "editability": 0.5, "features": "miniature", "pixel_weight": 1.0, "learning_rate": 0.06}
    kept = {name: turning()[name] for name in ("miniature", "camera", "sample")}
    kept["sample"]["inputs"]["count"] = 1
    project = {"generator": HEADS, "images": ["sample", 0], "seed": 0, "class_index": -1, "find_camera": True}
    graph = kept | {
        "project": node("ProjectImage", **project, **settings),
        "draw": node("DrawLatents", generator=HEADS, latents=["project", 0], noise="const", camera=["project", 3]),
        "drawn": show("draw"),
        "found": show("project", 1),
    }
    run = host.run(graph)
    assert run.succeeded, run.error
    assert "seen from yaw" in run.last_text("project")
    assert (numbers(pictures(host, run, "drawn")) - numbers(pictures(host, run, "found"))).abs().max() <= 2
