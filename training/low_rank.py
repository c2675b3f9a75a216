"""Low-rank adaptation of layers (LoRA, Hu et al., arXiv 2106.09685)."""

import torch
from torch import Tensor, nn


class LowRank(nn.Module):
    """A LowRank is the change of a linear layer or a convolution, up(down(x)): added to its output for as long as this
    lives; zero at first."""

    def __init__(self, layer: nn.Linear | nn.Conv2d, rank: int):
        super().__init__()
        if isinstance(layer, nn.Conv2d):
            places = layer.kernel_size, layer.stride, layer.padding
            self.down = nn.Conv2d(layer.in_channels, rank, *places, bias=False)
            self.up = nn.Conv2d(rank, layer.out_channels, 1, bias=False)
        else:
            self.down = nn.Linear(layer.in_features, rank, bias=False)
            self.up = nn.Linear(rank, layer.out_features, bias=False)
        nn.init.zeros_(self.up.weight)
        layer.register_forward_hook(lambda _, inputs, output: output + self(inputs[0]))

    def forward(self, x: Tensor) -> Tensor:
        """Return what is added to the layer's output for its input."""
        return self.up(self.down(x.to(self.down.weight.dtype))).to(x.dtype)

    @torch.no_grad()
    def change(self) -> Tensor:
        """Return what a weight of the layer would have to change by."""
        return change(self.down.weight, self.up.weight)


def change(down: Tensor, up: Tensor) -> Tensor:
    """Return up @ down in the shape of a layer's weight: down is [rank, in] or [rank, in, h, w], up [out, rank] or
    [out, rank, 1, 1]."""
    return (up.flatten(1) @ down.flatten(1)).view(len(up), *down.shape[1:])


def added_low_rank(denoiser: nn.Module, rank: int, seed: int) -> dict[str, LowRank]:
    """Let a change of low rank be added to what every linear layer and convolution of a denoiser puts out; returns the
    changes, drawn by the seed and zero at first, by the layers' names."""
    layers = [
        (name, layer)
        for name, layer in denoiser.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d) and getattr(layer, "groups", 1) == 1
    ]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed % 2**63)
        made = {name: LowRank(layer, min(rank, *layer.weight.shape[:2])) for name, layer in layers}
    for name, layer in layers:
        made[name].to(layer.weight.device)
    return made
