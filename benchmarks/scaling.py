"""How do time and memory grow with batch and resolution, and how soon is the first picture there?

    python benchmarks/scaling.py [--resolutions 256 512 1024] [--batches 1 2 4 8 16] [--largest 4] [--threads N]

Each row is a process of its own: a generator of StyleGAN2's sizes with random weights, drawing alone and with the gradient of
its convolutions, float32, on the CPU. `--largest` is the largest batch with a gradient at 1024 pixels, and as many pixels in
smaller pictures. The first picture is counted from the file: reading it, and drawing for the first time."""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from comfyui_stylegan_fusion import load_generator, save_generator
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig
from comfyui_stylegan_fusion.training.allocator import keeping_freed_memory

REPEATS = 3


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def shortest(run: Callable[[], None]) -> float:
    """The shortest time of a few, after one for warming up."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def drawing(generator: Generator, ws: torch.Tensor, gradient: bool) -> Callable[[], None]:
    convolutions = [p for name, p in generator.synthesis.named_parameters() if p.ndim == 4 and name.endswith("weight")]

    def run() -> None:
        with torch.set_grad_enabled(gradient):
            images = generator.synthesis(Draw(ws))
        if gradient:
            torch.autograd.grad(images, convolutions, torch.ones_like(images), allow_unused=True)

    return run


def row(resolution: int, batch: int, gradient: bool) -> dict:
    """Measure one row, in a process that does nothing else."""
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(resolution)).eval()
    ws, before = torch.randn(batch, 1, 512).repeat(1, generator.num_ws, 1), peak()
    with keeping_freed_memory(torch.device("cpu")):
        seconds = shortest(drawing(generator, ws, gradient))
    return {"seconds": seconds, "bytes": peak() - before}


def first(path: Path) -> dict:
    """Measure the first picture from a file, and a later one."""
    with keeping_freed_memory(torch.device("cpu")), torch.no_grad():
        start = time.perf_counter()
        generator = load_generator(path)
        read = time.perf_counter()
        run = drawing(generator, generator.mapping(torch.randn(1, 512)), gradient=False)
        run()
        return {"read": read - start, "first": time.perf_counter() - read, "seconds": shortest(run)}


def measured(*words: object) -> dict:
    """Run this program for one row."""
    done = subprocess.run([sys.executable, __file__, "--row", *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"The row {words} ended with status {done.returncode}.\n{done.stderr}")
    return json.loads(done.stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--resolutions", nargs="+", type=int, default=[256, 512, 1024])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8, 16])
    parser.add_argument("--largest", type=int, default=2)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--row", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    if options.row:
        kind, *words = options.row
        found = first(Path(words[0])) if kind == "first" else row(*map(int, words), kind == "gradient")
        print(json.dumps(found))
        return
    print(f"{platform.machine()}, {options.threads or torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| pixels | batch | drawing | a picture | memory a picture | with gradient | a picture | memory a picture |")
    print("|---|---|---|---|---|---|---|---|")
    for resolution in options.resolutions:
        for batch in options.batches:
            cells = []
            for kind in ("drawing", "gradient"):
                if kind == "gradient" and batch * resolution**2 > options.largest * 1024**2:
                    cells.append("- | - | -")
                    continue
                found = measured(kind, resolution, batch)
                seconds, memory = found["seconds"], found["bytes"] / batch / 2**20
                cells.append(f"{seconds:.2f} s | {seconds / batch:.2f} s | {memory:.0f} MiB")
            print(f"| {resolution} | {batch} | {' | '.join(cells)} |", flush=True)
    print("\n| pixels | reading the file | first picture | a later one | first, of 1.2 times a later one and 1 s |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for resolution in options.resolutions:
            path = Path(folder) / "generator.safetensors"
            save_generator(Generator(GeneratorConfig(resolution)), path)
            found = measured("first", path)
            together, allowed = found["read"] + found["first"], 1.2 * found["seconds"] + 1
            print(
                f"| {resolution} | {found['read']:.2f} s | {found['first']:.2f} s | {found['seconds']:.2f} s "
                f"| {together / allowed:.0%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
