"""The memory that a training takes, part by part, against the method's first order of operations: `python benchmarks/memory.py`.

Both adapt the same random StyleGAN2 generator of 1024 pixels, batch 1, with the directional regularizer, under a random
Stable Diffusion 1.5 of the true sizes (512-pixel images; embeddings are made up, there is no text encoder). The peer
keeps everything in float32 and the whole graph from codes to latent, and evaluates the UNet six times a step, one row
each. Ours is `train_generator` as it is. Each runs in a process of its own: on a GPU what tensors take there, on the
CPU the resident memory beyond the libraries', with freed memory given back at once (Linux only), and seconds of the
processor.

Beside each figure stands what its sizes tell beforehand, on the meta device. The last table is such a sum for half
precision: computed, not measured. Needs the extra `headless`."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch
from comfyui_stylegan_fusion.sds import DirectionalRegularizer, TrainSettings, equations, train_generator
from comfyui_stylegan_fusion.sds.adapting import ADAM_FACTOR
from comfyui_stylegan_fusion.sds.objective import prior_input
from comfyui_stylegan_fusion.sds.parameters import copy_generator, trained_parameters
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, sample_z
from memory_sizes import BOTH, PARTS, SIZE, VARIANTS, Variant, filled, stable_diffusion, told, unet_type
from torch import Tensor

GUIDANCE, TIMESTEP = 100.0, 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, default=2, help="steps of each training (default: 2)")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--resolution", type=int, default=1024, help="pixels of the generator (default: 1024)")
    parser.add_argument("--child", choices=list(VARIANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measure(VARIANTS[options.child], options)))
        return
    print(f"torch {torch.__version__}, {options.device}, {options.steps} steps; MiB\n")
    sizes = "--device", options.device, "--steps", options.steps, "--resolution", options.resolution
    report({name: in_a_process(__file__, "--child", name, *sizes) for name in options.variants}, options)
    computed(options)


def in_a_process(file: str, *words: object) -> dict:
    """Run a benchmark's file for one measurement, with freed memory given back at once; what its last line says."""
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    command = [sys.executable, file, *map(str, words)]
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(child.stdout.splitlines()[-1])


# Measuring


class Meter:
    """The peak of each part, in bytes beyond what was there at the start."""

    def __init__(self, device: torch.device):
        self.device, self.peaks, self.seconds = device, {}, {}
        # Waiting for other programs does not count on the CPU.
        self.clock = time.perf_counter if device.type == "cuda" else time.process_time
        self.start = self._now()

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._note("between")
        began = self.clock()
        yield
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.seconds[name] = self.seconds.get(name, 0.0) + self.clock() - began
        self._note(name)

    def watch(self, name: str | Callable[..., str], function: Callable) -> Callable:
        """The function, as a part of its own; its name may depend on what it is called with."""

        def watched(*args, **kwargs):
            with self.part(name if isinstance(name, str) else name(*args, **kwargs)):
                return function(*args, **kwargs)

        return watched

    def _note(self, name: str) -> None:
        """Note the peak since the last time, and start afresh."""
        if self.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated()
            torch.cuda.reset_peak_memory_stats()
        else:
            peak = resident("VmHWM")
            Path("/proc/self/clear_refs").write_text("5")
        self.peaks[name] = max(self.peaks.get(name, 0), peak - self.start)

    def _now(self) -> int:
        return torch.cuda.memory_allocated() if self.device.type == "cuda" else resident("VmRSS")


