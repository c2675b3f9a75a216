"""Whatever a command is given, its user reads one sentence; only a fault of the program shows where it happened."""

import errno
import json
import os
import struct
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion import cli
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.lora import GOLDEN_STATUE
from PIL import Image
from safetensors.torch import save_file

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")

PROMPT = ["--prompt", "a robot"]
MINIATURE = ["--generator", "miniature", "--model", "miniature", *PROMPT]
PICTURE = Path(__file__).parents[1] / "miniature" / "portraits.png"
SEVERAL = Path(__file__).parents[2] / "example_workflows"  # pictures
ADAPT = ["adapt", *MINIATURE, "--targets", "0", "--steps", "1"]
COMMANDS = {  # each way in which a command takes a file; FILE is what is broken
    "adapt --generator": ["adapt", "--model", "miniature", *PROMPT, "--generator", "FILE"],
    "adapt --model": ["adapt", "--generator", "miniature", *PROMPT, "--model", "FILE"],
    "adapt --lora": [*ADAPT, "--lora", "FILE"],
    "adapt --vae": [*ADAPT, "--vae", "FILE"],
    "adapt --embedding": [*ADAPT, "--embedding", "FILE"],
    "adapt --lpips-features": [*ADAPT, "--lpips", "1", "--lpips-features", "FILE"],
    "adapt --targets": ["adapt", *MINIATURE, "--targets", "FILE"],
    "adapt --resume": ["adapt", "--resume", "FILE"],
    "targets --generator": ["targets", "--model", "miniature", *PROMPT, "--generator", "FILE"],
    "targets --model": ["targets", "--generator", "miniature", *PROMPT, "--model", "FILE"],
    "targets --lora": ["targets", *MINIATURE, "--count", "2", "--lora", "FILE"],
    "adapt --domain": ["adapt", "--generator", "miniature", "--model", "miniature", "--domain", "FILE"],
    "targets --domain": ["targets", "--generator", "miniature", "--model", "miniature", "--domain", "FILE"],
    "learn-domain --model": ["learn-domain", "--images", str(SEVERAL), "--model", "FILE"],
    "learn-domain --images": ["learn-domain", "--model", "miniature", "--images", "FILE"],
    "learn-domain --lora": ["learn-domain", "--model", "miniature", "--images", str(SEVERAL), "--lora", "FILE"],
    "draw --model": ["draw", "--count", "1", "--model", "FILE"],
    "draw --domain": ["draw", "--count", "1", "--model", "miniature", "--domain", "FILE"],
    "sample --generator": ["sample", "--generator", "FILE"],
    "convert": ["convert", "FILE"],
    "sample --latents": ["sample", "--generator", "miniature", "--latents", "FILE"],
    "walk --generator": ["walk", "--generator", "FILE", "--count", "2"],
    "walk --latents": ["walk", "--generator", "miniature", "--latents", "FILE"],
    "mix --generator": ["mix", "--generator", "FILE"],
    "mix --row-latents": ["mix", "--generator", "miniature", "--row-latents", "FILE"],
    "edit --generator": ["edit", "--generator", "FILE"],
    "edit --latents": ["edit", "--generator", "miniature", "--latents", "FILE"],
    "project": ["project", "--generator", "miniature", "FILE"],
    "project --generator": ["project", "--generator", "FILE", str(PICTURE)],
    "project --features": ["project", "--generator", "miniature", str(PICTURE), "--features", "FILE"],
    "blend, first --generator": ["blend", "FILE", "miniature"],
    "blend, second --generator": ["blend", "miniature", "FILE"],
    "evaluate": ["evaluate", "FILE", "--clip", "miniature"],
    "evaluate --before": ["evaluate", "miniature", "--count", "2", "--before", "FILE"],
    "evaluate --reference": ["evaluate", "miniature", "--count", "2", "--reference", "FILE"],
    "evaluate --clip": ["evaluate", "miniature", "--count", "2", "--clip", "FILE", "--text", "a robot"],
    "evaluate --features": ["evaluate", "miniature", "--count", "2", "--features", "FILE"],
}
if find_spec("torch_fidelity"):
    given = ["evaluate", "miniature", "--count", "2", "--reference", str(SEVERAL), "--inception", "FILE"]
    COMMANDS["evaluate --inception"] = given
