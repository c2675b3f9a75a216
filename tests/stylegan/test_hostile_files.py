"""Files that are damaged or mean harm: one clear error, nothing executed, little memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from comfyui_stylegan_fusion.stylegan import CheckpointError, GeneratorConfig, load_generator, save_generator
from foreign_files import (
    STYLEGAN3_T,
    build,
    rosinality_generator,
    rosinality_state,
    save_nvlabs,
    save_rosinality,
    save_rosinality_training,
    save_tensorflow,
    small,
)
from hostile_files import BOMBS

MUTATIONS = 250  # of each format; fuzz.py makes as many as one has time for
MEMORY = 200  # megabytes, beside one and a half times the file

WRITERS = {
    "safetensors": lambda path: save_generator(small(), path),
    "rosinality": lambda path: save_rosinality(rosinality_generator(), path),
    "rosinality-training": lambda path: save_rosinality_training(rosinality_generator(), path),
    "rosinality-legacy": lambda path: save_rosinality(rosinality_generator(), path, legacy=True),
    "nvlabs-stylegan2": lambda path: save_nvlabs(small(c_dim=3), path),
    "nvlabs-stylegan3": lambda path: save_nvlabs(build(STYLEGAN3_T), path),
    "tensorflow": lambda path: save_tensorflow(small(conv_clamp=None), path),
}

SCRIPT = Path(__file__).with_name("fuzz.py")

measured = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is measured in the way of Linux, and this is none"
)


def run(*arguments) -> list[dict]:
    """What fuzz.py says, from a process of its own."""
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"the process ended with {done.returncode}: {done.stderr[-2000:]}"
    return [json.loads(line) for line in done.stdout.splitlines()]


@measured
@pytest.mark.parametrize("format", WRITERS)
def test_hundreds_of_damaged_copies(tmp_path, format):
    path = tmp_path / "good"
    WRITERS[format](path)
    (report,) = run("mutate", path, MUTATIONS, 0)
    assert report["faults"] == []
    assert sum(report["outcomes"].values()) == MUTATIONS
    assert report["outcomes"]["refused"] > MUTATIONS / 2
    assert report["grown_mb"] < MEMORY


@measured
def test_files_that_claim_much_are_refused_at_little_cost(tmp_path):
    save_generator(small(), tmp_path / "good")
    paths = []
    for name, content in BOMBS.items():
        path = tmp_path / name
        if callable(content):
            content(path)
        else:
            path.write_bytes(content)
        paths.append(path)
    reports = run("each", tmp_path / "good", *paths)
    assert [report["name"] for report in reports] == list(BOMBS)
    for report in reports:
        assert (report["outcome"], report["fault"]) == ("refused", None), report
        assert report["grown_mb"] < 1.5 * report["size_mb"] + MEMORY, report


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes in folders here")
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="pipe is no ordinary file; choose another file"):
        load_generator(tmp_path / "pipe")
    for name in ("a\0b", "\ud800"):
        with pytest.raises(CheckpointError, match=r"could not be read .*; check the name"):
            load_generator(name)


@measured
def test_the_memory_of_a_large_file_is_bounded(tmp_path):
    """Good files of some hundred megabytes; of pickles and trainings most is what nobody needs."""
    large = build(GeneratorConfig(64, 512, 512, 0, 8, 49152, 768, conv_clamp=None))
    state = rosinality_state(large)
    writers = {
        "nvlabs": lambda path: save_nvlabs(large, path),
        "tensorflow": lambda path: save_tensorflow(large, path),
        "rosinality": lambda path: save_rosinality(large, path),
        "legacy": lambda path: save_rosinality(large, path, legacy=True),
        "training": lambda path: save_rosinality(large, path, g=state, g_optim=state),
        "safetensors": lambda path: save_generator(large, path),
    }
    save_nvlabs(small(), tmp_path / "good")
    for name, write in writers.items():
        write(tmp_path / name)
        (report,) = run("each", tmp_path / "good", tmp_path / name)
        (tmp_path / name).unlink()
        assert (report["outcome"], report["fault"]) == ("loaded", None), report
        assert report["grown_mb"] < 1.5 * report["size_mb"] + MEMORY, report
