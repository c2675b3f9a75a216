"""The commands learn-domain and draw, and domains in adapt and targets, as a user types them."""

import json

import pytest
import torch
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.domain.files import load_domain
from comfyui_stylegan_fusion.metrics.figures import to_pictures
from comfyui_stylegan_fusion.miniature.factors import sample_factors
from comfyui_stylegan_fusion.miniature.ink import render_ink
from comfyui_stylegan_fusion.stylegan import read_metadata
from PIL import Image

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")

FEW = ["--steps", "3", "--batch-size", "2", "--sample-every", "0"]


@pytest.fixture(scope="module")
def ink(tmp_path_factory):
    """A folder of pictures that are drawn with ink."""
    folder = tmp_path_factory.mktemp("ink")
    for number, picture in enumerate(
        to_pictures(render_ink(sample_factors(6, torch.Generator().manual_seed(1), "person")))
    ):
        picture.save(folder / f"{number}.png")
    return folder


def learn(images, output, *more):
    return main(["learn-domain", "--model", "miniature", "--images", str(images), "--output", str(output), *more])


@pytest.fixture(scope="module")
def domain(ink, tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    assert learn(ink, folder, *FEW) == 0
    return folder / "domain.safetensors"


def names(folder):
    return {path.name for path in folder.iterdir()}


def same(a, b):
    a, b = (load_domain(path / "domain.safetensors").weights for path in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_folder_of_pictures_becomes_a_domain_with_samples(ink, tmp_path, capsys):
    out = tmp_path / "domain"
    assert learn(ink, out, "--steps", "2", "--batch-size", "1", "--rank", "2", "--sample-every", "2") == 0
    assert names(out) == {"domain.safetensors", "training.safetensors", "loss.png", "samples"}
    assert names(out / "samples") == {"000002.png"}
    about = load_domain(out / "domain.safetensors").about
    assert about["pictures"] == "6" and about["steps_done"] == "2" and about["rank"] == "2"
    said = capsys.readouterr().out
    assert "stylegan-fusion draw --model miniature --domain" in said


def test_the_same_command_goes_on_and_more_steps_train_further(ink, tmp_path, capsys):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    settings = ["--batch-size", "2", "--sample-every", "0", "--cooldown", "0"]
    assert learn(ink, whole, *settings, "--steps", "4") == 0
    for steps in ("2", "4"):
        assert learn(ink, parts, *settings, "--steps", steps) == 0
    assert "Going on after 2 of 4 steps" in capsys.readouterr().out and same(whole, parts)
    assert learn(ink, parts, *settings, "--steps", "4", "--learning-rate", "0.001") == 1
    assert "(different: --learning-rate)" in capsys.readouterr().err and same(whole, parts)


def test_other_pictures_are_another_training(ink, tmp_path, capsys, domain):
    few = tmp_path / "few"
    few.mkdir()
    for number in range(3):
        (few / f"{number}.png").write_bytes((ink / f"{number}.png").read_bytes())
    assert learn(few, domain.parent, *FEW) == 1
    assert "different: the pictures of --images" in capsys.readouterr().err


def test_a_finished_domain_is_never_written_over(ink, tmp_path, capsys):
    (tmp_path / "domain.safetensors").write_bytes(b"mine")
    assert learn(ink, tmp_path, *FEW) == 1
    assert "already holds domain.safetensors" in capsys.readouterr().err
    assert (tmp_path / "domain.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "make, sentence",
    [
        (lambda folder: None, "holds no pictures"),
        (lambda folder: Image.new("RGB", (64, 64)).save(folder / "a.png"), "There is 1 picture"),
        (lambda folder: Image.new("RGB", (20, 20)).save(folder / "a.png"), "a.png is 20 x 20 pixels"),
    ],
)
def test_pictures_that_nothing_can_be_learned_from_get_a_sentence(tmp_path, capsys, make, sentence):
    folder = tmp_path / "pictures"
    folder.mkdir()
    make(folder)
    assert learn(folder, tmp_path / "out", *FEW) == 1
    assert sentence in capsys.readouterr().err


def draw(output, *more):
    return main(["draw", "--model", "miniature", "--steps", "3", "--output", str(output), *more])


def pixels(folder):
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


def picture(path):
    with Image.open(path) as opened:
        return opened.convert("RGB").tobytes()


def test_draw_writes_numbered_pictures_that_the_count_leaves_alone(tmp_path, domain):
    given = ["--domain", str(domain), "--prompt", "a portrait of a person", "--domain-scale", "2"]
    assert draw(tmp_path / "two", *given, "--count", "2") == 0
    assert names(tmp_path / "two") == {"00000.png", "00001.png"}
    assert draw(tmp_path / "one", *given, "--count", "1", "--seed", "1") == 0
    assert picture(tmp_path / "one" / "00000.png") == picture(tmp_path / "two" / "00001.png")
    with Image.open(tmp_path / "two" / "00001.png") as opened:
        about = json.loads(opened.text["stylegan-fusion"])
    assert about["scales"] == {"text": 2.0, "domain": 2.0} and about["seed"] == 1


def test_without_scale_or_blend_a_domain_changes_nothing_or_little(tmp_path, domain):
    with_domain = ["--domain", str(domain), "--prompt", "a portrait of a person", "--count", "1"]
    assert draw(tmp_path / "plain", "--prompt", "a portrait of a person", "--count", "1") == 0
    assert draw(tmp_path / "none", *with_domain, "--domain-scale", "0") == 0
    assert draw(tmp_path / "some", *with_domain) == 0
    first, none, some = (picture(tmp_path / name / "00000.png") for name in ("plain", "none", "some"))
    assert first == none and first != some


@pytest.mark.parametrize(
    "more, sentence",
    [
        (["--domain-scale", "2"], "--domain-scale is for a domain; add --domain FILE"),
        (["--text-scale", "2"], "--text-scale is for a prompt; add --prompt TEXT"),
        (["--image-size", "63"], "give a multiple of"),
        (["--domain", "absent"], "There is no file"),
    ],
)
def test_drawings_that_make_no_sense_get_a_sentence(tmp_path, capsys, more, sentence):
    assert draw(tmp_path / "out", "--count", "1", *more) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_generator_is_moved_into_a_domain_without_a_word(tmp_path, domain, capsys):
    out = tmp_path / "adapted"
    given = ["--generator", "miniature", "--model", "miniature", "--domain", str(domain), "--domain-scale", "4"]
    assert main(["adapt", *given, "--targets", "0", "--steps", "1", "--samples", "2", "--output", str(out)]) == 0
    guidance = json.loads(read_metadata(out / "generator.safetensors")["settings"])
    assert "domain.safetensors" in json.dumps(guidance)
    assert main(["adapt", *given, "--targets", "0", "--output", str(out)]) == 1
    assert "already holds a run" in capsys.readouterr().err


def test_targets_are_made_with_a_domain(tmp_path, domain):
    given = ["--generator", "miniature", "--model", "miniature", "--target-levels", "2", "--count", "2"]
    pictures = {}
    for scale in ("0", "3"):
        out = tmp_path / scale
        assert main(["targets", *given, "--domain", str(domain), "--domain-scale", scale, "--output", str(out)]) == 0
        pictures[scale] = picture(out / "00000.png")
    assert pictures["0"] != pictures["3"]


def test_adapt_still_asks_for_a_prompt_or_a_domain(capsys):
    with pytest.raises(SystemExit):
        main(["adapt", "--generator", "miniature", "--model", "miniature", "--output", "out"])
    assert "--prompt" in capsys.readouterr().err
