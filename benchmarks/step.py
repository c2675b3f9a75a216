"""How long does a step take beside the official order of operations, and beside what the hardware could do?

    python benchmarks/step.py [--sizes miniature sd15-256 sd15-taesd sd15 sdxl] [--precisions float32 bfloat16] [--device cpu]
        [--repeats 2] [--threads N] [--pool latents|noises]

One step is score distillation with the directional regularizer and layer selection, batch 1. The official code's order: a
selection pass of its own, separate evaluations for both terms, a second pass of the encoder for the clamped gradient of the
image; made of our own calls, so that networks, weights, sizes and precision are the same. Both take turns in one run. In
"sd15-taesd" TAESD is the encoder. "sdxl" takes pictures of 1024 pixels: many minutes on a processor. The last line is the
ratio at the largest size."""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.miniature import WEIGHTS, load_generator
from comfyui_stylegan_fusion.sds import DirectionalRegularizer, TopKLayers, TrainSettings, equations
from comfyui_stylegan_fusion.sds.objective import prior_input
from comfyui_stylegan_fusion.sds.parameters import copy_generator, trained_parameters
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.training import GeneratorTraining
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, sample_z
from comfyui_stylegan_fusion.training.allocator import keeping_freed_memory
from comfyui_stylegan_fusion.training.loop import recording_gradients, train_step
from diffusers import AutoencoderTiny
from memory_sizes import Variant, attention_without_matrix, filled, sdxl, stable_diffusion
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

SIZES = ("miniature", "sd15-256", "sd15-taesd", "sd15", "sdxl")
T, CHOSEN = 0.4, 3
PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
COUNTED = ("UNet rows", "encoder", "encoder backward", "generator", "generator backward")
OURS = {"UNet rows": 4, "encoder": 2, "encoder backward": 1, "generator": 2, "generator backward": 1}
OFFICIAL = {"UNet rows": 8, "encoder": 5, "encoder backward": 4, "generator": 3, "generator backward": 2}
"""What a step calls, in each order: of the diffusion model both conditions of each latent are a row."""
POOLS = {
    "none": ({}, OURS),
    "latents": ({"latent_pool": 1}, OURS | {"encoder": 1, "generator": 1}),
    "noises": ({"latent_pool": 1, "noise_pool": 1}, OURS | {"UNet rows": 2, "encoder": 1, "generator": 1}),
}
"""What is known of the frozen generator from earlier steps: the settings, and what is left to call."""


@dataclass
class Calls:
    """Calls counts and times what a step asks of the networks."""

    device: torch.device
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def watch(self, name: str, call: Callable, rows: Callable[..., int] = lambda *_, **__: 1) -> Callable:
        def watched(*given, **named):
            start = self.now()
            result = call(*given, **named)
            self.seconds[name] = self.seconds.get(name, 0.0) + self.now() - start
            self.counts[name] = self.counts.get(name, 0) + rows(*given, **named)
            return result

        return watched

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def clear(self) -> None:
        self.counts.clear(), self.seconds.clear()


@contextmanager
def watching(calls: Calls, prior: DiffusersPrior, network: type):
    """Count and time the calls of both orders in the body."""
    grad, unet = torch.autograd.grad, prior.model.unet
    forward, encode, evaluate = network.forward, prior.encode, unet.forward

    def backward(outputs, inputs, *rest, **named):
        name = "encoder backward" if isinstance(inputs, torch.Tensor) else "generator backward"
        return calls.watch(name, grad)(outputs, inputs, *rest, **named)

    prior.encode = calls.watch("encoder", encode, lambda images, *_, **__: len(images))
    unet.forward = calls.watch("UNet rows", evaluate, lambda rows, *_, **__: len(rows))
    network.forward = calls.watch("generator", forward)
    torch.autograd.grad = backward
    try:
        yield
    finally:
        torch.autograd.grad, network.forward, unet.forward = grad, forward, evaluate
        prior.encode = encode


def networks(size: str, precision: torch.dtype, device: torch.device) -> tuple[DiffusersPrior, Generator]:
    if size == "miniature":
        model, generator = StableDiffusion.load(WEIGHTS / "diffusion", device), load_generator("miniature")
        return DiffusersPrior(model, "a portrait of a fox", "", 100.0), generator.to(device)
    made = sdxl if size == "sdxl" else stable_diffusion
    model = made(device, Variant("ours", half=precision != torch.float32), precision)
    if size == "sd15-taesd":
        model = replace(model, vae=filled(AutoencoderTiny, device=device))
    resolution = 256 if size == "sd15-256" else 1024
    return DiffusersPrior(model, "a prompt"), filled(Generator, GeneratorConfig(resolution), device=device)


