"""What a training survives: `OMP_NUM_THREADS=1 python benchmarks/survival.py --kills 50`.

The command line adapts the miniature in processes of its own, and things happen to them: they are killed at moments
drawn uniformly over the time that a run takes, start-up and final writing included, and gone on with by
`adapt --resume`; or one of the faults in `faults.py` is injected. Survived is what ends as it shall: a run that goes on
ends with every file bit-identical to that of a run without faults, and one that cannot go on says why in one sentence,
with the files from before as they were."""

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = "from comfyui_stylegan_fusion.cli import main; sys.exit(main())"
# With Ctrl-C as in a terminal: what a shell starts in the background ignores it.
TERMINAL = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"

COMMON = ("--generator", "miniature", "--model", "miniature", "--prompt", "a portrait of a robot", "--samples", "2")
RUNS = (
    "--steps 6 --batch-size 1 --save-every 2 --accumulation 2 --cooldown 0.5 --layers top3 --reconstruction 0.2 --lpips 1",
    "--steps 10 --batch-size 2 --save-every 1 --also-train to_rgb --weighting uniform --timestep-schedule annealed",
)
"""Two runs that are different in everything that a resumed one must have kept."""

RESULTS = ("generator.safetensors", "best.safetensors", "before_after.png", "loss.png")


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
    rest = sorted({path.name for path in folder.iterdir()} - {*RESULTS, "run.json"})
    return f"not bit-identical: {unlike}, or left behind: {rest}" if unlike or rest else None


def interrupt(run: Run, folder: Path, row: Row, signals: Sequence[int], most: int, draw: random.Random) -> Counter:
    """One run, ended `most` times at random moments by these signals; where it was, each time."""
    moments: Counter = Counter()
    for _ in range(most):
        process = begin_or_go_on(run.options, folder)
        status = process.wait(draw.uniform(0, run.seconds))
        if status is None:
            for number in signals:
                process.send(number)
                status = process.wait(None if number == signals[-1] else draw.uniform(0, 0.5))
            moments[_where(folder)] += 1
        elif status == 0:
            break
        if "Traceback" in process.said() and signal.SIGKILL not in signals and (folder / "run.json").exists():
            row.count(f"a traceback:\n{process.said()}", 0)
    process = begin_or_go_on(run.options, folder)  # a finished run says so
    status, said = process.wait(), process.said()
    problem = differing(folder, run) if status == 0 else f"exit status {status}: {said}"
    row.count(problem, moments.total())
    return moments


def _where(folder: Path) -> str:
    """In which part of a run a process ended, from what it left."""
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if "run.json" not in names:
        return "before the folder knew the run"
    if any(name.endswith(".tmp") for name in names):
        return "within a writing"
    if "training.safetensors" not in names:
        return "before the first saving"
    if "loss.png" in names:
        return "at the end"
    return "between two savings"


def killed(
    folder: Path, runs: Sequence[Run], fault: str, signals: Sequence[int], count: int, seed: int = 0, most: int = 6
) -> Row:
    """Interrupt runs at random moments until it has happened `count` times, at most `most` times each."""
    row, moments, draw, number = Row(fault), Counter(), random.Random(seed), 0
    while row.injected < count:
        run = runs[number % len(runs)]
        number += 1
        wanted = min(most, count - row.injected)
        moments += interrupt(run, folder / f"{fault} {number}", row, signals, wanted, draw)
        print(f"{fault}: {row.injected} of {count}, lost {len(row.losses)}", file=sys.stderr)
    print(f"{fault}, in {number} runs: {dict(moments)}", file=sys.stderr)
    return row


def table(rows: Sequence[Row]) -> str:
    lines = ["| fault | injected | survived | lost |", "|---|---|---|---|"]
    lines += [f"| {row.fault} | {row.injected} | {row.survived} | {row.injected - row.survived} |" for row in rows]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50, help="how many times a process is killed (default: 50)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
    options = parser.parse_args()
    import faults  # beside this file

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [whole_run(each, folder / f"whole {index}") for index, each in enumerate(RUNS)]
        print(f"A run takes {', '.join(f'{run.seconds:.1f} s' for run in runs)}", file=sys.stderr)
        some = max(1, options.kills // 10)
        rows = [
            killed(folder, runs, "killed (SIGKILL)", [signal.SIGKILL], options.kills, options.seed),
            killed(folder, runs, "terminated (SIGTERM)", [signal.SIGTERM], some, options.seed + 1),
            killed(folder, runs, "Ctrl-C", [signal.SIGINT], some, options.seed + 2),
            killed(folder, runs, "Ctrl-C twice", [signal.SIGINT] * 2, some, options.seed + 3),
            *faults.rows(runs[0], folder),
        ]
    for row in rows:
        for loss in row.losses:
            print(f"LOST, {row.fault}: {loss}", file=sys.stderr)
    print(table(rows))
    return 1 if any(row.losses for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
