"""Runs of the command line in processes of their own, and whether what they leave is what a run without faults leaves."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = "from comfyui_stylegan_fusion.cli import main; sys.exit(main())"
# With Ctrl-C as in a terminal: what a shell starts in the background ignores it.
TERMINAL = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"

COMMON = ("--generator", "miniature", "--model", "miniature", "--prompt", "a portrait of a robot", "--samples", "2")
RUNS = (
    "--steps 6 --batch-size 1 --save-every 2 --accumulation 2 --cooldown 0.5 --layers top3 --reconstruction 0.2 --lpips 1 "
    "--targets 0",
    "--steps 10 --batch-size 2 --save-every 1 --also-train to_rgb --weighting uniform --timestep-schedule annealed "
    "--targets 6 --target-levels 2 --target-batch 2 --distillation sds --optimizer muon --average 0.9",
)
"""Two runs that are different in everything that a resumed one must have kept."""

RESULTS = ("generator.safetensors", "best.safetensors", "before_after.png", "loss.png", "history.json")


@dataclass
class Row:
    """One line of the table."""

    fault: str
    injected: int = 0
    survived: int = 0
    losses: list[str] = field(default_factory=list)  # what went wrong, in words

    def count(self, problem: str | None, injected: int = 1) -> None:
        self.injected += injected
        self.survived += 0 if problem else injected
        self.losses += [problem] if problem else []


@dataclass(frozen=True)
class Run:
    """A run to the end without faults."""

    options: str
    files: dict[str, object]
    seconds: float


class Process:
    """The command line in a process of its own; `prelude` is executed before."""

    def __init__(self, *arguments: str | Path, prelude: str = ""):
        code = "\n".join([TERMINAL, prelude, PROGRAM])
        self.log = tempfile.TemporaryFile()  # noqa: SIM115
        command = [sys.executable, "-c", code, *map(str, arguments)]
        self._process = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        self.send = self._process.send_signal

    def wait(self, seconds: float | None = None) -> int | None:
        """The exit status; None when it still runs after that time."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read().decode(errors="replace")


def begin(options: str, folder: Path, prelude: str = "") -> Process:
    return Process("adapt", *COMMON, *options.split(), "--output", folder, prelude=prelude)


def go_on(folder: Path, prelude: str = "") -> Process:
    return Process("adapt", "--resume", folder, prelude=prelude)


def begin_or_go_on(options: str, folder: Path) -> Process:
    """What a user does after a crash: resume, or, where the folder holds no run yet, give the first command again."""
    return go_on(folder) if (folder / "run.json").exists() else begin(options, folder)


def whole_run(options: str, folder: Path) -> Run:
    began = time.monotonic()
    process = begin(options, folder)
    if process.wait() != 0:
        raise SystemExit(process.said())
    return Run(options, contents(folder), time.monotonic() - began)


def contents(folder: Path) -> dict[str, object]:
    """What the results hold, by name: of pictures the bytes, of generators the weights' bytes, and their description,
    whose entries come in another order each time."""
    found = {name: (folder / name).read_bytes() for name in RESULTS if (folder / name).exists()}
    for name in RESULTS[:2]:
        if name in found:
            end = 8 + int.from_bytes(found[name][:8], "little")
            found[name] = json.loads(found[name][8:end]), found[name][end:]
    return found


def differing(folder: Path, run: Run) -> str | None:
    """What of a finished run is not as in the one without faults."""
    found = contents(folder)
    unlike = [name for name in RESULTS if found.get(name) != run.files[name]]
    rest = sorted({path.name for path in folder.iterdir()} - {*RESULTS, "run.json", "targets", "targets.png"})
    return f"not bit-identical: {unlike}, or left behind: {rest}" if unlike or rest else None