class Official:
    """The official code's order of operations."""

    def __init__(self, prior: DiffusersPrior, generator: Generator, half: bool):
        self.prior, self.half = prior, half
        self.trained, self.frozen = copy_generator(generator, prior.device), copy_generator(generator, prior.device)
        self.layers = range(len(generator.synthesis.layers))
        self.optimizer = torch.optim.Adam(
            [p.requires_grad_(True) for p in trained_parameters(self.trained, self.layers)], lr=0.0008, foreach=False
        )

    def rendered(self, generator: Generator, ws):
        with torch.autocast(ws.device.type, torch.bfloat16, enabled=self.half):
            return prior_input(generator.synthesis(Draw(ws)), self.prior.image_size)

    def step(self, number: int) -> None:
        prior, (alpha, sigma) = self.prior, self.prior.schedule(T)
        with torch.no_grad():
            ws = self.frozen.mapping(sample_z(self.trained.z_dim, 1, number).to(prior.device))
        noise = torch.randn(1, 4, prior.image_size // 8, prior.image_size // 8, device=prior.device)
        if len(prior.model.vae.config.block_out_channels) != 4:  # the miniature's encoder halves less
            noise = torch.randn_like(prior.encode(torch.zeros(1, 3, prior.image_size, prior.image_size)))

        def noisy(z):
            return equations.add_noise(z.detach(), noise, alpha, sigma)

        # Which layers: a pass of its own.
        code = ws.clone().requires_grad_()
        seen = (images := self.rendered(self.trained, code)).detach().requires_grad_()
        z = prior.encode(seen)
        g = (sigma**2 * (prior.guided(noisy(z), T) - noise)).clamp(-1, 1)
        (image_gradient,) = torch.autograd.grad(z, seen, g)
        (moved,) = torch.autograd.grad(images, [code], image_gradient)
        chosen = moved.abs().mean(dim=(0, 2))[: len(self.layers)].topk(CHOSEN).indices.tolist()
        # Score distillation, its image's gradient clamped, which takes the encoder once more.
        seen = (images := self.rendered(self.trained, ws)).detach().requires_grad_()
        z = prior.encode(seen)
        g = (sigma**2 * (prior.guided(noisy(z), T) - noise)).clamp(-1, 1)
        (first,) = torch.autograd.grad(z, seen, g)
        z = prior.encode(seen)
        (again,) = torch.autograd.grad(z, seen, g)
        total = equations.clamp_to_quantile(again, 0.95) + 0 * first
        # The directional regularizer, evaluated by itself.
        with torch.no_grad():
            z0 = prior.encode(self.rendered(self.frozen, ws))
        z = prior.encode(seen)
        trained, frozen = prior.guided(torch.cat([noisy(z), noisy(z0)]), T).chunk(2)
        g = (sigma**2 * equations.directional_gradient(trained, frozen)).clamp(-1, 1)
        (of_directional,) = torch.autograd.grad(z, seen, g)
        parameters = trained_parameters(self.trained, chosen)
        found = torch.autograd.grad(images, parameters, total + of_directional)
        for parameter, gradient in zip(parameters, found, strict=True):
            parameter.grad = gradient
        self.optimizer.step()
        self.optimizer.zero_grad()


class Ours:
    """Our loop, as trainings run it."""

    def __init__(self, prior: DiffusersPrior, generator: Generator, half: bool, options: argparse.Namespace):
        pools, looks = dict(POOLS[options.pool][0]), options.timesteps
        if options.pool == "noises":
            pools["noise_pool"] = looks
        given = {"precision": "bfloat16" if half else "float32", "recompute": options.recompute, **pools}
        settings = TrainSettings(steps=1000, t_min=T, t_max=T, timesteps_per_image=looks, **given)
        self.run = GeneratorTraining(generator, prior, settings, [DirectionalRegularizer()], TopKLayers(CHOSEN))
        self.recompute = self.run.adaptation.memory.recompute

    def step(self, number: int) -> None:
        with recording_gradients():
            record = train_step(self.run.training)
        assert record.skipped is None, record.skipped


def best_rate(precision: torch.dtype, device: torch.device) -> float:
    """Operations a second: the best of ten products of matrices of 2048."""
    a, b = (torch.randn(2048, 2048, device=device, dtype=precision) for _ in range(2))
    found = []
    for _ in range(11):
        calls = Calls(device)
        start = calls.now()
        a @ b
        found.append(calls.now() - start)
    return 2 * 2048**3 / min(found[1:])


class Operations(TorchDispatchMode):
    """Operations adds up what matrix products and convolutions in its body compute."""

    total = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        if (count := flop_registry.get(operation._overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=result)
        return result


def operations(size: str, timesteps: int, calls: dict[str, int]) -> float:
    """Count what a step of ours computes, from the sizes alone."""
    meta = torch.device("meta")
    if size == "miniature":
        model = StableDiffusion.load(WEIGHTS / "diffusion")
        unet, vae = model.unet.to(meta), model.vae.to(meta)
        generator = load_generator("miniature").to(meta)
    else:
        model = (sdxl if size == "sdxl" else stable_diffusion)(meta, Variant("ours"), torch.bfloat16)
        unet, vae = model.unet, filled(AutoencoderTiny, device=meta) if size == "sd15-taesd" else model.vae
        generator = filled(Generator, GeneratorConfig(256 if size == "sd15-256" else 1024), device=meta)
    evaluated = calls["UNet rows"]
    texts = {"encoder_hidden_states": torch.empty(evaluated, 77, unet.config.cross_attention_dim, device=meta)}
    if size == "sdxl":
        whole = {
            "text_embeds": torch.empty(evaluated, 1280, device=meta),
            "time_ids": torch.empty(evaluated, 6, device=meta),
        }
        texts["added_cond_kwargs"] = whole
    codes = torch.empty(1, generator.num_ws, generator.w_dim, device=meta)
    side = unet.config.sample_size * 2 ** (len(vae.config.block_out_channels) - 1)
    images = torch.empty(1, 3, side, side, device=meta, requires_grad=True)

    def code(images):
        found = vae.encode(images)
        return found.latents if size == "sd15-taesd" else found.latent_dist.mode()

    latent = code(images)
    rows = torch.empty(evaluated, *latent.shape[1:], device=meta)
    trained = [p.requires_grad_(True) for p in trained_parameters(generator, range(len(generator.synthesis.layers)))]
    with patch.object(F, "scaled_dot_product_attention", attention_without_matrix), Operations() as counter:
        with torch.no_grad():
            for _ in range(timesteps):
                unet(rows, torch.zeros((), device=meta), **texts)
            if calls["encoder"] == 2:
                code(images), generator.synthesis(Draw(codes))
        found = code(images)
        torch.autograd.grad(found, images, torch.empty_like(found))
        drawn = generator.synthesis(Draw(codes))
        torch.autograd.grad(drawn, trained, torch.empty_like(drawn))
    return counter.total


def measure(size: str, name: str, options: argparse.Namespace) -> float:
    device, precision = torch.device(options.device), PRECISIONS[name]
    torch.manual_seed(0)
    prior, generator = networks(size, precision, device)
    half = precision != torch.float32
    timesteps, called = options.timesteps, POOLS[options.pool][1]
    ours, official = Ours(prior, generator, half, options), Official(prior, generator, half)
    calls_of_ours = called | {"UNet rows": called["UNet rows"] * timesteps}
    calls = Calls(device)
    times, parts = {"ours": [], "official": []}, {"ours": {}, "official": {}}
    network = type(generator.synthesis)
    with recording_gradients(), keeping_freed_memory(device), watching(calls, prior, network):
        ours.step(0)  # what libraries do once
        for number in range(options.repeats):
            for who, order, expected in (("ours", ours, calls_of_ours), ("official", official, OFFICIAL)):
                calls.clear()
                start = calls.now()
                order.step(number + 1)
                times[who].append(calls.now() - start)
                parts[who] = dict(calls.seconds)
                assert calls.counts == expected or size == "miniature", f"{who} called {calls.counts}, not {expected}"
    needed = operations(size, timesteps, called)
    middle = {who: statistics.median(found) for who, found in times.items()}
    rate = best_rate(precision, device)
    ratio = timesteps * middle["official"] / middle["ours"]
    share = {part: parts["ours"].get(part, 0.0) / middle["ours"] for part in COUNTED}
    floor = f"{needed / rate:.2f} s | {middle['ours'] * rate / needed:.2f}"
    print(
        f"| {size} | {name} | {middle['ours']:.2f} s | {middle['official']:.2f} s | **{ratio:.2f}** | {counted(parts['ours'], calls_of_ours, timesteps):.2f} | "
        + " | ".join(f"{one:.0%}" for one in share.values())
        + f" | {floor} | {'again' if ours.recompute else 'kept'} |",
        flush=True,
    )
    return ratio


def counted(seconds: dict[str, float], calls: dict[str, int], timesteps: int) -> float:
    """The ratio by what is called alone, each call at what it takes in ours."""
    each = {part: seconds.get(part, 0.0) / calls[part] for part in COUNTED}
    theirs = timesteps * sum(OFFICIAL[part] * each[part] for part in COUNTED)
    return theirs / sum(calls[part] * each[part] for part in COUNTED)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["miniature"], choices=SIZES)
    parser.add_argument("--precisions", nargs="+", default=["float32"], choices=PRECISIONS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int)
    parser.add_argument(
        "--timesteps", type=int, default=1, help="at which ours looks at an image, each a step of the official order"
    )
    parser.add_argument(
        "--pool",
        default="none",
        choices=POOLS,
        help="what is known of the frozen generator's picture, as when it is drawn again: its latents, and the predictions "
        "for its noises, too",
    )
    parser.add_argument(
        "--recompute", choices=("auto", "yes", "no"), default="auto", help="whether ours computes activations again"
    )
    options = parser.parse_args()
    options.recompute = {"auto": None, "yes": True, "no": False}[options.recompute]
    if options.threads:
        torch.set_num_threads(options.threads)
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}\n"
    )
    heads = " | ".join(f"{part}" for part in COUNTED)
    print(
        f"| size | precision | ours | official order | ratio | by counts | {heads} | floor | times it | activations |"
    )
    print("|---|---|---|---|---|---|" + "---|" * (len(COUNTED) + 3))
    found = [measure(size, precision, options) for size in options.sizes for precision in options.precisions]
    print(f"\nratio {found[-1]:.2f}")


if __name__ == "__main__":
    main()
