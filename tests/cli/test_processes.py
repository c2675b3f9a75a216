"""The commands in several processes, as torchrun starts them: one folder, one voice, the generator of one process."""

import json
import os
import subprocess
import sys

from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.cli import main

ADAPT = [
    "adapt",
    "--generator",
    "miniature",
    "--model",
    "miniature",
    "--prompt",
    "fox",
    "--targets",
    "4",
    "--steps",
    "3",
]
ADAPT += ["--batch-size", "1", "--samples", "2", "--target-levels", "2"]


def together(*arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "comfyui_stylegan_fusion", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def test_two_processes_adapt_what_one_does_and_only_one_of_them_writes_and_talks(tmp_path):
    done = together(*ADAPT, "--output", str(tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Wrote generator.safetensors") == 1
    assert main([*ADAPT, "--accumulation", "2", "--output", str(tmp_path / "one")]) == 0
    two, one = (load_generator(tmp_path / name / "generator.safetensors").state_dict() for name in ("two", "one"))
    assert max((value - one[name]).abs().max() for name, value in two.items()) < 1e-5
    notes = json.loads((tmp_path / "two" / "run.json").read_text())
    assert notes["finished"] and notes["plan"]["settings"]["accumulation"] == 2
    again = together(*ADAPT, "--output", str(tmp_path / "two"))
    assert again.returncode == 1
    assert again.stderr.count("already holds a run") == 1 and "fault of the program" not in again.stderr
