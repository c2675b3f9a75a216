"""What a training survives: `OMP_NUM_THREADS=1 python benchmarks/survival.py --kills 50`.

The command line adapts the miniature in processes of its own, and things happen to them: they are killed at moments
drawn uniformly over the time that a run takes, start-up and final writing included, and gone on with by
`adapt --resume`; or one of the faults in `faults.py` is injected. Survived is what ends as it shall: a run that goes on
ends with every file bit-identical to that of a run without faults, and one that cannot go on says why in one sentence,
with the files from before as they were."""

import argparse
import random
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import faults
from runs import RUNS, Row, Run, begin_or_go_on, differing, whole_run


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