GENERATOR = (WEIGHTS / "generator.safetensors").read_bytes()


def header(content) -> bytes:
    written = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(written)) + written


CONTENTS = {
    "empty": b"",
    "cut": GENERATOR[:100_000],
    "cut in its header": GENERATOR[:50],
    "noise": bytes(torch.randint(0, 256, [5000], generator=torch.Generator().manual_seed(0)).tolist()),
    "web page": b"<!DOCTYPE html><html><body>404 not found</body></html>",
    "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    "not UTF-8": "ü\n".encode("latin-1") * 20,
    "byte order mark": b"\xef\xbb\xbf{}",
    "list": b"[]",
    "pickle": b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.",
    "archive": b"PK\x03\x04" + bytes(100),
    "header of nonsense": header(b'{"a": '),
    "header that is a list": header([]),
    "header not UTF-8": header(b'{"\xff": 1}'),
    "header that points nowhere": header({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}),
    "huge header": struct.pack("<Q", 2**62) + b"{",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(50),
}


def one_sentence(capsys, *parts):
    """What the user reads: one sentence without a traceback that names the parts."""
    said = capsys.readouterr().err.strip()
    assert said.startswith("stylegan-fusion: ") and "\n" not in said and "Traceback" not in said, said
    assert said.endswith((".", f"{os.sep}out")) and all(part in said for part in parts), said
    for advice in ("weights_only", "trust_remote_code", "from_tf", "huggingface.co", "internet", "allow_pickle"):
        assert advice not in said, said
    return said


def run(command, file, folder):
    arguments = [str(file) if word == "FILE" else word for word in COMMANDS[command]]
    output = folder / "out.safetensors" if command.startswith(("convert", "blend")) else folder / "out"
    assert main([*arguments, *([] if "--resume" in arguments else ["--output", str(output)])]) == 1
    assert not output.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_files_that_are_broken_absent_or_of_another_kind(tmp_path, capsys, command):
    for name, content in CONTENTS.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        run(command, path, tmp_path)
        one_sentence(capsys, name)
    other = tmp_path / "another kind.safetensors"
    save_file({"something": torch.zeros(3)}, other)
    run(command, other, tmp_path)
    one_sentence(capsys, "another kind")
    run(command, tmp_path / "absent", tmp_path)
    one_sentence(capsys, "absent")
    (tmp_path / "folder").mkdir()
    run(command, tmp_path / "folder", tmp_path)
    one_sentence(capsys, "folder")


WRONG_PLACES = [
    (command, file)
    for command in COMMANDS
    for file, right in (
        (WEIGHTS / "classifier.safetensors", ()),
        (GOLDEN_STATUE, ("--lora",)),
        (WEIGHTS / "generator.safetensors", ("--generator", "convert", "evaluate", "--before")),
    )
    if not command.endswith(right)
]


@pytest.mark.parametrize("command, file", WRONG_PLACES)
def test_whole_files_in_the_wrong_place(tmp_path, capsys, command, file):
    run(command, file, tmp_path)
    one_sentence(capsys, file.name)


def edited_model(folder, name, content):
    """A copy of the miniature's diffusion model with one file of another content."""
    for path in (WEIGHTS / "diffusion").rglob("*.*"):
        copy = folder / path.relative_to(WEIGHTS / "diffusion")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.unlink(missing_ok=True)
        copy.symlink_to(path)
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


MODEL_FILES = [str(p.relative_to(WEIGHTS / "diffusion")) for p in sorted((WEIGHTS / "diffusion").rglob("*.*"))]


