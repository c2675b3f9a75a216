"""How long a generator takes to load, against just reading its file: `python benchmarks/loading.py`.

Written are random generators of the published sizes, in every format, from 64 to 1024 pixels. Beside each the peer reads
the same file in the same run: torch.load for torch files, safetensors for ours (into memory: what it returns is a view
of the file), the bytes for pickles. Files are in the system's cache; the fastest of several rounds, in turn, counts."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from comfyui_stylegan_fusion.stylegan import (
    Generator,
    GeneratorConfig,
    StyleGAN3Config,
    load_generator,
    write_generator,
)
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "stylegan"))
from foreign_files import save_nvlabs, save_rosinality, save_rosinality_training, save_tensorflow


def read_safetensors(path: Path) -> None:
    for value in load_file(path).values():
        value.clone()


def read_torch(path: Path) -> None:
    torch.load(path, weights_only=True)


def read_whole_training(path: Path) -> None:
    with torch.serialization.safe_globals([argparse.Namespace]):
        torch.load(path, weights_only=True)


FORMATS: dict[str, tuple[Callable, Callable]] = {
    "safetensors of StyleGAN Fusion": (lambda g, path: write_generator(g, path, {}), read_safetensors),
    "rosinality .pt": (save_rosinality, read_torch),
    "rosinality .pt without latent_avg": (lambda g, path: save_rosinality(g, path, latent_avg=None), read_torch),
    "rosinality .pt before torch 1.6": (lambda g, path: save_rosinality(g, path, legacy=True), read_torch),
    "rosinality .pt, whole training": (save_rosinality_training, read_whole_training),
    "NVlabs StyleGAN2 .pkl": (save_nvlabs, Path.read_bytes),
    "NVlabs StyleGAN2 .pkl (TensorFlow)": (save_tensorflow, Path.read_bytes),
    "NVlabs StyleGAN3 .pkl": (save_nvlabs, Path.read_bytes),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each measurement (default: 7)")
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=[64, 256, 1024], help="in pixels (default: 64 256 1024)"
    )
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads\n")
    print("| format | pixels | file | reading | loading | ratio | seconds per 100 MB |\n|---|---|---|---|---|---|---|")
    for name, (write, read) in FORMATS.items():
        for side in options.sizes:
            measure(name, side, write, read, options.rounds)


def measure(name: str, side: int, write: Callable, read: Callable, rounds: int) -> None:
    torch.manual_seed(0)
    clamp = 256.0 if name.startswith("NVlabs") and "TensorFlow" not in name else None
    config = StyleGAN3Config(side) if "StyleGAN3" in name else GeneratorConfig(side, conv_clamp=clamp)
    with tempfile.TemporaryDirectory() as folder:
        suffix = ".pt" if "rosinality" in name else ".pkl" if "NVlabs" in name else ".safetensors"
        path = Path(folder) / f"generator{suffix}"
        write(Generator(config).eval().requires_grad_(False), path)
        times = {read: [], load_generator: []}
        for _ in range(rounds):
            for action, seconds in times.items():
                begin = time.perf_counter()
                action(path)
                seconds.append(time.perf_counter() - begin)
        reading, loading = (min(seconds) for seconds in times.values())
        size = path.stat().st_size / 1e6
    ratio, rate = loading / reading, loading / size * 100
    print(
        f"| {name} | {side} | {size:.0f} MB | {reading:.3f} s | {loading:.3f} s | {ratio:.2f} | {rate:.3f} |",
        flush=True,
    )


if __name__ == "__main__":
    main()
