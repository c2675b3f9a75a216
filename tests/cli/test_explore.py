"""The commands that explore: films, mixing, editing, projecting, blending."""

import json

import av
import pytest
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.miniature import GENERATORS
from comfyui_stylegan_fusion.stylegan import read_metadata
from comfyui_stylegan_fusion.stylegan.code_files import load_codes
from PIL import Image

MINIATURE = ["--generator", "miniature"]


def names(folder):
    return {path.name for path in folder.iterdir()}


def pixels(path):
    with Image.open(path) as picture:
        return torch.frombuffer(bytearray(picture.convert("RGB").tobytes()), dtype=torch.uint8).float()


def difference(a, b):
    return (pixels(a) - pixels(b)).abs().mean().item()


def test_a_walk_is_a_film_whose_frames_are_those_beside_it(tmp_path):
    walk = ["walk", *MINIATURE, "--count", "2", "--frames-per-key", "3", "--fps", "12"]
    assert main([*walk, "--output", str(tmp_path / "w.mp4"), "--frames", str(tmp_path / "frames")]) == 0
    assert names(tmp_path / "frames") == {f"{i:05}.png" for i in range(6)}
    with av.open(str(tmp_path / "w.mp4")) as film:
        stream = film.streams.video[0]
        frames = [frame.to_image() for frame in film.decode(stream)]
        assert stream.average_rate == 12 and stream.codec_context.name == "h264"
    assert len(frames) == 6
    frames[4].save(tmp_path / "fifth.png")
    assert difference(tmp_path / "fifth.png", tmp_path / "frames" / "00004.png") < 4
    assert main([*walk, "--output", str(tmp_path / "w.webp")]) == 0
    with Image.open(tmp_path / "w.webp") as film:
        assert film.n_frames == 6 and film.size == (64, 64)
        film.seek(4)
        film.convert("RGB").save(tmp_path / "fifth.png")
        assert film.info["duration"] == 83
    assert difference(tmp_path / "fifth.png", tmp_path / "frames" / "00004.png") < 4


def test_a_walk_through_z_and_open_is_as_long_as_asked_for(tmp_path):
    walk = ["walk", *MINIATURE, "--seeds", "4,9", "--frames-per-key", "2", "--path", "sphere", "--no-loop"]
    assert main([*walk, "--pace", "slow", "--output", str(tmp_path / "frames")]) == 0
    assert names(tmp_path / "frames") == {"00000.png", "00001.png", "00002.png"}
    assert main(["sample", *MINIATURE, "--seeds", "9", "--truncation-psi", "0.7", "--output", str(tmp_path / "s")]) == 0
    assert difference(tmp_path / "s" / "seed00009.png", tmp_path / "frames" / "00002.png") < 0.1


