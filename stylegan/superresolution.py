"""What follows the volume rendering of an EG3D generator: two blocks of StyleGAN2 that enlarge it (arXiv 2112.07945)."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from .config import SUPERRESOLUTIONS, EG3DConfig
from .layers import fir_kernel, upsample
from .stylegan2 import SynthesisConv, ToRGB
from .synthesis import maybe_recompute

Noise = Callable[[int, SynthesisConv], Tensor | None]
"""Gives the noise input of a layer, by its number."""


@dataclass(frozen=True)
class _Sizes:
    """The sizes that the layers of a block ask for."""

    w_dim: int
    out_channels: int
    img_channels: int
    conv_clamp: float | None

    def channels(self, resolution: int) -> int:
        return self.out_channels

    def size(self, resolution: int) -> tuple[int, int]:
        return resolution, resolution


class _Block(nn.Module):
    """Two convolutions, of which the first may double the side, and a ToRGB."""

    def __init__(self, sizes: _Sizes, in_channels: int, side: int, up: bool):
        super().__init__()
        self.up = up
        first = SynthesisConv(sizes, in_channels, side, up)
        self.convs = nn.ModuleList([first, SynthesisConv(sizes, sizes.out_channels, side, up=False)])
        self.to_rgb = ToRGB(sizes, sizes.out_channels)


class TwoBlocks(nn.Module):
    """TwoBlocks take a rendering [B, img_channels, R, R] and its features [B, plane_channels, R, R] to pictures of a
    generator's resolution; every layer takes the last code w [B, w_dim]."""

    def __init__(self, config: EG3DConfig):
        super().__init__()
        kind = SUPERRESOLUTIONS[config.superresolution]
        self.enlarges_only = kind.enlarges_only
        self.antialias = config.antialias and kind.may_antialias
        self.takes_noise = config.superresolution_noise == "random"
        self.side = config.resolution // kind.scale
        channels = [config.plane_channels, *config.superresolution_channels]
        sides = [config.resolution // 2, config.resolution]
        self.blocks = nn.ModuleList(
            _Block(
                _Sizes(config.w_dim, channels[i + 1], config.img_channels, config.superresolution_clamp),
                channels[i],
                sides[i],
                up=i == 1 or kind.first_up,
            )
            for i in range(2)
        )
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def restore_constants(self) -> None:
        self.fir = fir_kernel()

    @property
    def trained(self) -> list[nn.Parameter]:
        """Return what can be trained: never a bias, and the strengths of noise only where it takes any."""
        without = ("bias",) if self.takes_noise else ("bias", "noise_strength")
        return [parameter for name, parameter in self.named_parameters() if not name.endswith(without)]

    def forward(self, raw: Tensor, features: Tensor, w: Tensor, noise: Noise, recompute: bool = False) -> Tensor:
        image, x = self._fitted(raw), self._fitted(features)
        for number, block in enumerate(self.blocks):
            for place, conv in enumerate(block.convs):
                given = noise(2 * number + place, conv) if self.takes_noise else None
                x = maybe_recompute(recompute, conv, x, w, self.fir, given)
            colours = maybe_recompute(recompute, block.to_rgb, x, w).float()
            image = (upsample(image, self.fir).float() if block.up else image) + colours
        return image

    def _fitted(self, images: Tensor) -> Tensor:
        if images.shape[-1] == self.side or (self.enlarges_only and images.shape[-1] > self.side):
            return images
        # In float32: the CPU resizes nothing in half precision without aliasing.
        resized = F.interpolate(images.float(), (self.side, self.side), mode="bilinear", antialias=self.antialias)
        return resized.to(images.dtype)


class Unchanged(nn.Module):
    """Unchanged leaves the rendering as it is."""

    def __init__(self, config: EG3DConfig):
        super().__init__()

    def restore_constants(self) -> None:
        pass

    @property
    def trained(self) -> list[nn.Parameter]:
        return []

    def forward(self, raw: Tensor, features: Tensor, w: Tensor, noise: Noise, recompute: bool = False) -> Tensor:
        return raw


def superresolution(config: EG3DConfig) -> nn.Module:
    """Make what the configuration names."""
    return (Unchanged if SUPERRESOLUTIONS[config.superresolution] is None else TwoBlocks)(config)
