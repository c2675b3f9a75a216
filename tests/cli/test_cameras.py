"""The command line with generators that draw in three dimensions."""

import json
import struct

import pytest
import torch
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.cli.options import parse
from comfyui_stylegan_fusion.cli.plan import read_plan
from comfyui_stylegan_fusion.cli.planning import plan_for
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS
from comfyui_stylegan_fusion.stylegan import orbit, render_samples, sample_z, save_generator, turned
from eg3d_files import CONFIG, head
from PIL import Image


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("generator") / "head.safetensors"
    generator = head()
    save_generator(generator, path)
    return path


def sample(file, folder, *options):
    return main(["sample", "--generator", str(file), "--device", "cpu", "--output", str(folder), *options])


def picture(path):
    with Image.open(path) as image:
        pixels = torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8)
        return pixels.view(image.height, image.width, 3).permute(2, 0, 1).float() / 127.5 - 1


def expected(cameras, count=1):
    found = render_samples(head(), sample_z(CONFIG.z_dim, count, 0), cameras=cameras)
    return found.clamp(-1, 1)


def test_a_camera_is_where_it_is_asked_for(tmp_path, file):
    assert sample(file, tmp_path / "a", "--count", "2", "--yaw", "25", "--pitch", "-10") == 0
    for row, image in enumerate(expected(turned(CONFIG, 25, -10), 2)):
        assert (picture(tmp_path / "a" / f"{row:05}.png") - image).abs().max() < 0.02
    assert sample(file, tmp_path / "b", "--count", "1", "--fov", "30", "--radius", "3") == 0
    wide = expected(turned(CONFIG, radius=3.0, focal=0.5 / torch.tan(torch.deg2rad(torch.tensor(15.0))).item()))
    assert (picture(tmp_path / "b" / "00000.png") - wide[0]).abs().max() < 0.02


def test_an_orbit_draws_each_image_from_all_sides(tmp_path, file):
    assert sample(file, tmp_path / "o", "--count", "2", "--orbit", "3", "--orbit-angle", "30", "--yaw", "5") == 0
    names = {path.name for path in (tmp_path / "o").iterdir()}
    assert names == {f"0000{i}-0{v}.png" for i in range(2) for v in range(3)} | {"grid.png"}
    cameras = orbit(CONFIG, 3, 30, 5)
    for view in range(3):
        assert (
            picture(tmp_path / "o" / f"00000-0{view}.png") - expected(cameras[view : view + 1])[0]
        ).abs().max() < 0.02


def test_an_orbit_goes_on_where_it_was_stopped(tmp_path, file, capsys):
    whole, part = tmp_path / "whole", tmp_path / "part"
    orbiting = ("--count", "2", "--orbit", "3")
    assert sample(file, whole, *orbiting) == 0 and sample(file, part, *orbiting) == 0
    for name in ("00000-02.png", "00001-00.png"):
        (part / name).unlink()
    capsys.readouterr()
    assert sample(file, part, *orbiting, "--continue") == 0
    assert "Wrote 2 images" in capsys.readouterr().out
    for path in whole.iterdir():
        assert (picture(path) - picture(part / path.name)).abs().max() < 0.02, path
    assert sample(file, part, "--count", "2", "--orbit", "3", "--yaw", "9", "--continue") == 1
    assert "drawn otherwise (different: --yaw)" in capsys.readouterr().err


@pytest.mark.parametrize(
    "generator, options, message",
    [
        ("miniature", ["--yaw", "10"], "draws flat pictures, which no camera can see from another side; leave"),
        ("miniature", ["--orbit", "4"], "draws flat pictures"),
        ("3d", ["--orbit-angle", "10"], "--orbit-angle is of a way around; add --orbit N."),
        ("3d", ["--fov", "190"], "The field of view is 190 degrees; give a number between 0 and 180."),
        ("3d", ["--radius", "-1"], "The camera's radius is -1; give a number above 0."),
        ("3d", ["--pitch", "95"], "its pitch one between -90 and 90."),
        ("3d", ["--orbit", "4", "--orbit-angle", "0"], "The angle of the orbit is 0; give degrees above 0"),
    ],
)
def test_what_no_camera_can_see_is_said(tmp_path, file, capsys, generator, options, message):
    chosen = str(file) if generator == "3d" else generator
    assert sample(chosen, tmp_path / "out", "--count", "1", *options) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "out" / "00000.png").exists()


