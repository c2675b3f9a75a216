"""How long a generator takes to load, against just reading its file: `python benchmarks/loading.py`.

Written are random generators of 1024 pixels in every format, with the published 512 channels and with fewer. Beside each a peer reads the same file in the same
run: torch.load for torch files, safetensors for ours (with a copy of each tensor: what it returns is a view of the file),
the bytes for pickles. Each time is that of a process of its own which has loaded a tiny file before, as programs load a
generator once, and memory that was used before is faster; files are in the system's cache; medians count."""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from comfyui_stylegan_fusion.stylegan import (
    Generator,
    GeneratorConfig,
    StyleGAN3Config,
    load_generator,
    save_generator,
)
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from foreign_files import save_nvlabs, save_rosinality, save_rosinality_training, save_tensorflow


def read_safetensors(path: Path) -> object:
    return {name: value.clone() for name, value in load_file(path).items()}


def read_torch(path: Path) -> object:
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, weights_only=True)


@dataclass(frozen=True)
class Format:
    name: str
    write: Callable[[Generator, Path], object]
    read: Callable[[Path], object]  # the peer
    config: type = GeneratorConfig
    clamp: float | None = None


FORMATS = (
    Format("safetensors of StyleGAN Fusion", save_generator, read_safetensors),
    Format("rosinality .pt", save_rosinality, read_torch),
    Format("rosinality .pt without latent_avg", lambda g, path: save_rosinality(g, path, latent_avg=None), read_torch),
    Format("rosinality .pt before torch 1.6", lambda g, path: save_rosinality(g, path, legacy=True), read_torch),
    Format("rosinality .pt, whole training", save_rosinality_training, read_torch),
    Format("NVlabs StyleGAN2 .pkl", save_nvlabs, Path.read_bytes, clamp=256.0),
    Format("NVlabs StyleGAN2 .pkl (TensorFlow)", save_tensorflow, Path.read_bytes),
    Format("NVlabs StyleGAN3 .pkl", save_nvlabs, Path.read_bytes, StyleGAN3Config, clamp=256.0),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="processes for each figure (default: 3)")
    parser.add_argument("--channels", type=int, nargs="+", default=[128, 512], help="widths (default: 128 512)")
    parser.add_argument("--time", nargs=4, metavar=("FORMAT", "ACTION", "TINY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time:
        number, action, tiny, path = options.time
        print(seconds(load_generator if action == "load" else FORMATS[int(number)].read, Path(tiny), Path(path)))
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print(
        "| format | channels | file | reading | loading | ratio | seconds per 100 MB |\n|---|---|---|---|---|---|---|"
    )
    for number, kind in enumerate(FORMATS):
        for channels in options.channels:
            measure(number, kind, channels, options.rounds)


def seconds(action: Callable[[Path], object], tiny: Path, path: Path) -> float:
    for _ in range(2):
        action(tiny)
    begin = time.perf_counter()
    kept = action(path)
    end = time.perf_counter()
    del kept
    return end - begin


def measure(number: int, kind: Format, channels: int, rounds: int) -> None:
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        tiny, path = Path(folder) / "tiny", Path(folder) / "generator"
        large = kind.config(1024, channel_base=64 * channels, channel_max=channels, conv_clamp=kind.clamp)
        small = kind.config(32, 16, 16, 0, 2, 512, 16, conv_clamp=kind.clamp)
        for config, target in ((small, tiny), (large, path)):
            kind.write(Generator(config).eval().requires_grad_(False), target)
        times = {"read": [], "load": []}
        for _ in range(rounds):
            for action, values in times.items():
                command = [sys.executable, __file__, "--time", str(number), action, str(tiny), str(path)]
                values.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
        reading, loading = (statistics.median(values) for values in times.values())
        size = path.stat().st_size / 1e6
    ratio, rate = loading / reading, loading / size * 100
    print(
        f"| {kind.name} | {channels} | {size:.0f} MB | {reading:.3f} s | {loading:.3f} s | {ratio:.2f} | {rate:.3f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
