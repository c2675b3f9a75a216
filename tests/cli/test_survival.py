"""Runs that are killed, and what the command line says when it cannot go on."""

import dataclasses
import json
import shutil
import signal
import sys
from pathlib import Path

import pytest
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.cli.options import parse
from comfyui_stylegan_fusion.cli.plan import Plan, in_options
from comfyui_stylegan_fusion.cli.run_folder import RunError, RunFolder
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.sds import TrainSettings
from comfyui_stylegan_fusion.stylegan import read_metadata
from comfyui_stylegan_fusion.training.files import replacing
from safetensors import safe_open
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import survival
from runs import whole_run

PLAN = Plan(
    generator="miniature",
    model="miniature",
    prompt="a portrait of a robot",
    negative_prompt="",
    extra_prompts=(("a hat", -1),),
    guidance_scale=2.0,
    image_size=None,
    settings=TrainSettings(steps=5, also_train=("to_rgb",)),
    distillation="sds",
    weights={"directional": 1.0, "lpips": 0.0},
    lpips_features="miniature",
    layers="all",
    selection_steps=None,
    samples=2,
    device=None,
    half=False,
    save_every=2,
)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another process work otherwise on Windows")
def test_a_run_killed_at_random_moments_ends_bit_for_bit_as_one_that_was_not(tmp_path):
    whole = whole_run(
        "--steps 3 --batch-size 1 --save-every 1 --layers top3 --targets 4 --target-levels 1 --target-batch 1",
        tmp_path / "whole",
    )
    row = survival.killed(tmp_path, [whole], "killed", [signal.SIGKILL], 2, seed=5)
    assert (row.injected, row.survived, row.losses) == (2, 2, [])


def test_a_folder_knows_its_run(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run")
    folder.write(PLAN)
    assert folder.read() == (PLAN, False)
    folder.saved(PLAN).path.write_bytes(b"state")
    folder.write(PLAN, finished=True)
    assert folder.read() == (PLAN, True)
    assert [path.name for path in folder.path.iterdir()] == ["run.json"]


def test_each_of_what_guides_a_run_is_part_of_its_identity(tmp_path):
    folder = RunFolder(tmp_path)
    others = {
        "prompt": "b",
        "negative_prompt": "c",
        "guidance_scale": 3.0,
        "half": True,
        "image_size": 64,
        "model": "m",
    }
    plans = [PLAN, *(dataclasses.replace(PLAN, **{name: value}) for name, value in others.items())]
    assert len({json.dumps(folder.saved(plan).identity) for plan in plans}) == len(others) + 1


def plan_with(**changes):
    return lambda content: {**content, "plan": {**content["plan"], **changes}}


def settings_with(**changes):
    return lambda content: plan_with(settings={**content["plan"]["settings"], **changes})(content)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: [],
        lambda content: None,
        lambda content: {**content, "format": "another"},
        lambda content: {**content, "finished": "yes"},
        lambda content: {"format": content["format"]},
        lambda content: {**content, "plan": []},
        plan_with(prompt=7),
        plan_with(extra_prompts=[["a"]]),
        plan_with(extra_prompts="ab"),
        plan_with(save_every=0),
        plan_with(save_every=2.5),
        plan_with(samples=True),
        plan_with(guidance_scale="2"),
        plan_with(device=["cpu"]),
        plan_with(settings=[]),
        plan_with(unknown=1),
        settings_with(steps="5"),
        settings_with(steps=2.5),
        settings_with(steps=0),
        settings_with(seed=None),
        settings_with(also_train=5),
        settings_with(also_train=["everything"]),
        settings_with(unknown=1),
    ],
)
def test_a_run_json_that_makes_no_sense_gets_one_sentence(tmp_path, damage):
    folder = RunFolder(tmp_path)
    folder.write(PLAN)
    bad = json.dumps(damage(json.loads(folder.notes.read_text())))
    folder.notes.write_text(bad)
    with pytest.raises(RunError, match=r"run\.json cannot be read .* begin the run anew with another --output"):
        folder.read()
    assert folder.notes.read_text() == bad


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b" " * 2_000_000])
def test_a_run_json_that_is_none_gets_one_sentence(tmp_path, data):
    (tmp_path / "run.json").write_bytes(data)
    with pytest.raises(RunError, match="cannot be read"):
        RunFolder(tmp_path).read()


def test_a_folder_without_a_run_and_one_with_a_finished_run(tmp_path, capsys):
    assert main(["adapt", "--resume", str(tmp_path)]) == 1
    assert "holds no run (no run.json); give the folder that was --output" in capsys.readouterr().err
    folder = RunFolder(tmp_path)
    folder.write(PLAN, finished=True)
    assert main(["adapt", "--resume", str(tmp_path)]) == 1
    assert "is finished, but its generator.safetensors is gone" in capsys.readouterr().err
    folder.generator.write_bytes(b"weights")
    folder.saved(PLAN).path.write_bytes(b"left by a process that was killed just before it removed this")
    with pytest.raises(KeyboardInterrupt), replacing(folder.best) as temporary:
        temporary.write_bytes(b"half")
        temporary.rename(temporary.with_name(temporary.name.replace(".tmp", "0.tmp")))  # where nobody cleared it away
        raise KeyboardInterrupt
    assert main(["adapt", "--resume", str(tmp_path)]) == 0
    assert "This run is finished: 5 of 5 steps" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"run.json", "generator.safetensors"}


