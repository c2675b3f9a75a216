"""The command line, as a user types it."""

import json
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, SDS_SETTINGS
from comfyui_stylegan_fusion.stylegan import GeneratorConfig, read_metadata
from foreign_files import STYLEGAN3_T, build, save_nvlabs, small
from PIL import Image

MINIATURE = ["--generator", "miniature", "--model", "miniature", "--prompt", "a portrait of a robot"]
ADAPT = ["adapt", *MINIATURE, "--targets", "0"]
FEW = ["--target-levels", "2"]  # levels, so that targets are made in seconds
# With Ctrl-C as in a terminal: a shell's background jobs ignore it, and so would this process when the tests run in one.
COMMAND = [
    sys.executable,
    "-c",
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from comfyui_stylegan_fusion.cli import main; sys.exit(main())",
]
FILES = {"generator.safetensors", "best.safetensors", "before_after.png", "loss.png", "history.json", "run.json"}
UNFINISHED = FILES | {"training.safetensors"}


def names(folder):
    return {path.name for path in folder.iterdir()}


def same_weights(a, b):
    a, b = load_generator(a).state_dict(), load_generator(b).state_dict()
    return all(torch.equal(a[name], b[name]) for name in a)


def test_adapt_leaves_a_generator_and_two_figures(tmp_path, capsys):
    out = tmp_path / "robot"
    extra = ["--steps", "2", "--seed", "3", "--layers", "top2", "--reconstruction", "0.2", "--also-train", "to_rgb"]
    assert main([*ADAPT, *extra, "--samples", "4", "--output", str(out)]) == 0
    assert names(out) == FILES
    assert str(out) in capsys.readouterr().out
    metadata = read_metadata(out / "generator.safetensors")
    settings = json.loads(metadata["settings"])
    assert metadata["prompt"] == "a portrait of a robot" and metadata["source"] == "miniature"
    assert metadata["seed"] == "3" and metadata["license"] == "MIT"
    assert settings["steps"] == 2 and settings["also_train"] == ["to_rgb"]
    weights = {"sds": 1.0, "directional": SDS_SETTINGS.weights["directional"], "reconstruction": 0.2}
    assert settings["terms"] == [{"term": kind, "weight": weight} for kind, weight in weights.items()]
    assert metadata["negative_prompt"] == "a portrait of a person"
    assert settings["layers"] == {"choice": "top k", "k": 2, "steps": 1}
    with Image.open(out / "before_after.png") as picture:
        assert picture.width == 4 * 128
    assert not same_weights(out / "generator.safetensors", WEIGHTS / "generator.safetensors")


def test_the_same_seed_gives_the_same_generator(tmp_path):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        assert main([*ADAPT, "--steps", "2", "--seed", seed, "--output", str(tmp_path / name)]) == 0
    a, b, c = (tmp_path / name / "generator.safetensors" for name in "abc")
    assert same_weights(a, b) and not same_weights(a, c)


def test_sample_draws_images_and_their_grid(tmp_path, capsys):
    arguments = ["sample", "--generator", "miniature", "--count", "5", "--seed", "4", "--truncation-psi", "0.7"]
    assert main([*arguments, "--output", str(tmp_path / "a")]) == 0
    assert main([*arguments, "--output", str(tmp_path / "b")]) == 0
    assert names(tmp_path / "a") == {"grid.png", *(f"{i:05}.png" for i in range(5))}
    pictures = [(tmp_path / name / "00003.png").read_bytes() for name in "ab"]
    assert pictures[0] == pictures[1]
    with Image.open(tmp_path / "a" / "00003.png") as picture:
        assert picture.size == (64, 64)


def test_an_adapted_generator_is_adapted_again(tmp_path):
    assert main([*ADAPT, "--steps", "1", "--output", str(tmp_path / "first")]) == 0
    first = tmp_path / "first" / "generator.safetensors"
    again = [
        "adapt",
        "--generator",
        str(first),
        "--model",
        "miniature",
        "--prompt",
        "a cat",
        "--steps",
        "1",
        "--targets",
        "0",
    ]
    assert main([*again, "--output", str(tmp_path / "second")]) == 0
    metadata = read_metadata(tmp_path / "second" / "generator.safetensors")
    assert metadata["source"] == "generator.safetensors" and metadata["license"] == "MIT"
    assert metadata["prompt"] == "a cat"


