"""Stage 2: train the autoencoder of the small Stable Diffusion on renders of all domains.

Absolute differences of pixels and of their edges at three scales keep it sharp; a discriminator on patches finishes it.
Half of every batch is disturbed renders: an encoder that has only seen portraits finds one in any picture, and a
generator in training learns to please it with smears.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from ..training.draws import MicroStep
from ..training.phases import Average, Outcome, Phase, gradients_of
from .damage import disturbed
from .factors import sample_factors
from .renderer import render
from .stages import edge_loss, run_stage, save_weights, seeded

STEPS, BATCH = 7000, 12
DECODER_FROM = 6 / 7  # share of the steps after which the encoder stays, and with it the latents; the decoder goes on
ADVERSARIAL_FROM = 0.51  # share of the steps after which the discriminator joins
LATENT_NOISE = 0.05  # standard deviation of the posterior
_SEED = 102


def new_vae():
    """Make an untrained AutoencoderKL: 64 pixels to latents [4, 16, 16]."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(32, 64, 64),  # the host's autoencoder normalizes in 32 groups
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        layers_per_block=1,
        sample_size=64,
    )


def run(folder: Path, weights: Path, steps: int = STEPS) -> None:
    torch.manual_seed(_SEED)
    vae, average, critic = new_vae(), new_vae(), _patch_critic()
    with (
        torch.no_grad()
    ):  # a small constant latent noise: a larger one at the start teaches the decoder to ignore the latents
        vae.quant_conv.weight[4:] = 0
        vae.quant_conv.bias[4:] = 2 * math.log(LATENT_NOISE)
    average.load_state_dict(vae.state_dict())
    follow = Average(average, lambda step: min(0.995, (1 + step) / (10 + step)))
    training = _Autoencoding(vae, critic, average, steps)
    adamw = torch.optim.AdamW(vae.parameters(), betas=(0.9, 0.99), weight_decay=1e-4)
    adam = torch.optim.Adam(critic.parameters(), betas=(0.5, 0.99))
    phases = [
        Phase("critic", critic, adam, training.judge, lambda step: 5e-4, buffers=True),
        Phase("vae", vae, adamw, training.code, lambda step: 1.5e-3 * _learning_rate(step / steps), average=follow),
    ]
    run_stage(folder, phases, steps)
    export(average, weights / "diffusion" / "vae")


class _Autoencoding:
    """What critic and autoencoder compute in a step: both look at the same pictures, decoded once."""

    def __init__(self, vae, critic: nn.Module, average, steps: int):
        self.vae, self.critic, self.average = vae, critic, average
        self.settled, self.adversarial = round(DECODER_FROM * steps), ADVERSARIAL_FROM * steps

    def judge(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """The critic learns to tell real from decoded portraits: of the portraits alone, for a disturbed picture must
        not be decoded into a better one."""
        images, decoded, _ = self._pictures(micro_steps[0])
        if micro_steps[0].step < self.adversarial:
            return Outcome({})
        real = BATCH // 2
        loss = F.relu(1 - self.critic(images[:real])).mean() + F.relu(1 + self.critic(decoded[:real].detach())).mean()
        return Outcome(gradients_of(loss, self.critic.parameters()), {"critic": loss.item()})

    def code(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        step = micro_steps[0].step
        images, decoded, mean = self._pictures(micro_steps[0])
        parts = {
            "pixels": F.l1_loss(decoded, images) + F.mse_loss(decoded, images),
            "edges": min(2.0, step / 500) * edge_loss(decoded, images),
            "size": 1e-4 * mean.square().mean(),
        }
        if step >= self.adversarial:
            parts["adversarial"] = -0.02 * self.critic(decoded[: BATCH // 2]).mean()
        gradients = gradients_of(sum(parts.values()), self.vae.parameters(), max_norm=1.0)
        return Outcome(gradients, {name: value.item() for name, value in parts.items()})

    def _pictures(self, micro_step: MicroStep):
        """Pictures, what the autoencoder makes of them, and their latents' means."""
        if "pictures" not in micro_step.shared:
            self._settle(micro_step.step)
            random = seeded(_SEED, micro_step.step)
            portraits = render(sample_factors(BATCH, random, plain=True))
            real = BATCH // 2
            images = torch.cat([portraits[:real], disturbed(portraits[real:], random)])
            with torch.autocast("cpu", torch.bfloat16):
                mean = self.vae.encode(images).latent_dist.mean.float()
                noise = LATENT_NOISE * torch.randn(mean.shape, generator=random)
                decoded = self.vae.decode(mean + noise).sample.float()
            micro_step.shared["pictures"] = images, decoded, mean
        return micro_step.shared["pictures"]

    def _settle(self, step: int) -> None:
        """From some step on the encoder stays, as its average is then."""
        if step >= self.settled:
            for name in ("encoder", "quant_conv"):
                if step == self.settled:
                    getattr(self.vae, name).load_state_dict(getattr(self.average, name).state_dict())
                getattr(self.vae, name).requires_grad_(False)


def _learning_rate(done: float) -> float:
    """Factor of the learning rate at a share of the steps: a short rise, level, a cosine to nothing; then the same,
    lower, for the decoder alone."""
    if done >= DECODER_FROM:
        return 0.5 * (0.5 + 0.5 * math.cos(math.pi * (done - DECODER_FROM) / (1 - DECODER_FROM)))
    done = done / DECODER_FROM
    return min(1.0, 20 * done) * (0.5 + 0.5 * math.cos(math.pi * max(0.0, 2 * done - 1)))


@torch.no_grad()
def export(vae, folder: Path) -> None:
    """Write the autoencoder in the layout of diffusers, with the scaling that gives its latents unit variance."""
    latents = vae.encode(render(sample_factors(256, seeded(_SEED, 0, 0), plain=True))).latent_dist.mode()
    vae.register_to_config(scaling_factor=round(1 / latents.std().item(), 4))
    save_weights(vae, folder / "diffusion_pytorch_model.safetensors")
    # diffusers lists in an entry of this kind what it thinks was left at its default, and so would the scaling be.
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    (folder / "config.json").write_text(json.dumps({"_class_name": "AutoencoderKL", **config}, indent=2) + "\n")


def _patch_critic():
    def layer(inputs, outputs, stride):
        return [nn.utils.spectral_norm(nn.Conv2d(inputs, outputs, 4, stride, 1)), nn.LeakyReLU(0.2)]

    return nn.Sequential(*layer(3, 32, 2), *layer(32, 64, 2), *layer(64, 64, 1), nn.Conv2d(64, 1, 3, 1, 1))