def test_without_pyav_a_sentence_says_what_to_install(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert main(["walk", *MINIATURE, "--output", str(tmp_path / "w.mp4")]) == 1
    assert 'Install it with "pip install av"' in capsys.readouterr().err and not (tmp_path / "w.mp4").exists()
    assert main(["walk", *MINIATURE, "--output", str(tmp_path / "w.avi")]) == 1
    assert "ends in none of .mp4, .webp, .gif" in capsys.readouterr().err


def test_mixtures_have_the_rows_code_but_the_columns_layers(tmp_path):
    mix = ["mix", *MINIATURE, "--row-count", "2", "--column-seeds", "5-7", "--layers", "2-3"]
    assert main([*mix, "--cell-size", "64", "--output", str(tmp_path / "m")]) == 0
    files = {f"{row:05}-seed{column:05}.png" for row in (0, 1) for column in (5, 6, 7)}
    assert names(tmp_path / "m") == files | {"grid.png", "latents.safetensors"}
    with Image.open(tmp_path / "m" / "grid.png") as grid:
        assert grid.size == (4 * 64, 3 * 64)
    ws = load_codes(tmp_path / "m" / "latents.safetensors").ws
    assert torch.equal(ws[0, 2:4], ws[3, 2:4]) and not torch.equal(ws[0, 4], ws[3, 4])
    assert torch.equal(ws[0, 4:], ws[1, 4:]) and not torch.equal(ws[0, 2], ws[1, 2])


def test_edits_are_strips_of_each_direction_and_can_be_edited_again(tmp_path):
    edit = ["edit", *MINIATURE, "--seed", "2", "--direction", "0-1", "--strip", "3"]
    assert main([*edit, "--output", str(tmp_path / "e")]) == 0
    files = {f"00000-direction{direction}-{step}.png" for direction in (0, 1) for step in (0, 1, 2)}
    assert names(tmp_path / "e") == files | {"grid.png", "latents.safetensors"}
    assert difference(*(tmp_path / "e" / f"00000-direction{d}-1.png" for d in (0, 1))) < 0.1  # both unmoved
    ws = load_codes(tmp_path / "e" / "latents.safetensors").ws
    torch.testing.assert_close(ws[1] - ws[0], ws[2] - ws[1], rtol=1e-4, atol=1e-4)
    again = ["edit", *MINIATURE, "--latents", str(tmp_path / "e" / "latents.safetensors"), "--pick", "0,2"]
    assert main([*again, "--strength", "0", "--output", str(tmp_path / "again")]) == 0
    assert torch.equal(load_codes(tmp_path / "again" / "latents.safetensors").ws, ws[[0, 2]])


def test_a_picture_is_projected_cut_by_its_eyes_and_drawn_by_another_generator(tmp_path, capsys):
    assert main(["sample", *MINIATURE, "--count", "1", "--truncation-psi", "0.7", "--output", str(tmp_path)]) == 0
    picture, out = tmp_path / "00000.png", tmp_path / "p"
    with Image.open(picture) as small:
        shifted = Image.new("RGB", (300, 260), "grey")
        shifted.paste(small.resize((128, 128), Image.Resampling.BICUBIC), (100, 60))
        shifted.save(tmp_path / "photo.png")
    place = [100 + 128 * 0.416, 60 + 64, 100 + 128 * 0.584, 60 + 64]
    project = ["project", str(tmp_path / "photo.png"), *MINIATURE, "--steps", "40", "--output", str(out)]
    assert main([*project, "--eyes", ",".join(map(str, place))]) == 0
    assert names(out) == {"photo.png", "compared.png", "latents.safetensors"}
    assert "photo.png: perceptual distance" in capsys.readouterr().out
    assert difference(out / "photo.png", picture) < 25
    sample = ["sample", "--latents", str(out / "latents.safetensors"), "--generator"]
    assert main([*sample, "miniature", "--output", str(tmp_path / "same")]) == 0
    assert difference(tmp_path / "same" / "00000.png", out / "photo.png") < 0.1
    average = ["--truncation-psi", "0", "--output"]
    assert main([*sample, "miniature", *average, str(tmp_path / "average")]) == 0
    assert main(["sample", *MINIATURE, "--count", "1", *average, str(tmp_path / "of a seed")]) == 0
    assert difference(*(tmp_path / name / "00000.png" for name in ("average", "of a seed"))) < 0.1
    assert main([*sample, "miniature-cat", "--output", str(tmp_path / "cat")]) == 0
    assert "another mapping" in capsys.readouterr().out


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--eyes", "20,30,40,30", "--eyes", "1,2,3,4"], "--eyes is given 2 times for 1 pictures"),
        (["--eyes", "20,30,200,30"], "has 90 x 80 pixels, and --eyes lie outside of it"),
        (["--framing", "FFHQ"], "add --align"),
        (["--steps", "0"], "The number of steps is 0"),
        (["--align"], "no face was found; say where its eyes are"),
    ],
)
def test_projections_that_make_no_sense_get_a_sentence(tmp_path, capsys, options, sentence):
    picture = tmp_path / "plain.png"
    Image.new("RGB", (90, 80), "blue").save(picture)
    assert main(["project", str(picture), *MINIATURE, *options, "--output", str(tmp_path / "out")]) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_blend_takes_layers_of_both_and_says_so(tmp_path, capsys):
    out = tmp_path / "blend.safetensors"
    assert main(["blend", "miniature", "miniature-cat", "--swap-from", "16", "--output", str(out)]) == 0
    first, second, blend = (
        load_generator(file).state_dict() for file in (*map(GENERATORS.get, ("miniature", "miniature-cat")), out)
    )
    assert torch.equal(blend["synthesis.blocks.0.const"], first["synthesis.blocks.0.const"])
    assert torch.equal(blend["synthesis.blocks.4.convs.1.weight"], second["synthesis.blocks.4.convs.1.weight"])
    assert json.loads(read_metadata(out)["blend"])["share of the second"] == "1 from 16 pixels on, softness 0"
    assert main(["blend", "miniature", "miniature-cat", "--output", str(out)]) == 1
    assert "already holds blend.safetensors" in capsys.readouterr().err
    assert main(["blend", "miniature", "miniature-cat", "--softness", "1", "--output", str(tmp_path / "b.pt")]) == 1
    assert "add --swap-from 16" in capsys.readouterr().err
