"""A differentiable copy of a VAE's encoder.

The host keeps weights as inference tensors in storage precision, and newer ones hang memory handles on every module.
"""

import torch
from torch import Tensor, nn

_OF_EVERY_MODULE = frozenset(nn.Module().__dict__)


class Encoder(nn.Module):
    """Images [B, 3, S, S] to the posterior's mode [B, c, h, w], unscaled: the first half of the encoder's channels.

    Float32 copies of the two modules on `device`, which is small beside the UNet, which is not copied. Gradients pass
    through to the images; the weights take none."""

    def __init__(self, encoder: nn.Module, quant_conv: nn.Module | None, device: torch.device):
        super().__init__()
        with torch.inference_mode(False):
            self.encoder = plain_copy(encoder, device)
            self.quant_conv = None if quant_conv is None else plain_copy(quant_conv, device)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        moments = self.encoder(images)
        if self.quant_conv is not None:
            moments = self.quant_conv(moments)
        return moments.chunk(2, dim=1)[0]


def plain_copy(module: nn.Module, device: torch.device) -> nn.Module:
    """The module with float32 weights of its own and none of the host's bookkeeping.

    Private attributes are left out, and with them the handles of memory that the host manages: a deep copy of one would
    free, when it goes, what the original still uses."""
    copy = type(module).__new__(type(module))
    nn.Module.__init__(copy)
    for name, value in vars(module).items():
        if name not in _OF_EVERY_MODULE and not name.startswith("_"):
            vars(copy)[name] = [] if name in ("weight_function", "bias_function") else value
    if hasattr(copy, "comfy_cast_weights"):  # the weights are where and what they must be
        copy.comfy_cast_weights = False
    for name, value in module._parameters.items():
        weights = None if value is None else _own(value, device)
        copy.register_parameter(name, None if weights is None else nn.Parameter(weights, requires_grad=False))
    for name, value in module._buffers.items():
        copy.register_buffer(name, None if value is None else _own(value, device))
    for name, child in module._modules.items():
        copy.add_module(name, None if child is None else plain_copy(child, device))
    return copy


def _own(value: Tensor, device: torch.device) -> Tensor:
    dtype = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to(device=device, dtype=dtype, copy=True)
