"""Does a sweep on a cluster lose a run, or train one twice, when workers are killed? A Ray cluster on this machine, and a
worker that trains is killed again and again.

    python benchmarks/cluster.py [--runs 16] [--steps 30] [--workers 2] [--kills 10] [--folder DIR]

Needs the extra `scale`. Every kill is a row of the table that is printed at the end."""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import yaml

TASK = "ray::_trained"
"""What Ray calls a process while it trains a run."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--pause", type=float, default=6.0, help="seconds between two kills")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="cluster-"))
    folder.mkdir(parents=True, exist_ok=True)
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    start = ["start", "--head", "--num-cpus", str(options.workers), "--include-dashboard", "false"]
    subprocess.run([*ray, *start, "--disable-usage-stats"], check=True, **quiet)
    try:
        kills, seconds = measure(options, folder)
    finally:
        subprocess.run([*ray, "stop", "--force"], check=False, **quiet)
    report(options, folder, kills, seconds)


def measure(options, folder: Path) -> tuple[list[tuple[float, int, str, int]], float]:
    """Sweep while workers are killed: of each kill when, which process, what it trained, steps saved by then."""
    defaults = {"generator": "miniature", "model": "miniature", "targets": 0, "batch_size": 1, "samples": 2}
    defaults |= {"steps": options.steps, "save_every": 5}
    runs = [{"prompt": f"a portrait of a fox, number {i}", "seed": i} for i in range(options.runs)]
    (folder / "runs.yaml").write_text(yaml.safe_dump({"defaults": defaults, "runs": runs}))
    command = [sys.executable, "-m", "comfyui_stylegan_fusion", "sweep", str(folder / "runs.yaml")]
    begun = time.monotonic()
    sweep = subprocess.Popen([*command, "--output", str(folder / "out"), "--address", "auto"])
    kills, ended = [], threading.Event()

    def kill() -> None:
        chosen = random.Random(0)
        while len(kills) < options.kills and not ended.wait(options.pause):
            training = [
                one for one in psutil.process_iter(["name", "cmdline"]) if TASK in " ".join(one.info["cmdline"] or [])
            ]
            if training:
                victim = chosen.choice(training)
                victim.kill()
                kills.append((time.monotonic() - begun, victim.pid, len(training)))

    thread = threading.Thread(target=kill)
    thread.start()
    sweep.wait()
    ended.set()
    thread.join()
    return kills, time.monotonic() - begun


def report(options, folder: Path, kills, seconds: float) -> None:
    print(f"\n{options.runs} runs of {options.steps} steps, {options.workers} workers, {seconds:.0f} s\n")
    print("| kill | after | process | trained at once |\n|---|---|---|---|")
    for number, (after, pid, at_once) in enumerate(kills, start=1):
        print(f"| {number} | {after:.0f} s | {pid} | {at_once} |")
    done, written, resumed = 0, 0, 0
    for run in sorted((folder / "out").glob("*/sweep.json")):
        log = (run.parent / "log.txt").read_text("utf-8")
        done += json.loads(run.read_text())["state"] == "done"
        written += log.count("Wrote generator.safetensors")
        resumed += log.count("Going on after")
    print(f"\ndone {done} of {options.runs}; results written {written} times; gone on with {resumed} times")


if __name__ == "__main__":
    main()