def test_the_demo_never_writes_over_an_earlier_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["demo", "--steps", "1", "--targets", "4", *FEW]) == 0
    assert main(["demo", "--steps", "1", "--targets", "0"]) == 0
    assert names(tmp_path) == {"stylegan-fusion-demo", "stylegan-fusion-demo-2"}
    assert names(tmp_path / "stylegan-fusion-demo") == FILES | {"targets", "targets.png"}
    assert names(tmp_path / "stylegan-fusion-demo-2") == FILES
    assert read_metadata(tmp_path / "stylegan-fusion-demo" / "generator.safetensors")["prompt"] == "a portrait of a fox"


def test_the_demo_goes_from_any_source_to_any_prompt_by_one_setting(tmp_path, capsys):
    runs = {"cats": ["--source", "cat", "--target", "robot"], "words": ["--prompt", "a zombie, smiling"]}
    for name, options in runs.items():
        assert main(["demo", *options, "--steps", "1", "--targets", "4", *FEW, "--output", str(tmp_path / name)]) == 0
    cats, words = (read_metadata(tmp_path / name / "generator.safetensors") for name in runs)
    assert cats["prompt"] == "a portrait of a robot" and cats["negative_prompt"] == "a portrait of a cat"
    assert words["prompt"] == "a zombie, smiling" and words["negative_prompt"] == "a portrait of a person"
    one, other = (json.loads(metadata["settings"]) for metadata in (cats, words))
    assert one["learning_rate"] == other["learning_rate"] == MINIATURE_SETTINGS.training.learning_rate
    assert [term["term"] for term in one["terms"]] == ["targets"]
    assert main(["demo", "--source", "cat", "--target", "cat", "--output", str(tmp_path / "same")]) == 1
    assert "draws a cat already" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process need a console on Windows")
