"""Targets on the command line."""

import json
import shutil

import pytest
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.cli.options import parse
from comfyui_stylegan_fusion.cli.plan import read_plan
from comfyui_stylegan_fusion.cli.planning import plan_for
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS
from comfyui_stylegan_fusion.sds import TargetsFolder
from comfyui_stylegan_fusion.stylegan import read_metadata, sample_codes, sample_z
from comfyui_stylegan_fusion.stylegan.code_files import Codes, save_codes
from PIL import Image

MINIATURE = ["--generator", "miniature", "--model", "miniature", "--prompt", "a portrait of a robot"]
ADAPT = ["adapt", *MINIATURE, "--targets", "0"]
FEW = ["--target-levels", "2"]  # levels, so that targets are made in seconds
FILES = {"generator.safetensors", "best.safetensors", "before_after.png", "loss.png", "history.json", "run.json"}


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_targets_are_made_edited_in_place_and_trained_towards(tmp_path, capsys):
    folder, out = tmp_path / "targets", tmp_path / "out"
    assert main(["targets", *MINIATURE, "--count", "4", *FEW, "--output", str(folder)]) == 0
    assert names(folder) == {"targets.safetensors", "targets.png", *(f"{i:05}.png" for i in range(4))}
    assert "adapt --targets" in capsys.readouterr().out
    (folder / "00001.png").unlink()
    Image.new("RGB", (90, 80), "blue").save(folder / "00002.jpg")
    (folder / "00002.png").unlink()
    towards = ["adapt", *MINIATURE, "--targets", str(folder), "--steps", "2"]
    assert main([*towards, "--output", str(out)]) == 0
    assert names(out) == FILES
    (term,) = json.loads(read_metadata(out / "generator.safetensors")["settings"])["terms"]
    edited = TargetsFolder(folder).read()
    assert term["targets"] == edited.name and len(edited) == 3
    assert edited.images[1].float().mean((1, 2)).argmax() == 2  # blue, and as large as the others
    both = [*towards, "--distillation", "sds", "--directional", "1", "--output", str(tmp_path / "both")]
    assert main(both) == 0
    terms = json.loads(read_metadata(tmp_path / "both" / "generator.safetensors")["settings"])["terms"]
    assert [term["term"] for term in terms] == ["targets", "sds", "directional"]


def test_a_photo_of_ones_own_is_among_the_targets(tmp_path, capsys):
    folder, photo, generator = tmp_path / "targets", tmp_path / "photo.safetensors", load_generator("miniature")
    codes = sample_codes(generator, sample_z(generator.z_dim, 1, 99))
    save_codes(photo, Codes(codes, "", "a photo"))
    further = ["--target-latents", str(photo)]
    assert main(["targets", *MINIATURE, "--count", "2", *FEW, *further, "--output", str(folder)]) == 0
    made = TargetsFolder(folder).read()
    assert len(made) == 3 and torch.equal(made.codes[:1], codes)
    assert main([*ADAPT, *further, "--output", str(tmp_path / "out")]) == 1
    assert "--target-latents are for targets that are made" in capsys.readouterr().err


def test_the_same_command_goes_on_with_targets_and_another_one_is_refused(tmp_path, capsys):
    folder = tmp_path / "targets"
    command = ["targets", *MINIATURE, "--count", "3", *FEW, "--output", str(folder)]
    assert main(command) == 0
    (folder / "00001.png").unlink()
    assert main(command) == 0  # all were made: what is missing was thrown out
    assert not (folder / "00001.png").exists()
    assert main([*command, "--target-strength", "0.5"]) == 1
    assert "holds other targets" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options, sentence",
    [
        (["--targets", "many"], "neither a number nor a folder"),
        (["--targets", "1"], "The number of targets is 1"),
        (["--targets", "4", "--target-strength", "2"], "The targets' strength is 2.0; give a fraction above 0"),
        (["--targets", "HERE"], "holds no targets"),
        (["--targets", "0", "--target-levels", "3"], "add --targets N"),
        (["--targets", "0", "--adversarial", "1"], "--adversarial is for trainings towards targets"),
        (["--targets", "4", "--adversarial", "-1"], "The strength of the discriminator is -1.0"),
    ],
)
def test_targets_that_make_no_sense_get_a_sentence(tmp_path, capsys, options, sentence):
    options = [str(tmp_path) if value == "HERE" else value for value in options]
    assert main(["adapt", *MINIATURE, *options, "--steps", "1", "--output", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error


def test_the_discriminator_is_as_strong_as_was_asked_for_and_runs_begun_without_one_go_on_without(tmp_path):
    out, command = tmp_path / "out", ["adapt", *MINIATURE, "--targets", "4", *FEW]
    for strength, options in ((0.5, []), (2.0, ["--adversarial", "2"]), (None, ["--adversarial", "0"])):
        shutil.rmtree(out, ignore_errors=True)
        assert main([*command, *options, "--steps", "2", "--output", str(out)]) == 0
        (term,) = json.loads(read_metadata(out / "generator.safetensors")["settings"])["terms"]
        assert term.get("adversarial") == strength
        losses = json.loads((out / "history.json").read_text())
        assert ("discriminator" in json.dumps(losses)) == (strength is not None)
    run = json.loads((out / "run.json").read_text())
    plan = run.get("plan", run)
    assert plan.pop("adversarial") == 0.0
    assert read_plan(plan).adversarial == 0.0


def planned(*options):
    chosen = parse(["adapt", *MINIATURE, "--output", "x", *options])
    chosen.miniature_settings = MINIATURE_SETTINGS
    return plan_for(chosen)


def test_targets_are_refreshed_unless_another_term_asks_the_model():
    usual = MINIATURE_SETTINGS.targets.refresh
    assert usual > 0 and planned().making.refresh == planned("--targets", "20").making.refresh == usual
    assert planned("--targets", "20", "--lpips", "1").making.refresh == usual
    assert planned("--targets", "20", "--distillation", "sds").making.refresh == 0
    assert planned("--targets", "20", "--directional", "1").making.refresh == 0
    assert planned("--targets", "20", "--directional", "1", "--target-refresh", "30").making.refresh == 30


def test_targets_of_an_earlier_version_are_the_same_whichever_of_them_are_refreshed():
    fewer = planned("--target-refresh-share", "0.1")
    assert fewer.making.refresh_share == 0.1 and fewer.targets.identity == planned().targets.identity
    assert "refresh_share" not in fewer.targets.identity  # earlier versions did not write it
