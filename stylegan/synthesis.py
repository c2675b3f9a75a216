"""What every architecture's synthesis network offers, and what it takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_in_backward

NOISE_MODES = ("const", "random", "none")


@dataclass(frozen=True)
class Draw:
    """Draw is what a batch of pictures is rendered from: for a 2D generator, W+ codes alone."""

    ws: Tensor  # W+ codes [B, num_ws, w_dim]

    def __len__(self) -> int:
        return len(self.ws)

    def __getitem__(self, rows: slice) -> Draw:
        return Draw(self.ws[rows])


class SynthesisNetwork(nn.Module, ABC):
    """A synthesis network renders a Draw of B codes as images [B, img_channels, R, R], about [-1, 1].

    `forward` takes the noise mode and `recompute`: whether the backward pass computes each layer's activations again
    (arXiv 1604.06174) instead of keeping them, for the same gradients in less memory and a little more time."""

    num_ws: int  # W+ codes of a picture: one for each of `layers`, and the last one for the last ToRGB
    w_dim: int

    @property
    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """Return the layers that can be selected: ws[:, i] drives layer i."""

    @property
    @abstractmethod
    def layer_names(self) -> list[str]:
        """Return the names of `layers`, with the sides of their feature maps in pixels."""

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
        return ws


def maybe_recompute(recompute: bool, part: Callable[..., Tensor], *inputs: object, draws: bool = False) -> Tensor:
    """Return part(*inputs); with `recompute`, what autograd would keep of it is computed again in the backward pass,
    from the same random numbers if it `draws` any."""
    if not (recompute and torch.is_grad_enabled()):
        return part(*inputs)
    return recompute_in_backward(part, *inputs, use_reentrant=False, preserve_rng_state=draws)