def mesh(file, output, *options):
    return main(
        ["mesh", "--generator", str(file), "--device", "cpu", "--output", str(output), "--size", "24", *options]
    )


def test_a_mesh_is_written(tmp_path, file, capsys):
    assert mesh(file, tmp_path / "new" / "head.glb", "--seed", "3", "--level", "2") == 0
    data = (tmp_path / "new" / "head.glb").read_bytes()
    assert data[:4] == b"glTF"
    described = json.loads(data[20 : 20 + struct.unpack_from("<I", data, 12)[0]])
    assert described["asset"]["extras"] == {"generator": "head.safetensors", "latent": "1 of seed 3"}
    assert described["accessors"][0]["count"] > 50
    assert f"Wrote {described['accessors'][0]['count']} vertices" in capsys.readouterr().out


@pytest.mark.parametrize(
    "generator, name, options, message",
    [
        ("miniature", "head.glb", [], "draws flat pictures"),
        ("3d", "head.obj", [], "does not end in .glb"),
        ("3d", "there.glb", [], "exists already"),
        ("3d", "head.glb", ["--level", "1e7"], "There is no surface of density"),
    ],
)
def test_what_is_no_mesh_is_said(tmp_path, file, capsys, generator, name, options, message):
    (tmp_path / "there.glb").write_bytes(b"")
    chosen = file if generator == "3d" else generator
    assert mesh(chosen, tmp_path / name, *options) == 1
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1 and not (tmp_path / "head.glb").exists()


@pytest.mark.parametrize(
    "generator, model, more, weight",
    [
        ("3d", "sd", [], 100),
        ("3d", "sd", ["--lpips", "7"], 7),
        ("3d", "sd", ["--lpips", "0"], 0),
        ("3d", "sd", ["--targets", "20"], 0),
        ("3d", "miniature", ["--distillation", "sds"], 2),
        ("miniature", "sd", [], 0),
    ],
)
def test_lpips_holds_generators_in_3d_unless_something_else_is_said(file, tmp_path, generator, model, more, weight):
    chosen = str(file) if generator == "3d" else generator
    given = ["adapt", "--generator", chosen, "--model", model, "--prompt", "a robot", "--output", str(tmp_path), *more]
    options = parse(given)
    options.miniature_settings = MINIATURE_SETTINGS
    assert plan_for(options).weights["lpips"] == weight


def test_prompts_of_views_reach_the_plan_and_its_targets(file, tmp_path):
    given = ["adapt", "--generator", str(file), "--model", "sd", "--prompt", "a robot", "--output", str(tmp_path)]
    options = parse([*given, "--side-prompt", "a robot from the side", "--targets", "20"])
    plan = plan_for(options)
    assert plan.view_prompts == plan.targets.view_prompts == {"side": "a robot from the side"}
    assert read_plan(json.loads(json.dumps(plan.describe()))) == plan
    assert "from the side" in plan.targets.identity
    plain = plan_for(parse([*given, "--targets", "20"]))
    assert plain.view_prompts == {} and "view_prompts" not in plain.targets.identity


def test_prompts_of_views_are_not_for_flat_generators(tmp_path, capsys):
    given = ["adapt", "--generator", "miniature", "--model", "miniature", "--prompt", "a robot"]
    assert main([*given, "--back-prompt", "a back", "--output", str(tmp_path / "out"), "--device", "cpu"]) == 1
    said = capsys.readouterr().err
    assert "a prompt for the back, and this generator draws flat pictures" in said and said.count("\n") == 1


def test_a_picture_is_projected_from_a_camera_that_is_given_or_found(file, tmp_path, capsys):
    assert sample(file, tmp_path / "drawn", "--count", "1", "--yaw", "30") == 0
    given = [
        "project",
        str(tmp_path / "drawn" / "00000.png"),
        "--generator",
        str(file),
        "--device",
        "cpu",
        "--steps",
        "2",
    ]
    capsys.readouterr()
    assert main([*given, "--output", str(tmp_path / "given"), "--yaw", "30"]) == 0
    assert "seen from" not in capsys.readouterr().out
    assert main([*given, "--output", str(tmp_path / "found"), "--find-camera"]) == 0
    assert "seen from yaw" in capsys.readouterr().out
    flat = [*given[:2], "--generator", "miniature", "--output", str(tmp_path / "flat"), "--find-camera", "--steps", "1"]
    assert main([*flat, "--device", "cpu"]) == 1
    assert "draws flat pictures" in capsys.readouterr().err
