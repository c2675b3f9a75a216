"""What every architecture's synthesis network offers, and what it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_in_backward

NOISE_MODES = ("const", "random", "none")

NO_CAMERA = (
    "This generator draws flat pictures, which no camera can see from another side; leave the camera out, or choose an EG3D "
    "generator."
)


@dataclass(frozen=True)
class Draw:
    """Draw is what a batch of pictures is rendered from: W+ codes, the seeds of random noise, and, for a generator that
    takes them, cameras."""

    ws: Tensor  # W+ codes [B, num_ws, w_dim]
    noise_seeds: tuple[int, ...] | None = None  # of each picture; None: torch's own random numbers
    cameras: Tensor | None = None  # [B, 25]; None: the generator's usual one
    ray_seeds: tuple[int, ...] | None = None  # of the points on each picture's rays; None: as the noise mode has it

    def __len__(self) -> int:
        return len(self.ws)

    def __getitem__(self, rows: slice) -> Draw:
        per_picture = (self.noise_seeds, self.cameras, self.ray_seeds)
        return Draw(self.ws[rows], *(None if part is None else part[rows] for part in per_picture))

    def to(self, device: torch.device | str) -> Draw:
        """Return the draw with its tensors on a device."""
        cameras = None if self.cameras is None else self.cameras.to(device)
        return replace(self, ws=self.ws.to(device), cameras=cameras)

    def random_noise(self, layer: int, height: int, width: int) -> Tensor:
        """Draw the noise [B, 1, height, width] of a layer from N(0, 1): of each picture by its seed alone, on the CPU,
        so that every device draws the same."""
        if self.noise_seeds is None:
            return torch.randn(len(self), 1, height, width, device=self.ws.device)
        generators = [torch.Generator().manual_seed((seed + layer) % 2**64) for seed in self.noise_seeds]
        return torch.stack([torch.randn(1, height, width, generator=each) for each in generators]).to(self.ws.device)


class SynthesisNetwork(nn.Module, ABC):
    """A synthesis network renders a Draw of B codes as images [B, img_channels, H, W], about [-1, 1].

    `forward` takes the noise mode and `recompute`: whether the backward pass computes each layer's activations again
    (arXiv 1604.06174) instead of keeping them, for the same gradients in less memory and a little more time."""

    takes_cameras = False
    num_ws: int  # W+ codes of a picture: one for each of `layers`, and the last one for the last ToRGB
    w_dim: int

    @property
    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """Return the layers that can be selected: ws[:, i] drives layer i."""

    @property
    @abstractmethod
    def layer_names(self) -> list[str]:
        """Return the names of `layers`, with width and height of their feature maps in pixels."""

    @property
    @abstractmethod
    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        """Return what is frozen unless it is asked for, by name."""

    @property
    @abstractmethod
    def companions(self) -> list[list[nn.Module | nn.Parameter]]:
        """Return what goes with each of `layers` when layers are exchanged or blended, and is in none of them."""

    @property
    @abstractmethod
    def detail(self) -> list[float]:
        """Return how fine what each of the num_ws codes drives is, in pixels over the picture."""

    def restore_constants(self) -> None:
        """Fill the buffers that checkpoints do not hold, after a construction on the meta device."""

    def checked_codes(self, draw: Draw, noise: str) -> Tensor:
        """Return the codes of a draw. Raises ValueError when they or the noise mode do not fit."""
        ws = draw.ws
        if noise not in NOISE_MODES:
            raise ValueError(f"There is no noise mode {noise!r}; choose from {', '.join(NOISE_MODES)}.")
        if ws.ndim != 3 or ws.shape[1] != self.num_ws or ws.shape[2] != self.w_dim:
            wanted = f"[B, {self.num_ws}, {self.w_dim}]"
            raise ValueError(f"ws must have shape {wanted} for this generator, not {list(ws.shape)}.")
        if draw.cameras is not None and not self.takes_cameras:
            raise ValueError(NO_CAMERA)
        return ws


def maybe_recompute(recompute: bool, part: Callable[..., Tensor], *inputs: object) -> Tensor:
    """Return part(*inputs), which draws no random numbers; with `recompute`, what autograd would keep of it is computed
    again in the backward pass."""
    if not (recompute and torch.is_grad_enabled()):
        return part(*inputs)
    return recompute_in_backward(part, *inputs, use_reentrant=False, preserve_rng_state=False)
