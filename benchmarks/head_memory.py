"""The memory that a training of an EG3D generator takes at its published sizes: `python benchmarks/head_memory.py`.

512 pixels, superresolution 8XDC, 128 x 128 rays of 48 and 48 points, batch 1, random weights, score distillation under the
miniature's diffusion model, which takes next to nothing: what counts is the generator's share, with activations kept and
computed again. Each is a process of its own; on the CPU the resident memory beyond the libraries and the two networks as they
were given, with freed memory given back at once (Linux only). Beside each stands what its sizes tell beforehand. Needs the extra
`headless`."""

import argparse
import json
import time

import torch
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.sds import TERMS, TrainSettings, train_generator
from comfyui_stylegan_fusion.sds.memory import training_memory
from comfyui_stylegan_fusion.sds.parameters import trained_parameters
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.stylegan import EG3DConfig, Generator
from memory import Meter, in_a_process
from memory_sizes import filled

CONFIG = EG3DConfig(
    512,
    render_side=128,
    depth_samples=48,
    importance_samples=48,
    superresolution="8XDC",
    superresolution_channels=(256, 128),
)


def measure(recompute: bool, device: torch.device) -> dict:
    torch.manual_seed(0)
    generator = filled(Generator, CONFIG, device=device)
    prior = DiffusersPrior(StableDiffusion.load(WEIGHTS / "diffusion", device), "a portrait of a fox")
    meter = Meter(device)
    settings = TrainSettings(steps=1, recompute=recompute, diversity_samples=2)
    began = time.process_time()
    with meter.part("training"):
        train_generator(generator, prior, settings, [TERMS["sds"]()])
    return {"bytes": max(meter.peaks.values()), "seconds": time.process_time() - began}


def told(recompute: bool) -> int:
    generator = filled(Generator, CONFIG, device=torch.device("meta"))
    for parameter in trained_parameters(generator, range(len(generator.synthesis.layers))):
        parameter.requires_grad_(True)
    resident, peak = training_memory(generator, samples=2, recompute=recompute)
    return max(resident, peak)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--child", choices=("kept", "again"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child == "again", torch.device(options.device))))
        return
    print(f"torch {torch.__version__}, {options.device}, one step\n")
    print("| activations | told | measured | a step and its looks |")
    print("|---|---|---|---|")
    for name in ("again", "kept"):
        found = in_a_process(__file__, "--child", name, "--device", options.device)
        gigabytes = told(name == "again") / 2**30, found["bytes"] / 2**30
        print(f"| {name} | {gigabytes[0]:.2f} GiB | {gigabytes[1]:.2f} GiB | {found['seconds']:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
