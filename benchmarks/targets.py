"""What targets cost beside score distillation, at true sizes: `python benchmarks/targets.py [--count 2] [--steps 2]`.

A random StyleGAN2 generator of 1024 pixels and a random Stable Diffusion 1.5 (512-pixel images) as in `memory.py`, which
this shares its meter with. Three processes of their own: a few targets are made, a few steps go towards them, and a few
steps are score distillation with the directional regularizer. Seconds are the processor's on the CPU. The last lines are
sums for a whole training: computed, not measured."""

import argparse
import json
import os
import subprocess
import sys

import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    Editor,
    PicturesPrior,
    TargetPictures,
    Targets,
    TargetSettings,
    TrainSettings,
    make_targets,
    train_generator,
)
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig, sample_codes, sample_z
from memory import GUIDANCE, TIMESTEP, Meter
from memory_sizes import SIZE, VARIANTS, filled, stable_diffusion, unet_type

MODES = ("making", "towards", "sds")
WHOLE_TARGETS, WHOLE_STEPS = 200, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--count", type=int, default=2, help="targets that are made (default: 2)")
    parser.add_argument("--steps", type=int, default=2, help="steps of each training (default: 2)")
    parser.add_argument("--levels", type=int, default=8, help="levels of the edits (default: 8)")
    parser.add_argument("--resolution", type=int, default=1024, help="pixels of the generator (default: 1024)")
    parser.add_argument("--child", choices=MODES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(options.child, options)))
        return
    print(f"torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads\n")
    print("| what | seconds each | peak, MiB |")
    print("|---|---|---|")
    found = {mode: in_a_process(mode, options) for mode in MODES}
    names = {
        "making": f"a target ({options.levels} levels up and down)",
        "towards": "a step towards targets",
        "sds": "a step of SDS",
    }
    for mode, row in found.items():
        print(f"| {names[mode]} | {row['seconds']:.1f} | {row['peak'] / 2**20:.0f} |")
    making, towards, sds = (found[mode]["seconds"] for mode in MODES)
    print(
        f"\ncomputed: {WHOLE_TARGETS} targets and {WHOLE_STEPS} steps towards them {WHOLE_TARGETS * making + WHOLE_STEPS * towards:.0f} s,"
    )
    print(f"{WHOLE_STEPS} steps of SDS {WHOLE_STEPS * sds:.0f} s,", end=" ")
    print(f"ratio {(WHOLE_TARGETS * making + WHOLE_STEPS * towards) / (WHOLE_STEPS * sds):.2f}")


def in_a_process(mode: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--child", mode]
    for name in ("device", "count", "steps", "levels", "resolution"):
        command += [f"--{name}", str(getattr(options, name))]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


def measure(mode: str, options: argparse.Namespace) -> dict:
    device, variant = torch.device(options.device), VARIANTS["ours"]
    torch.manual_seed(0)
    meter = Meter(device)
    with meter.part("loading"):
        generator = filled(Generator, GeneratorConfig(options.resolution), device=torch.device("cpu"))
        model = None
        if mode != "towards":
            model = stable_diffusion(device, variant, unet_type(device), decoder=mode == "making")
    if mode == "making":
        editor = Editor(DiffusersPrior(model, "a prompt", "a source", 5.0), DiffusersPrior(model, "a source", "", 1.0))
        settings = TargetSettings(count=options.count, levels=options.levels, batch_size=1)
        with meter.part("making"):
            make_targets(generator, editor, settings)
        each = options.count
    else:
        settings = TrainSettings(steps=options.steps, t_min=TIMESTEP, t_max=TIMESTEP, diversity_samples=2)
        if mode == "towards":
            codes = sample_codes(generator, sample_z(generator.z_dim, 2, 0))
            images = torch.randint(256, (2, 3, SIZE, SIZE), dtype=torch.uint8)
            prior, terms = PicturesPrior(SIZE, device), [TargetPictures(targets=Targets(codes, images))]
        else:
            prior, terms = DiffusersPrior(model, "a prompt", guidance_scale=GUIDANCE), [DirectionalRegularizer()]
        # Looks at the samples come before and after, and are no part of a step.
        look = meter.clock()
        marks = []
        with meter.part("training"):
            train_generator(generator, prior, settings, terms, progress=lambda progress: marks.append(meter.clock()))
        meter.seconds["training"] = marks[-1] - marks[0] if len(marks) > 1 else marks[0] - look
        each = max(1, len(marks) - 1)
    part = "making" if mode == "making" else "training"
    return {"seconds": meter.seconds[part] / each, "peak": max(meter.peaks.values())}


if __name__ == "__main__":
    main()
