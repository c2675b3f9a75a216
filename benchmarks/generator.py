"""How fast are our generators beside the programs that they come from, in plain PyTorch?

    python benchmarks/generator.py [--stylegan2 DIR] [--stylegan3 DIR] [--rosinality DIR] [--resolutions 256 512 1024]
        [--batches 1 8] [--repeats 5]

The folders are clones of NVlabs/stylegan2-ada-pytorch, NVlabs/stylegan3 and rosinality/stylegan2-pytorch; none of their code is
here. Random weights, noise constant, float32, on the CPU; each takes turns with ours in one run. Their own kernels for GPUs,
which fuse the bias, the leaky ReLU and the filters, would win some of this back there."""

import argparse
import contextlib
import importlib
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import packaging.version
import torch
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, StyleGAN3Config
from comfyui_stylegan_fusion.training.allocator import keeping_freed_memory

ROOMS = ("training", "torch_utils", "dnnlib", "op", "model", "legacy")
"""Names of the peers' top modules, which each of them has."""


@contextlib.contextmanager
def at_home(folder: Path) -> Iterator[None]:
    """Import from a clone in the body, as its own scripts do."""
    for name in [name for name in sys.modules if name.split(".")[0] in ROOMS]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    # A part of setuptools that there is no more.
    sys.modules.setdefault("pkg_resources", SimpleNamespace(parse_version=packaging.version.parse))
    try:
        yield
    finally:
        sys.path.remove(str(folder))


def of_nvlabs(folder: Path, resolution: int) -> Callable:
    """StyleGAN2 of NVlabs, config F."""
    with at_home(folder):
        networks = importlib.import_module("training.networks")
        options = {"channel_base": 32768, "channel_max": 512, "num_fp16_res": 0}
        theirs = networks.Generator(512, 0, 512, resolution, 3, synthesis_kwargs=options).eval()
    return theirs.synthesis, lambda ws: theirs.synthesis(ws, noise_mode="const", force_fp32=True), theirs.num_ws


def of_stylegan3(folder: Path, resolution: int) -> Callable:
    """StyleGAN3-T of NVlabs."""
    with at_home(folder):
        networks = importlib.import_module("training.networks_stylegan3")
        theirs = networks.Generator(
            512, 0, 512, resolution, 3, num_fp16_res=0, channel_base=32768, channel_max=512
        ).eval()
    return theirs.synthesis, lambda ws: theirs.synthesis(ws, force_fp32=True), theirs.num_ws


def of_rosinality(folder: Path, resolution: int) -> Callable:
    """StyleGAN2 of rosinality, as wide as config F; its kernels are not compiled, so that it takes its own way on the CPU."""
    with at_home(folder), patch("torch.utils.cpp_extension.load", lambda *given, **named: None):
        theirs = importlib.import_module("model").Generator(resolution, 512, 8, channel_multiplier=2).eval()
    return theirs, lambda ws: theirs([ws], input_is_latent=True, randomize_noise=False)[0], theirs.n_latent


PEERS = {"stylegan2": of_nvlabs, "rosinality": of_rosinality, "stylegan3": of_stylegan3}


def convolutions(network: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The weights that trainings move."""
    return [p for name, p in network.named_parameters() if name.endswith("weight") and p.ndim in (4, 5)]


def both(network: torch.nn.Module, draw: Callable, ws: torch.Tensor) -> Callable[[], None]:
    parameters = convolutions(network)

    def run() -> None:
        images = draw(ws)
        torch.autograd.grad(images, parameters, torch.ones_like(images), allow_unused=True)

    return run


def forward(network: torch.nn.Module, draw: Callable, ws: torch.Tensor) -> Callable[[], None]:
    @torch.no_grad()
    def run() -> None:
        draw(ws)

    return run


def in_turns(runs: list[Callable[[], None]], repeats: int) -> list[float]:
    """The shortest time of each, which take turns."""
    found = [[] for _ in runs]
    for number in range(repeats + 1):
        for run, times in zip(runs, found, strict=True):
            start = time.perf_counter()
            run()
            times += [time.perf_counter() - start] * (number > 0)
    return [min(times) for times in found]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in PEERS:
        parser.add_argument(f"--{name}", type=Path, metavar="DIR")
    parser.add_argument("--resolutions", nargs="+", type=int, default=[256, 512, 1024])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n")
    print("| peer | pixels | batch | forward: theirs, ours | theirs / ours | with backward | theirs / ours |")
    print("|---|---|---|---|---|---|---|")
    for name, make in PEERS.items():
        if (folder := getattr(options, name)) is None:
            continue
        for resolution in options.resolutions:
            torch.manual_seed(0)
            config = StyleGAN3Config(resolution) if name == "stylegan3" else GeneratorConfig(resolution)
            ours = Generator(config).eval()
            theirs = make(folder, resolution)
            for batch in options.batches:
                w = torch.randn(batch, 1, 512)
                sides = [
                    (theirs[0], theirs[1], w.repeat(1, theirs[2], 1)),
                    (ours.synthesis, lambda ws, ours=ours: ours.synthesis(Draw(ws)), w.repeat(1, ours.num_ws, 1)),
                ]
                cells = []
                with keeping_freed_memory(torch.device("cpu")):
                    for way in (forward, both):
                        a, b = in_turns([way(*side) for side in sides], options.repeats)
                        cells.append(f"{a:.2f} s, {b:.2f} s | **{a / b:.2f}**")
                print(f"| {name} | {resolution} | {batch} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
