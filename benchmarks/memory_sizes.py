"""What a training takes by its sizes alone, for `memory.py`: Stable Diffusion 1.5 in its true sizes with random weights,
and the peak of each part of a step, followed on the meta device."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from unittest.mock import patch

import torch
import torch.nn.functional as F
from comfyui_stylegan_fusion.sds.memory import training_memory
from comfyui_stylegan_fusion.sds.parameters import trained_parameters
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from comfyui_stylegan_fusion.sds.priors.text_encoders import clip_tokenizer
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig
from comfyui_stylegan_fusion.stylegan.sampling import render_batch
from comfyui_stylegan_fusion.training.memory import LiveBytes, transient_bytes
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn

SIZE = 512  # pixels of the images that the encoder sees
BOTH = "encoder and generator backward"
PARTS = ("loading", "samples", "frozen rendering", "frozen encoding", "rendering", "encoding", "UNet")
PARTS += ("encoder backward", "generator backward", BOTH, "Adam")


@dataclass(frozen=True)
class Variant:
    name: str
    peer: bool = False
    half: bool = False  # the UNet in half precision


VARIANTS = {v.name: v for v in (Variant("peer", peer=True), Variant("ours"), Variant("ours-half", half=True))}


class MadeUpEmbeddings:
    """In place of a text encoder; `pooled` is the width of what it says of a prompt as a whole, 0 where it says nothing."""

    config = SimpleNamespace(max_position_embeddings=77)

    def __init__(self, device: torch.device, width: int = 768, pooled: int = 0):
        self.device, self.width, self.pooled = device, width, pooled

    def get_input_embeddings(self) -> nn.Module:
        return nn.Identity()

    def __call__(self, tokens: Tensor, **options) -> SimpleNamespace:
        states = torch.randn(len(tokens), 77, self.width, device=self.device)
        found = SimpleNamespace(last_hidden_state=states, hidden_states=(states, states))
        if self.pooled:
            found.text_embeds = torch.randn(len(tokens), self.pooled, device=self.device)
        return found


def filled(kind: Callable, *args, device: torch.device, dtype: torch.dtype = torch.float32, **options) -> nn.Module:
    """A network with small random weights, without the time that its own initialization takes."""
    with torch.device("meta"):
        network = kind(*args, **options).to(dtype)
    if device.type != "meta":
        network = network.to_empty(device=device)
        for tensor in network.state_dict().values():
            tensor.normal_(std=min(1.0, 1 / math.sqrt(max(1, tensor[0].numel() if tensor.ndim else 1))))
        if hasattr(network, "synthesis"):
            network.synthesis.restore_constants()
    return network.eval().requires_grad_(False)


def unet_type(device: torch.device) -> torch.dtype:
    """The half precision that a device is quick in."""
    return torch.bfloat16 if device.type == "cpu" else torch.float16


def stable_diffusion(
    device: torch.device, variant: Variant, half_type: torch.dtype, decoder: bool = False
) -> StableDiffusion:
    """Stable Diffusion 1.5 in its true sizes, in half precision with the UNet in that type. Ours comes without the
    decoder unless asked for, as it is loaded for training."""
    widths = (128, 256, 512, 512)
    text_encoder = MadeUpEmbeddings(device)
    model = StableDiffusion(
        vae=filled(
            AutoencoderKL,
            down_block_types=("DownEncoderBlock2D",) * len(widths),
            up_block_types=("UpDecoderBlock2D",) * len(widths),
            block_out_channels=widths,
            layers_per_block=2,
            sample_size=SIZE,
            device=device,
        ),
        unet=filled(
            UNet2DConditionModel,
            sample_size=SIZE // 8,
            cross_attention_dim=768,
            device=device,
            dtype=half_type if variant.half else torch.float32,
        ),
        text_encoder=text_encoder,
        tokenizer=clip_tokenizer(),
        scheduler=DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012),
        device=device,
    )
    if not (variant.peer or decoder):
        del model.vae.decoder, model.vae.post_quant_conv
    return model


def sdxl(device: torch.device, variant: Variant, half_type: torch.dtype) -> StableDiffusion:
    """SDXL in its true sizes, without the decoder. Its VAE is that of Stable Diffusion 1.5, but for the scale of latents."""
    model = stable_diffusion(device, variant, half_type)
    unet = filled(
        UNet2DConditionModel,
        sample_size=2 * SIZE // 8,
        block_out_channels=(320, 640, 1280),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        attention_head_dim=(5, 10, 20),
        cross_attention_dim=2048,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=256,
        projection_class_embeddings_input_dim=2816,
        device=device,
        dtype=half_type if variant.half else torch.float32,
    )
    both = {"text_encoder_2": MadeUpEmbeddings(device, 1280, 1280), "tokenizer_2": clip_tokenizer("!")}
    return replace(model, unet=unet, **both)


@dataclass(frozen=True)
class Told:
    """The peak of each part in bytes, and that of all by the rule that the host is given."""

    parts: dict[str, int]
    total: int


def told(variant: Variant, resolution: int, device: torch.device) -> Told:
    """From tensors on the meta device alone; `device` says which half precision and where the given generator is."""
    meta = torch.device("meta")
    model = stable_diffusion(meta, variant, unet_type(device))
    generator = filled(Generator, GeneratorConfig(resolution), device=meta)
    parameters = trained_parameters(generator, range(1, len(generator.synthesis.layers)))
    for parameter in parameters:
        parameter.requires_grad_(True)
    recompute = not variant.peer
    weights, one = bytes_of(model.unet) + bytes_of(model.vae), bytes_of(generator)
    given = one if device.type == "cpu" else 0
    trained = sum(parameter.nbytes for parameter in parameters)
    base = weights + given + 2 * one + (3 if variant.peer else 2) * trained

    codes = torch.empty(render_batch(generator.config), generator.num_ws, generator.w_dim, device=meta)
    images = torch.empty(1, 3, SIZE, SIZE, device=meta, requires_grad=True)
    rows = 1 if variant.peer else 4
    prior = DiffusersPrior(model, "a prompt")

    def render() -> Tensor:
        return generator.synthesis(Draw(codes[:1]), recompute=recompute)

    def evaluate() -> None:
        latents = torch.empty(rows, 4, SIZE // 8, SIZE // 8, device=meta, dtype=model.unet.dtype)
        embeddings = torch.empty(rows, 77, 768, device=meta, dtype=model.unet.dtype)
        model.unet(latents, torch.zeros((), device=meta), encoder_hidden_states=embeddings)

    with patch.object(F, "scaled_dot_product_attention", attention_without_matrix):
        with torch.no_grad():
            samples, frozen = (transient_bytes(lambda c=c: generator.synthesis(Draw(c))) for c in (codes, codes[:1]))
            frozen_encoding = transient_bytes(lambda: prior.encode(images))
            unet = transient_bytes(evaluate)
        rendering = passes(render, parameters)
        encoding = passes(lambda: prior.encode(images, recompute), images)
    waiting, both = rendering.kept, rendering.kept + encoding.kept
    parts = {
        "samples": base + samples,
        "frozen rendering": base + frozen,
        "frozen encoding": base + frozen_encoding,
        "rendering": base + rendering.forward,
        "encoding": base + waiting + encoding.forward,
        "UNet": base + both + unet,
        "encoder backward": base + waiting + encoding.backward,
        "generator backward": base + rendering.backward,
        "Adam": base + (0 if variant.peer else trained),
    }
    if variant.peer:
        del parts["samples"], parts["encoder backward"], parts["generator backward"]
        parts[BOTH] = base + max(waiting + encoding.backward, rendering.backward)
        return Told(parts, max(parts.values()))
    held, peak = training_memory(generator, recompute=recompute)
    prior_peak = max(encoding.backward, encoding.kept + unet)
    return Told(parts, weights + given + held + max(peak, prior_peak))


@dataclass(frozen=True)
class Passes:
    forward: int  # bytes at most in the forward pass
    kept: int  # after it
    backward: int  # at most in both


def passes(forward: Callable[[], Tensor], inputs: Tensor | list[Tensor]) -> Passes:
    def both() -> None:
        result = forward()
        torch.autograd.grad(result, inputs, torch.empty_like(result))

    with LiveBytes() as live:
        result = forward()
        peak, kept = live.peak, live.now
    del result
    return Passes(peak, kept, transient_bytes(both))


def bytes_of(network: nn.Module) -> int:
    return sum(tensor.nbytes for tensor in [*network.parameters(), *network.buffers()])


def attention_without_matrix(q: Tensor, k: Tensor, v: Tensor, **options) -> Tensor:
    """Attention as devices compute it; on the meta device torch would choose the way with the whole matrix."""
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)[0]
