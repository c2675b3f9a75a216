"""A user's graph around SDS Guidance, and the table of its variants."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.sample
import comfy.samplers
import torch

import nodes


def node(place: str, name: str, **inputs) -> tuple:
    """The outputs of one of ComfyUI's nodes: of both of its programming interfaces."""
    owner = nodes if place == "nodes" else importlib.import_module(f"comfy_extras.nodes_{place}")
    kind = getattr(owner, name)
    outputs = kind.execute(**inputs) if hasattr(kind, "execute") else getattr(kind(), kind.FUNCTION)(**inputs)
    return getattr(outputs, "result", outputs)


@dataclass(frozen=True)
class Graph:
    """What a user links to SDS Guidance, and to a sampler: a guider, or what makes one."""

    model: Any
    clip: Any
    positive: Any
    negative: Any
    files: Path  # where the files of `save_files` are
    scale: float = 7.5
    guider: Any = None
    extras: tuple = ()

    def says(self, text: str):
        return node("nodes", "CLIPTextEncode", clip=self.clip, text=text)[0]

    def sampled(self, noise, sigmas):
        """What ComfyUI makes of the noise."""
        sampler, latent = comfy.samplers.sampler_object("euler"), torch.zeros_like(noise)
        if self.guider is not None:
            return self.guider.sample(noise, latent, sampler, sigmas, disable_pbar=True, seed=0)

        def from_prompts(positive, negative, scale):
            return comfy.sample.sample_custom(
                self.model, noise, scale, sampler, sigmas, positive, negative, latent, disable_pbar=True
            )

        outcome = from_prompts(self.positive, self.negative, self.scale)
        for _, conditioning, scale in self.extras:
            alone, without = (from_prompts(c, self.negative, 1.0) for c in (conditioning, self.negative))
            outcome = outcome + scale * (alone - without)
        return outcome


VARIANTS: dict[str, Callable[[Graph], Graph | None]] = {}


def variant(name: str):
    """Registers what turns the plain graph into another; None where this ComfyUI lacks the node."""
    return lambda build: VARIANTS.setdefault(name, build)