def test_a_folder_that_holds_a_run_is_not_begun_in_again(tmp_path, capsys):
    RunFolder(tmp_path).write(PLAN)
    options = ["--generator", "miniature", "--model", "miniature", "--prompt", "a fox", "--output", str(tmp_path)]
    assert main(["adapt", *options]) == 1
    assert f"already holds a run. Go on with it: stylegan-fusion adapt --resume {tmp_path}" in capsys.readouterr().err


def test_a_run_of_version_0_1_is_read(tmp_path):
    """Its regularizers stood one by one, and `recompute` was called `checkpoint`."""
    folder = RunFolder(tmp_path)
    folder.write(dataclasses.replace(PLAN, settings=dataclasses.replace(PLAN.settings, recompute=True)))
    content = json.loads(folder.notes.read_text())
    plan, settings = content["plan"], content["plan"]["settings"]
    plan |= {"directional": 1.0, "reconstruction": 0.25, "lpips": 0.0}
    del plan["weights"], plan["distillation"]
    settings["checkpoint"] = settings.pop("recompute")
    folder.notes.write_text(json.dumps({**content, "format": "stylegan-fusion-run-1"}))
    read, finished = folder.read()
    assert read.weights == {"directional": 1.0, "reconstruction": 0.25, "lpips": 0.0} and read.distillation == "sds"
    assert read.settings.recompute is True and read.prompt == PLAN.prompt and not finished


@pytest.fixture
def interrupted(tmp_path, monkeypatch):
    """A run with a model and a generator of its own that was stopped after a step, and their places."""
    from comfyui_stylegan_fusion import sds

    model, generator, out, train = tmp_path / "model", tmp_path / "g.safetensors", tmp_path / "out", sds.train_generator
    shutil.copytree(WEIGHTS / "diffusion", model)
    shutil.copy(WEIGHTS / "generator.safetensors", generator)

    def stop(progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(sds, "train_generator", lambda *given: train(*given[:5], stop, *given[6:]))
    files = ["--generator", str(generator), "--model", str(model), "--output", str(out)]
    extras = ["--extra-prompt", "text", "1", "--extra-prompt", "-", "-1", "--extra-prompt", "text", "1"]
    what = ["--prompt", "a fox", "--targets", "0", "--steps", "2", "--batch-size", "1", "--layers", "ALL", *extras]
    assert main(["adapt", *files, *what, "--samples", "2", "--device", "cpu"]) == 130
    monkeypatch.setattr(sds, "train_generator", train)
    return out, model, generator


def test_resuming_notices_another_model_and_generator_under_the_old_paths(interrupted, capsys):
    out, model, generator = interrupted
    weights = model / "unet" / "diffusion_pytorch_model.safetensors"
    before = {path: path.read_bytes() for path in (weights, generator)}
    for path, name in ((weights, "the weights of --model"), (generator, "the generator in the file of --generator")):
        tensors = load_file(path)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata()
        first = next(name for name, value in tensors.items() if value.ndim == 4)
        tensors[first] = tensors[first] * 1.01
        save_file(tensors, path, metadata)
        assert main(["adapt", "--resume", str(out)]) == 1
        assert f"belongs to another run (different: {name})" in capsys.readouterr().err
        path.write_bytes(before[path])
    assert main(["adapt", "--resume", str(out)]) == 0
    metadata = read_metadata(out / "generator.safetensors")
    assert json.loads(metadata["settings"])["extra_prompts"] == [["text", 1.0], ["-", -1.0], ["text", 1.0]]


def test_what_differs_is_said_in_options():
    terms = [{"term": "sds", "weight": 1.0}, {"term": "directional", "weight": 1.0}]
    assert in_options("terms", terms, terms[:1]) == ["--directional"]
    assert in_options("terms", terms, [{"term": "targets", "targets": "a"}, terms[1]]) == [
        "--distillation",
        "the pictures of --targets, or --adversarial",
    ]
    assert in_options("recompute", True, None) == ["--recompute"]
    assert [in_options(name, 1, 2) for name in ("learning_rate", "layers", "--prompt")] == [
        ["--learning-rate"],
        ["--layers"],
        ["--prompt"],
    ]


@pytest.mark.parametrize("option, meant", [("--recompute", True), ("--checkpoint", True), ("--no-checkpoint", False)])
def test_an_option_goes_on_working_under_its_earlier_name(option, meant):
    given = ["adapt", "--generator", "miniature", "--model", "miniature", "--prompt", "a", "--output", "b"]
    assert parse([*given, option]).recompute is meant
