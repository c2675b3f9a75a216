"""Whether memory stays where it is over many trainings in one ComfyUI: `python benchmarks/soak.py --runs 200`.

Each run trains the miniature with another seed and prompt, saves the generator, and draws from it. Beside it, in a
ComfyUI of its own, as many of ComfyUI's own text-to-image graphs run: what grows there, too, is ComfyUI's. Memory is the
process's resident memory, and on a GPU what torch has allocated there. Needs the requirements of the host tests."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "host"))
import graphs
from comfy_host import Host, find_comfyui

FIRST = 5
"""The run after which everything is loaded and every cache is filled."""


def adapting(number: int) -> dict:
    """A short training, saved and drawn from."""
    changes = {"train.seed": number, "positive.text": f"a portrait of a fox, {number}", "layers.mode": "all"}
    graph = graphs.training(2, **changes, **{"train.save_every": 1, "save.filename_prefix": "soak"})
    drawing = {"generator": ["train", 0], "seed": number, "count": 4, "truncation_psi": 0.7}
    graph["draw"] = {
        "class_type": "StyleGANFusionSampleGenerator",
        "inputs": {**drawing, "truncation_cutoff": 0, "noise": "const"},
    }
    graph["show"] = {"class_type": "PreviewImage", "inputs": {"images": ["draw", 0]}}
    return graph


def stock(number: int) -> dict:
    """ComfyUI's own sampling."""
    return graphs.text_to_image(f"a portrait of a fox, {number}", seed=number, steps=2)


def resident(process_id: int) -> int:
    """Bytes of memory that a process holds (Linux)."""
    lines = Path(f"/proc/{process_id}/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def measured(host: Host) -> dict[str, int]:
    """Bytes that a ComfyUI holds, by kind."""
    found = {"resident": resident(host.process_id)}
    for device in host.get("/system_stats")["devices"]:
        if device["type"] == "cuda":
            found["allocated on the GPU"] = device["torch_vram_total"] - device["torch_vram_free"]
    return found


def soak(host: Host, graph: Callable[[int], dict], runs: int) -> list[dict[str, int]]:
    """Memory before the first run and after each."""
    found = [measured(host)]
    for number in range(runs):
        run = host.run(graph(number))
        if not run.succeeded:
            raise RuntimeError(f"Run {number + 1} failed: {run.error}")
        found.append(measured(host))
    return found


def growth(found: list[dict[str, int]], kind: str = "resident") -> float:
    """How much larger memory is after the last run than after the fifth, as a share."""
    return found[-1][kind] / found[FIRST][kind] - 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--bound", type=float, default=0.02, help="largest growth after the fifth run")
    parser.add_argument("--gpu", action="store_true", help="not on the CPU")
    options = parser.parse_args()
    if options.runs <= FIRST:
        parser.error(f"--runs must be above {FIRST}")
    stable = True
    for name, graph in (("trainings", adapting), ("ComfyUI's own graphs", stock)):
        with tempfile.TemporaryDirectory() as base, Host(*find_comfyui(), Path(base), cpu=not options.gpu) as host:
            began = time.monotonic()
            found = soak(host, graph, options.runs)
            print(f"{name}, ComfyUI {host.version}: {options.runs} runs in {time.monotonic() - began:.0f} s")
        marks = [0, 1, FIRST, *range(25, options.runs, 25), options.runs]
        for kind in found[0]:
            values = ", ".join(f"{n}: {found[n][kind] / 2**20:.0f}" for n in marks if n <= options.runs)
            print(f"  MiB {kind} after run {values}")
            print(f"  {growth(found, kind):+.2%} since run {FIRST}", flush=True)
            stable &= graph is stock or growth(found, kind) <= options.bound
    return 0 if stable else 1


if __name__ == "__main__":
    sys.exit(main())