def test_ctrl_c_keeps_what_was_trained(tmp_path):
    out = tmp_path / "robot"
    command = [*COMMAND, *ADAPT, "--steps", "100000", "--batch-size", "1", "--output", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    seen = b""
    while b" 3/100000" not in seen and process.poll() is None:
        seen += process.stderr.read1()
    process.send_signal(signal.SIGINT)
    output, rest = process.communicate(timeout=120)
    assert process.returncode == 130, (seen + rest).decode()
    assert names(out) == UNFINISHED
    done = int(read_metadata(out / "generator.safetensors")["steps_done"])
    assert 3 <= done < 100000
    assert f"Stopped. What was trained for {done} of 100000 steps is kept in {out}".encode() in output
    assert f"Go on with: stylegan-fusion adapt --resume {out}".encode() in output
    assert not same_weights(out / "generator.safetensors", WEIGHTS / "generator.safetensors")


@pytest.fixture
def cut_file(tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes((WEIGHTS / "generator.safetensors").read_bytes()[:100_000])
    return str(path)


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (["--generator", "absent.safetensors"], "absent.safetensors; check the name and the folder"),
        (["--generator", "CUT"], "cut.safetensors is damaged or incomplete"),
        (["--model", "absent"], "absent is not a diffusion model in the layout of diffusers"),
        (["--t-min", "0.9", "--t-max", "0.1"], "The timestep range 0.9 to 0.1 is empty"),
        (["--t-max", "1.5"], "leaves the schedule"),
        (["--layers", "top99"], "Cannot select 99 layers: this generator has 9 synthesis convolutions"),
        (["--layers", "top"], "write for example top3"),
        (["--layers", "a,b"], "write for example 0-3, 6"),
        (["--also-train", "bias"], "There is no parameter group 'bias'"),
        (["--steps", "0"], "steps is 0; it must be at least 1"),
        (["--device", "abacus"], "There is no device 'abacus'"),
        (["--directional", "-1"], "weight is -1.0; give 0 or more"),
        (["--layers", "all", "--selection-steps", "2"], "add --layers top3"),
        (["--lpips-features", "vgg.pth"], "give that its weight, too"),
        (["--image-size", "50"], "The image size is 50; give a multiple of 16"),
    ],
)
def test_bad_input_gets_one_sentence_and_leaves_nothing_behind(tmp_path, capsys, cut_file, changes, sentence):
    changes = [cut_file if value == "CUT" else value for value in changes]
    assert main([*ADAPT, "--steps", "1", "--output", str(tmp_path / "out"), *changes]) == 1
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes, sentence",
    [
        (["--seed", str(2**64)], "The seed is 18446744073709551616"),
        (["--truncation-psi", "nan"], "--truncation-psi is nan"),
        (["--generator", "absent.safetensors"], "There is no file absent.safetensors"),
    ],
)
def test_bad_input_to_sample_gets_one_sentence_too(tmp_path, capsys, changes, sentence):
    assert main(["sample", "--generator", "miniature", "--output", str(tmp_path / "out"), *changes]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")])
def test_out_of_memory_is_one_sentence_on_any_device(tmp_path, capsys, monkeypatch, error):
    from comfyui_stylegan_fusion import stylegan

    def full(*arguments):
        raise error

    monkeypatch.setattr(stylegan, "draw_codes", full)
    assert main(["sample", "--generator", "miniature", "--output", str(tmp_path / "out")]) == 1
    assert "Out of memory; close other programs" in capsys.readouterr().err


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of folders work otherwise on Windows")
def test_a_folder_that_cannot_be_written_is_found_out_before_training(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    assert main([*ADAPT, "--steps", "100000", "--output", str(blocked / "out")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_a_target_that_becomes_unwritable_does_not_lose_the_generator(tmp_path, capsys, monkeypatch):
    from comfyui_stylegan_fusion import sds

    out, train = tmp_path / "out", sds.train_generator

    def train_while_the_folder_goes(*arguments):
        result = train(*arguments)
        shutil.rmtree(out)
        out.write_text("in the way")
        return result

    monkeypatch.setattr(sds, "train_generator", train_while_the_folder_goes)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert main([*ADAPT, "--steps", "1", "--output", str(out)]) == 1
    (kept,) = tmp_path.glob("stylegan-fusion-*/generator.safetensors")
    assert str(kept) in capsys.readouterr().err
    assert load_generator(kept).height == 64


def test_an_earlier_generator_is_never_written_over(tmp_path, capsys):
    (tmp_path / "generator.safetensors").write_bytes(b"precious")
    assert main([*ADAPT, "--steps", "1", "--output", str(tmp_path)]) == 1
    assert "already holds generator.safetensors" in capsys.readouterr().err
    assert (tmp_path / "generator.safetensors").read_bytes() == b"precious"


def test_a_run_that_diverges_keeps_the_last_good_weights(tmp_path, capsys):
    arguments = [*ADAPT, "--steps", "30", "--guidance-scale", "1e39", "--output", str(tmp_path / "out")]
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert "not finite" in error and "Lower the learning rate or the guidance scale" in error
    assert "begin anew with other settings and another --output" in error
    assert names(tmp_path / "out") == UNFINISHED
    assert same_weights(tmp_path / "out" / "generator.safetensors", WEIGHTS / "generator.safetensors")
    assert main(["adapt", "--resume", str(tmp_path / "out")]) == 1
    assert "stopped at step 11: the prior's noise prediction" in capsys.readouterr().err


def test_convert_writes_ours_and_rosinalitys(tmp_path, capsys):
    save_nvlabs(build(GeneratorConfig(32, 16, 16, 0, 2, 32768, 512)), tmp_path / "cats.pkl")
    ours, theirs = tmp_path / "new" / "cats.safetensors", tmp_path / "cats.pt"
    assert main(["convert", str(tmp_path / "cats.pkl"), "--output", str(ours), "--license-note", "CC BY 4.0"]) == 0
    said = capsys.readouterr().out
    assert "NVlabs StyleGAN2 (PyTorch pickle), StyleGAN2 of 32 x 32 pixels" in said and str(ours) in said
    assert main(["convert", str(ours), "--output", str(theirs)]) == 0
    assert same_weights(tmp_path / "cats.pkl", ours) and same_weights(ours, theirs)
    metadata = read_metadata(ours)
    assert metadata["source"] == "cats.pkl" and metadata["license"] == "CC BY 4.0"
    assert torch.load(theirs, weights_only=True)["metadata"]["license"] == "CC BY 4.0"


@pytest.mark.parametrize(
    "file, output, extra, sentence",
    [
        ("cats.pkl", "cats.pkl", [], "ends in neither .safetensors nor .pt"),
        ("cats.pkl", "taken.pt", [], "already holds taken.pt"),
        ("cats.pkl", "new.safetensors", ["--crop", "wide"], "'wide' is no crop"),
        ("cats.pkl", "new.pt", [], "no place for latents of different widths"),
        ("taken.pt", "new.safetensors", [], "taken.pt is no generator that StyleGAN Fusion knows"),
        ("absent.pkl", "new.safetensors", [], "There is no file"),
    ],
)
def test_what_cannot_be_converted_gets_one_sentence(tmp_path, capsys, file, output, extra, sentence):
    save_nvlabs(small(), tmp_path / "cats.pkl")
    (tmp_path / "taken.pt").write_bytes(b"precious")
    before = names(tmp_path)
    assert main(["convert", str(tmp_path / file), "--output", str(tmp_path / output), *extra]) == 1
    error = capsys.readouterr().err
    assert sentence in error and "Traceback" not in error
    assert names(tmp_path) == before and (tmp_path / "taken.pt").read_bytes() == b"precious"


def test_a_generator_of_another_format_is_sampled_with_its_crop_and_class(tmp_path, capsys):
    save_nvlabs(small(c_dim=3), tmp_path / "classes.pkl")
    wide = tmp_path / "wide.safetensors"
    assert main(["convert", str(tmp_path / "classes.pkl"), "--output", str(wide), "--crop", "32x24"]) == 0
    assert "3 classes, of which 32x24 count" in capsys.readouterr().out
    sample = ["sample", "--generator", str(wide), "--count", "2"]
    assert main([*sample, "--class-index", "1", "--output", str(tmp_path / "one")]) == 0
    assert main([*sample, "--output", str(tmp_path / "all")]) == 0
    first, second = ((tmp_path / folder / "00000.png").read_bytes() for folder in ("one", "all"))
    assert first != second
    with Image.open(tmp_path / "one" / "00000.png") as picture:
        assert picture.size == (32, 24)
    assert main([*sample, "--class-index", "3", "--output", str(tmp_path / "none")]) == 1
    assert "There is no class 3: this generator has classes 0 to 2." in capsys.readouterr().err


@pytest.mark.parametrize(
    "make, extra", [(lambda: build(STYLEGAN3_T), []), (lambda: small(c_dim=3), ["--class-index", "1"])]
)
def test_other_kinds_of_generators_are_adapted(tmp_path, make, extra):
    save_nvlabs(make(), tmp_path / "network.pkl")
    out = tmp_path / "out"
    arguments = ["adapt", "--generator", str(tmp_path / "network.pkl"), "--model", "miniature", "--prompt", "a fox"]
    arguments += ["--targets", "4", *FEW] if extra else ["--targets", "0"]
    assert main([*arguments, "--steps", "1", "--output", str(out), *extra]) == 0
    metadata = read_metadata(out / "generator.safetensors")
    assert metadata["source"] == "network.pkl" and "non-commercial" in metadata["license"]
    assert load_generator(out / "generator.safetensors").config == make().config
    assert json.loads(metadata["settings"])["class_index"] == (1 if extra else None)


def test_the_help_says_what_each_kind_of_generator_trains_by_default(capsys):
    with pytest.raises(SystemExit):
        main(["adapt", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "of StyleGAN2, the convolutions from 8x8 up" in said and "of StyleGAN3 the convolutions 1 to 14" in said


@pytest.mark.parametrize("option", ["--output", "--generator", "--model"])
def test_an_empty_name_is_refused(capsys, option):
    with pytest.raises(SystemExit, match="2"):
        main([*ADAPT, "--output", "out", option, ""])
    assert f'argument {option}: "" is no name' in capsys.readouterr().err


def test_the_version_is_said(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("stylegan-fusion 0.")


def test_distribution_matching_by_name_with_its_own_settings(tmp_path, capsys):
    matching = ["--distillation", "vsd", "--fake-rank", "2", "--fake-warmup", "1", "--steps", "2", "--samples", "2"]
    assert main([*ADAPT, *matching, "--fake-normalization", "none", "--output", str(tmp_path / "a")]) == 0
    term, *_ = json.loads(read_metadata(tmp_path / "a" / "generator.safetensors")["settings"])["terms"]
    assert term == {"term": "vsd", "weight": 1.0, "rank": 2, "warmup": 1, "normalization": "none"}
    run = json.loads((tmp_path / "a" / "run.json").read_text())
    assert run["plan"]["distillation_settings"] == {"rank": 2, "warmup": 1, "normalization": "none"}
    for misplaced in (["--fake-rank", "2"], ["--distillation", "csd", "--fake-updates", "2"]):
        assert main([*ADAPT, *misplaced, "--output", str(tmp_path / "b")]) == 1
        assert "is a setting of --distillation vsd" in capsys.readouterr().err
    assert main([*ADAPT, "--distillation", "vsd", "--fake-updates", "0", "--output", str(tmp_path / "b")]) != 0
    assert "updates is 0" in capsys.readouterr().err and not (tmp_path / "b").exists()
