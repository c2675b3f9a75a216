"""The commands with generators of pictures that are not square, grey, or have an alpha channel."""

import av
import pytest
import torch
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.stylegan import GeneratorConfig, load_checkpoint, save_generator
from foreign_files import build
from PIL import Image


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A tall generator with alpha, and a wide grey one."""
    folder = tmp_path_factory.mktemp("generators")
    for name, shape in {
        "alpha": {"const_size": (4, 2), "img_channels": 4},
        "grey": {"const_size": (2, 4), "img_channels": 1},
    }.items():
        save_generator(build(GeneratorConfig(64, 16, 16, 0, 2, 1024, 16, **shape)), folder / f"{name}.safetensors")
    return folder


SHAPES = {"alpha": ("RGBA", (32, 64)), "grey": ("RGB", (64, 32))}


def picture(path):
    with Image.open(path) as opened:
        opened.load()
        return opened


@pytest.mark.parametrize("name", SHAPES)
def test_every_command_draws_them(files, name, tmp_path, capsys):
    mode, size = SHAPES[name]
    generator = ["--generator", str(files / f"{name}.safetensors")]

    def run(*arguments):
        assert main([str(one) for one in arguments]) == 0, capsys.readouterr().err

    run("sample", *generator, "--count", "2", "--output", tmp_path / "sample")
    first = picture(tmp_path / "sample" / "00000.png")
    assert (first.mode, first.size) == (mode, size) and len(first.getcolors(9999)) > 20
    assert picture(tmp_path / "sample" / "grid.png").mode == "RGB"
    if name == "grey":
        assert len({first.getchannel(colour).tobytes() for colour in "RGB"}) == 1
    walk = ["walk", *generator, "--count", "2", "--frames-per-key", "1", "--output"]
    run(*walk, tmp_path / "w.mp4", "--frames", tmp_path / "frames")
    with av.open(str(tmp_path / "w.mp4")) as film:
        assert (film.streams.video[0].width, film.streams.video[0].height) == size
    assert picture(tmp_path / "frames" / "00000.png").mode == mode
    run(*walk, tmp_path / "w.webp")
    run("mix", *generator, "--row-count", "1", "--column-count", "1", "--output", tmp_path / "mix")
    run("edit", *generator, "--output", tmp_path / "edit")
    project = ["project", *generator, "--features", "miniature", "--steps", "2", tmp_path / "sample" / "00000.png"]
    run(*project, "--output", tmp_path / "project")
    found = picture(tmp_path / "project" / "00000.png")
    assert (found.mode, found.size) == (mode, size)


def test_what_they_draw_is_measured(files, tmp_path, capsys):
    arguments = [str(files / "alpha.safetensors"), "--count", "4", "--output", str(tmp_path / "evaluation")]
    assert main(["evaluate", *arguments]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", SHAPES)
def test_they_are_adapted(files, name, tmp_path):
    file, out = str(files / f"{name}.safetensors"), tmp_path / "out"
    adapt = ["adapt", "--generator", file, "--model", "miniature", "--prompt", "a portrait of a fox", "--steps", "2"]
    assert main([*adapt, "--batch-size", "2", "--targets", "2", "--output", str(out)]) == 0
    before, after = (load_checkpoint(path).generator for path in (file, out / "generator.safetensors"))
    assert before.config == after.config
    assert not torch.equal(before.synthesis.layers[3].weight, after.synthesis.layers[3].weight)
    assert picture(out / "before_after.png").mode == picture(out / "targets.png").mode == "RGB"


def test_convert_says_what_they_are_and_writes_them_in_nvlabs_layout(files, tmp_path, capsys):
    converted = tmp_path / "alpha.pt"
    arguments = ["convert", str(files / "alpha.safetensors"), "--output", str(converted), "--layout", "nvlabs"]
    assert main(arguments) == 0
    assert "StyleGAN2 of 32 x 64 pixels, RGBA" in capsys.readouterr().out
    assert torch.load(converted, weights_only=True)["G_kwargs"]["square"] is False
    assert main(["convert", str(converted), "--output", str(tmp_path / "again.safetensors")]) == 0
    assert load_checkpoint(tmp_path / "again.safetensors").generator.config.const_size == (4, 2)
    assert main([*arguments[:3], str(tmp_path / "g.safetensors"), "--layout", "nvlabs"]) == 1
    assert "layout nvlabs is written as a .pt" in capsys.readouterr().err
    assert main([*arguments[:3], str(tmp_path / "g.pt")]) == 1
    assert "rosinality's layout has no place for" in capsys.readouterr().err
