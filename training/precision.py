"""The numbers that a device is made for."""

import torch


def has_bfloat16(device: torch.device) -> bool:
    """Tell whether a device is known to compute in bfloat16 by instructions of its own; others are several times slower
    with it than with float32."""
    if device.type == "cpu":
        return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def computes_in_half(precision: str, device: torch.device) -> bool:
    """Tell whether a network computes in bfloat16 on a device: where it is asked to, or "auto" and the device is made for
    it."""
    return has_bfloat16(device) if precision == "auto" else precision == "bfloat16"