@pytest.mark.skipif(os.name == "nt", reason="links of files need rights on Windows")
@pytest.mark.parametrize("name", [name for name in MODEL_FILES if not name.endswith("special_tokens_map.json")])
def test_a_model_folder_with_one_broken_file_names_it(tmp_path, capsys, name):
    part = name.split("/")[0]
    for content in (None, b"", b"[]", b"\xff\xfe\x00", GENERATOR[:1000]):
        if content == b"" and name.endswith("merges.txt"):
            continue  # a tokenizer of letters
        model = edited_model(tmp_path / "model", name, content)
        if content is None and name.endswith("tokenizer_config.json"):
            continue  # the usual one is meant
        run("adapt --model", model, tmp_path)
        one_sentence(capsys, part)


def test_a_target_picture_that_is_none(tmp_path, capsys):
    folder = tmp_path / "targets"
    assert main(["targets", *MINIATURE, "--count", "2", "--target-levels", "1", "--output", str(folder)]) == 0
    capsys.readouterr()
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50)):
        (folder / "00001.png").write_bytes(content)
        run("adapt --targets", folder, tmp_path)
        one_sentence(capsys, "00001.png", "cannot be read as a picture")
    Image.new("RGB", (64, 64)).save(folder / "00001.png")


@pytest.mark.parametrize("name", ["adapt", "targets"])
@pytest.mark.parametrize(
    "prompt, sentence",
    [
        ("a (robot:nan)", "The weight of 'robot' in the prompt is nan"),
        ("(" * 2000 + "robot" + ")" * 2000, "parentheses in hundreds of others"),
        ("a robot, embedding:easynegative", "the embedding 'easynegative', which is not there"),
        ("a \udcff robot", "letters that are none"),
    ],
)
def test_prompts_that_cannot_be_read(tmp_path, capsys, name, prompt, sentence):
    arguments = [name, "--generator", "miniature", "--model", "miniature", "--prompt", prompt]
    assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
    one_sentence(capsys, sentence)


@pytest.mark.parametrize("name", ["adapt", "targets", "sample", "demo"])
def test_an_output_that_is_a_file(tmp_path, capsys, name):
    (tmp_path / "file").write_text("in the way")
    given = {"sample": ["--generator", "miniature"], "demo": []}.get(name, MINIATURE)
    assert main([name, *given, "--output", str(tmp_path / "file" / "out")]) == 1
    one_sentence(capsys, "cannot be written")


def test_a_lora_strength_that_is_no_number(tmp_path, capsys):
    assert main([*ADAPT, "--lora", "a.safetensors:inf", "--output", str(tmp_path / "out")]) == 1
    one_sentence(capsys, "The strength of a.safetensors is inf")


def raising(error):
    def raise_it(*_):
        raise error

    return raise_it


@pytest.mark.parametrize(
    "error, sentence",
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.png"), "a.png could not be read or written"),
        (OSError(errno.ENOSPC, "No space left on device"), "free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "a.png"), "see that you may read and write there"),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "a.png"), "check the file and its folder"),
        (ModuleNotFoundError("No module named 'tqdm'", name="tqdm"), "The library tqdm is not installed"),
        (MemoryError(), "Out of memory"),
        (RuntimeError("CUDA error: out of memory"), "Out of memory"),
    ],
)
def test_errors_of_the_system_are_a_sentence_of_ours(capsys, monkeypatch, error, sentence):
    monkeypatch.setattr(cli, "quiet_libraries", raising(error))
    assert main(["sample", "--generator", "miniature", "--output", "out"]) == 1
    one_sentence(capsys, sentence)


@pytest.mark.parametrize(
    "error",
    [
        ValueError("Re-running `torch.load` with `weights_only` set to `False` will likely succeed."),
        KeyError("a"),
        RuntimeError("shape '[2]' is invalid for input of size 3"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        AssertionError(),
    ],
)
def test_a_fault_of_the_program_shows_where_it_happened_and_where_to_report_it(capsys, monkeypatch, error):
    """What a library says is meant for programmers: it is never taken for advice."""
    monkeypatch.setattr(cli, "quiet_libraries", raising(error))
    assert main(["sample", "--generator", "miniature", "--output", "out"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("Traceback") and type(error).__name__ in said
    assert said.strip().endswith(
        f"This is a fault of the program. Please report it, with the lines above: {cli.errors.ISSUES}"
    )
