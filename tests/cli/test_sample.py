"""The command sample: what a picture depends on, and going on."""

import json
import os
import signal
import sys

import pytest
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.cli import sample as command
from PIL import Image

SAMPLE = ["sample", "--generator", "miniature"]


def names(folder):
    return {path.name for path in folder.iterdir()}


def pixels(path):
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def close(a, b):
    """Whether two pictures are the same but for the rounding of other batches."""
    return max(abs(x - y) for x, y in zip(pixels(a), pixels(b), strict=True)) <= 1


def test_random_noise_obeys_the_seed_whatever_the_count(tmp_path):
    for name, options in {"few": ["2"], "many": ["6"], "other": ["2", "--seed", "1"]}.items():
        assert main([*SAMPLE, "--noise", "random", "--count", *options, "--output", str(tmp_path / name)]) == 0
    few, many, other = (tmp_path / name / "00001.png" for name in ("few", "many", "other"))
    assert close(few, many) and not close(few, other)


def test_a_list_of_seeds_draws_the_first_latent_of_each_in_any_list(tmp_path):
    assert main([*SAMPLE, "--seeds", "2-3,100", "--output", str(tmp_path / "list")]) == 0
    assert main([*SAMPLE, "--seed", "100", "--count", "3", "--output", str(tmp_path / "one")]) == 0
    assert names(tmp_path / "list") == {"seed00002.png", "seed00003.png", "seed00100.png", "grid.png"}
    assert close(tmp_path / "list" / "seed00100.png", tmp_path / "one" / "00000.png")


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process need a console on Windows")
def test_sampling_that_was_stopped_goes_on_and_refuses_other_settings(tmp_path, capsys, monkeypatch):
    out, written, write = tmp_path / "out", [], command.write_png

    def stopped_after_five(picture, path, notes=None):
        write(picture, path, notes)
        written.append(path)
        if len(written) == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command, "write_png", stopped_after_five)
    assert main([*SAMPLE, "--count", "8", "--output", str(out)]) == 143
    assert "Stopped. 5 of 8 images" in capsys.readouterr().out and names(out) == {f"0000{i}.png" for i in range(5)}
    kept = (out / "00004.png").stat().st_mtime_ns
    assert main([*SAMPLE, "--count", "8", "--output", str(out)]) == 1  # without --continue nothing is touched
    assert main([*SAMPLE, "--count", "8", "--continue", "--truncation-psi", "0.5", "--output", str(out)]) == 1
    assert "00000.png was drawn otherwise (different: --truncation-psi)" in capsys.readouterr().err
    assert main([*SAMPLE, "--count", "10", "--continue", "--output", str(out), "--keep-latents"]) == 0
    assert "Wrote 5 images" in capsys.readouterr().out and (out / "00004.png").stat().st_mtime_ns == kept
    assert main([*SAMPLE, "--count", "10", "--output", str(tmp_path / "whole")]) == 0
    assert all(close(out / f"{i:05}.png", tmp_path / "whole" / f"{i:05}.png") for i in range(10))
    assert close(out / "grid.png", tmp_path / "whole" / "grid.png")
    latents = ["--latents", str(out / "latents.safetensors"), "--pick", "7"]
    assert main([*SAMPLE, *latents, "--output", str(tmp_path / "kept")]) == 0
    assert close(tmp_path / "kept" / "00000.png", out / "00007.png")


def test_a_picture_says_how_it_was_drawn(tmp_path):
    assert main([*SAMPLE, "--seeds", "7", "--output", str(tmp_path / "out")]) == 0
    with Image.open(tmp_path / "out" / "seed00007.png") as picture:
        notes = json.loads(picture.info["stylegan-fusion"])
    assert notes["--seed"] == 7 and notes["--generator"] == "miniature" and str(tmp_path) not in json.dumps(notes)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--seeds", "3-1"], "'3-1' is no seed or range of seeds; write for example 1-64,100"),
        (["--seeds", "1-99999999999"], "These are 99999999999 seeds"),
        (["--output", ""], '"" is no name'),
        (["--count", "0"], "give 1 or more"),
    ],
)
def test_what_cannot_be_read_is_refused_by_a_message_on_usage(tmp_path, capsys, options, sentence):
    with pytest.raises(SystemExit, match="2"):
        main([*SAMPLE, "--output", str(tmp_path / "out"), *options])
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--seeds", "1", "--count", "2"], "--seeds and --count both say which latents to take"),
        (["--pick", "1"], "--pick chooses from --latents"),
        (["--latents", "absent.npz"], "There is no file absent.npz"),
    ],
)
def test_sources_that_make_no_sense_get_a_sentence(tmp_path, capsys, options, sentence):
    assert main([*SAMPLE, "--output", str(tmp_path / "out"), *options]) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()
