"""The memory that learning a domain takes at Stable Diffusion 1.5's true sizes: `python benchmarks/domain_memory.py`.

Random weights, latents of 512 pixels, one picture at a time, activations computed again, in half precision with a rank and in
float32 without. Each is a process of its own: on a GPU what tensors take there, the untouched model included until it waits on
the CPU; on the CPU the resident memory beyond the libraries and the untouched model, with freed memory given back at once
(Linux only). Needs the extra `headless`."""

import argparse
import json
import time

import torch
from comfyui_stylegan_fusion.domain.images import Pictures
from comfyui_stylegan_fusion.domain.learning import learn_domain
from comfyui_stylegan_fusion.domain.on_diffusers import TextFreeUNet
from comfyui_stylegan_fusion.domain.settings import DomainSettings
from memory import Meter, in_a_process
from memory_sizes import SIZE, Variant, stable_diffusion, unet_type


def measure(rank: int, device: torch.device, steps: int) -> dict:
    torch.manual_seed(0)
    half = unet_type(device) if rank else torch.float32
    meter = Meter(device)
    model = stable_diffusion(device, Variant("ours", half=rank > 0), half)
    if device.type == "cpu":
        meter = Meter(device)
    pictures = Pictures((torch.randn(4, 1, 4, SIZE // 8, SIZE // 8),), SIZE)
    settings = DomainSettings(steps=steps, batch_size=1, rank=rank, recompute=True)
    with meter.part("copy"):
        score = TextFreeUNet.copied(model, half)
        model.unet.to("cpu")  # as the command does: the untouched one waits there
        score.take_out_text(pictures.buckets[0][:, 0])
    began = time.process_time()
    with meter.part("training"):
        learn_domain(score, pictures, settings)
    return {"peaks": meter.peaks, "seconds": (time.process_time() - began) / steps}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--ranks", nargs="+", type=int, default=[16], help="0 trains all weights")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child is not None:
        print(json.dumps(measure(options.child, torch.device(options.device), options.steps)))
        return
    print(f"torch {torch.__version__}, {options.device}, {options.steps} steps\n")
    print("| rank | the copy | at most | a step |")
    print("|---|---|---|---|")
    for rank in options.ranks:
        found = in_a_process(__file__, "--child", rank, "--device", options.device, "--steps", options.steps)
        copy, peak = (value / 2**30 for value in (found["peaks"]["copy"], max(found["peaks"].values())))
        print(f"| {rank or 'all weights'} | {copy:.2f} GiB | {peak:.2f} GiB | {found['seconds']:.0f} s |", flush=True)


if __name__ == "__main__":
    main()
