"""The nodes of generators that draw in three dimensions, in a real ComfyUI on the miniature's heads."""

import io

import pytest
import torch
from comfyui_stylegan_fusion.metrics.figures import to_pictures
from comfyui_stylegan_fusion.miniature import GENERATORS
from comfyui_stylegan_fusion.stylegan import Views, load_generator, render_samples, sample_z
from graphs import MINIATURE
from PIL import Image

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