def resident(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measure(variant: Variant, options: argparse.Namespace) -> dict:
    device = torch.device(options.device)
    torch.manual_seed(0)
    meter = Meter(device)
    with meter.part("loading"):
        model = stable_diffusion(device, variant, unet_type(device))
        generator = filled(Generator, GeneratorConfig(options.resolution), device=torch.device("cpu"))
    (train_as_peer if variant.peer else train_as_ours)(meter, model, generator, options.steps)
    step = sum(value for part, value in meter.seconds.items() if part not in ("loading", "samples"))
    return {"peaks": meter.peaks, "seconds": step / options.steps, "parts": meter.seconds}


def train_as_ours(meter: Meter, model: StableDiffusion, generator: Generator, steps: int) -> None:
    def rendering(network, ws, *args, **kwargs):
        if torch.is_grad_enabled():
            return "rendering"
        trained = any(parameter.requires_grad for parameter in network.parameters())
        return "samples" if trained else "frozen rendering"

    def encoding(*args, **kwargs):
        return "encoding" if torch.is_grad_enabled() else "frozen encoding"

    def backward(outputs, inputs, *args, **kwargs):
        return "encoder backward" if isinstance(inputs, Tensor) else "generator backward"

    prior = DiffusersPrior(model, "a prompt", guidance_scale=GUIDANCE)
    prior.encode = meter.watch(encoding, prior.encode)
    prior.guided = meter.watch("UNet", prior.guided)
    network = type(generator.synthesis)
    settings = TrainSettings(steps=steps, t_min=TIMESTEP, t_max=TIMESTEP, recompute=True)
    with (
        patch.object(network, "forward", meter.watch(rendering, network.forward)),
        patch.object(torch.autograd, "grad", meter.watch(backward, torch.autograd.grad)),
        patch.object(torch.optim.Adam, "step", meter.watch("Adam", torch.optim.Adam.step)),
    ):
        train_generator(generator, prior, settings, [DirectionalRegularizer()])


def train_as_peer(meter: Meter, model: StableDiffusion, generator: Generator, steps: int) -> None:
    """Whole graph from codes to latent, six UNet evaluations of a row each, Adam at the end."""
    device = model.device
    trained, frozen = copy_generator(generator, device), copy_generator(generator, device)
    parameters = trained_parameters(trained, range(1, len(trained.synthesis.layers)))
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimizer = torch.optim.Adam(parameters, lr=0.0008, betas=(0.0, 0.99**ADAM_FACTOR))
    prior = DiffusersPrior(model, "a prompt")
    alpha, sigma = prior.schedule(TIMESTEP)
    embeddings = torch.stack(prior._states)
    index = torch.tensor(round(TIMESTEP * 999), device=device)

    @torch.no_grad()
    def guided(z_t: Tensor) -> Tensor:
        one, other = (model.unet(z_t, index, encoder_hidden_states=e[None]).sample for e in embeddings)
        return one + GUIDANCE * (other - one)

    for step in range(steps):
        z_style = sample_z(generator.z_dim, 1, step).to(device)
        with torch.no_grad():
            ws = frozen.mapping(z_style)
            with meter.part("frozen rendering"):
                x0 = frozen.synthesis(Draw(ws))
            with meter.part("frozen encoding"):
                z0 = prior.encode(prior_input(x0, SIZE))
        with meter.part("rendering"):
            x = trained.synthesis(Draw(ws))
        with meter.part("encoding"):
            z = prior.encode(prior_input(x, SIZE))
        eps = torch.randn(z.shape).to(device)
        z_t, z0_t = (equations.add_noise(latent, eps, alpha, sigma) for latent in (z.detach(), z0))
        with meter.part("UNet"):
            g = (sigma**2 * (guided(z_t) - eps)).clamp(-1, 1)
            g = g + (sigma**2 * equations.directional_gradient(guided(z_t), guided(z0_t))).clamp(-1, 1)
        optimizer.zero_grad()
        with meter.part(BOTH):
            z.backward(g)
        with meter.part("Adam"):
            optimizer.step()


# Reporting


def report(measured: dict[str, dict], options: argparse.Namespace) -> None:
    device = torch.device(options.device)
    guesses = {name: told(VARIANTS[name], options.resolution, device) for name in measured}
    print("| part | " + " | ".join(f"{name} | told | told / {name}" for name in measured) + " |")
    print("|---|" + "---|" * 3 * len(measured))
    for part in (*PARTS, "between"):
        row = [(m["peaks"].get(part), guesses[name].parts.get(part)) for name, m in measured.items()]
        if any(found for found, _ in row):
            print(f"| {part} | " + " | ".join(cells(*pair) for pair in row) + " |")
    totals = {name: max(m["peaks"].values()) for name, m in measured.items()}
    print("| **all** | " + " | ".join(cells(totals[name], guesses[name].total) for name in measured) + " |\n")
    for name in measured:
        if "peer" in measured and name != "peer":
            time_ratio = measured["peer"]["seconds"] / measured[name]["seconds"]
            print(f"peer / {name}: memory {totals['peer'] / totals[name]:.2f}, time of a step {time_ratio:.2f}")
    for name, m in measured.items():
        parts = ", ".join(f"{part} {m['parts'][part]:.1f}" for part in PARTS if part in m["parts"])
        print(f"{name}: {m['seconds']:.1f} s a step ({parts})")


def cells(found: int | None, guess: int | None) -> str:
    ratio = f"{guess / found:.2f}" if found and guess else ""
    return " | ".join([*("" if value is None else f"{value / 2**20:.0f}" for value in (found, guess)), ratio])


def computed(options: argparse.Namespace) -> None:
    print("\nComputed from sizes, not measured: on a GPU, the UNet in float16, encoder and generator in float32\n")
    guess = told(VARIANTS["ours-half"], options.resolution, torch.device("cuda"))
    print("| part | MiB |\n|---|---|")
    for part, value in guess.parts.items():
        print(f"| {part} | {value / 2**20:.0f} |")
    print(f"| **all** | {guess.total / 2**20:.0f} of the 8192 of an 8 GB card |")


if __name__ == "__main__":
    main()
