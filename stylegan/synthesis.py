"""What every kind of synthesis network offers."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute_in_backward

NOISE_MODES = ("const", "random", "none")


class SynthesisNetwork(nn.Module, ABC):
    """ws [B, num_ws, w_dim] to images [B, img_channels, R, R], about [-1, 1].

    `forward` takes the noise mode and `checkpoint`: whether the backward pass computes each layer's activations again
    (arXiv 1604.06174) instead of keeping them, for the same gradients in less memory and a little more time."""

    num_ws: int  # W+ codes of a picture: one for each of `layers`, and the last one for the last ToRGB
    w_dim: int

    @property
    @abstractmethod
    def layers(self) -> list[nn.Module]:
        """The layers that can be selected: ws[:, i] drives layer i."""

    @property
    @abstractmethod
    def layer_names(self) -> list[str]:
        """Names of `layers`, with the sides of their feature maps in pixels."""

    @property
    @abstractmethod
    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        """What is frozen unless it is asked for, by name."""

    def restore_constants(self) -> None:
        """Fill the buffers that checkpoints do not hold, after a construction on the meta device."""

    def require_codes(self, ws: Tensor, noise: str) -> None:
        """Raises ValueError when the codes or the noise mode do not fit."""
        if noise not in NOISE_MODES:
            raise ValueError(f"There is no noise mode {noise!r}; choose from {', '.join(NOISE_MODES)}.")
        if ws.ndim != 3 or ws.shape[1] != self.num_ws or ws.shape[2] != self.w_dim:
            wanted = f"[B, {self.num_ws}, {self.w_dim}]"
            raise ValueError(f"ws must have shape {wanted} for this generator, not {list(ws.shape)}.")


def unless_kept(checkpoint: bool, part: Callable[..., Tensor], *inputs: object, draws: bool = False) -> Tensor:
    """part(*inputs); with `checkpoint`, what autograd would keep of it is computed again in the backward pass, from the
    same random numbers if it `draws` any."""
    if not (checkpoint and torch.is_grad_enabled()):
        return part(*inputs)
    return recompute_in_backward(part, *inputs, use_reentrant=False, preserve_rng_state=draws)
