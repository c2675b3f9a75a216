"""The synthesis network of StyleGAN2: w+ -> image with skips (arXiv 1912.04958, 2006.06676)."""

import torch
from torch import Tensor, nn

from .config import GeneratorConfig
from .layers import GAIN, FullyConnected, activate, clamped, fir_kernel, modulated_conv2d, normal, upsample
from .synthesis import Draw, SynthesisNetwork, maybe_recompute


class SynthesisConv(nn.Module):
    """A SynthesisConv is a modulated 3x3 convolution with noise, bias and leaky ReLU; `up`
    doubles the resolution first. `size` is height and width of what it puts out."""

    def __init__(self, config: GeneratorConfig, in_channels: int, resolution: int, up: bool):
        super().__init__()
        out_channels = config.channels(resolution)
        self.resolution = resolution
        self.size = config.size(resolution)
        self.up = up
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(normal(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", normal(*self.size))

    def forward(self, x: Tensor, w: Tensor, kernel: Tensor, noise: Tensor | None) -> Tensor:
        kernel = kernel if self.up else None
        x = modulated_conv2d(x, self.weight, self.affine(w), upsampling_kernel=kernel, bias=self.bias, gain=GAIN)
        if noise is not None:
            x.add_((noise * (self.noise_strength * GAIN)).to(x.dtype))
        return activate(x, self.clamp)


class ToRGB(nn.Module):
    """A ToRGB is a modulated 1x1 convolution to colours, without demodulation."""

    def __init__(self, config: GeneratorConfig, in_channels: int):
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(normal(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))
        self.weight_gain = in_channels**-0.5

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.weight_gain
        return clamped(modulated_conv2d(x, self.weight, styles, demodulate=False, bias=self.bias), self.clamp)


class SynthesisBlock(nn.Module):
    """A SynthesisBlock is one resolution: two convolutions (in the first one, on the learned constant) and a ToRGB."""

    def __init__(self, config: GeneratorConfig, resolution: int):
        super().__init__()
        channels = config.channels(resolution)
        self.resolution = resolution
        if resolution == 4:
            self.const = nn.Parameter(normal(channels, *config.const_size))
            self.convs = nn.ModuleList([SynthesisConv(config, channels, 4, up=False)])
        else:
            previous = config.channels(resolution // 2)
            self.convs = nn.ModuleList(
                [
                    SynthesisConv(config, previous, resolution, up=True),
                    SynthesisConv(config, channels, resolution, up=False),
                ]
            )
        self.to_rgb = ToRGB(config, channels)


class StyleGAN2Synthesis(SynthesisNetwork):
    """StyleGAN2Synthesis is the synthesis network of StyleGAN2; each block's ToRGB takes the code
    after its last convolution's."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.w_dim = config.w_dim
        self.blocks = nn.ModuleList(SynthesisBlock(config, r) for r in config.resolutions)
        self.num_ws = len(self.layers) + 1
        self.register_buffer("fir", fir_kernel(), persistent=False)

    def restore_constants(self) -> None:
        self.fir = fir_kernel()

    @property
    def layers(self) -> list[SynthesisConv]:
        return [conv for block in self.blocks for conv in block.convs]

    @property
    def layer_names(self) -> list[str]:
        """Return "4x4/conv", "8x8/conv0", "8x8/conv1", ..."""
        sides = [f"{width}x{height}" for height, width in (layer.size for layer in self.layers)]
        numbers = ["", *("0" if layer.up else "1" for layer in self.layers[1:])]
        return [f"{side}/conv{number}" for side, number in zip(sides, numbers, strict=True)]

    @property
    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        return {
            "constant": [self.blocks[0].const],
            "4x4": [self.layers[0]],
            "to_rgb": [block.to_rgb for block in self.blocks],
        }

    @property
    def companions(self) -> list[list[nn.Module | nn.Parameter]]:
        found = [[] for _ in self.layers]
        found[0].append(self.blocks[0].const)
        for block in self.blocks:
            found[self.layers.index(block.convs[-1])].append(block.to_rgb)
        return found

    @property
    def detail(self) -> list[float]:
        """Return the sides of the feature maps, of a generator of square pictures."""
        return [*(layer.resolution for layer in self.layers), self.blocks[-1].convs[-1].resolution]

    def forward(
        self, draw: Draw, noise: str = "const", resolution: int | None = None, recompute: bool = False
    ) -> Tensor:
        """Render a draw. Noise inputs: "const" the generator's own, "random" fresh, "none" without.

        `resolution` stops at the picture of a smaller block, for progressive training; with `recompute` the backward
        pass computes activations again instead of keeping them."""
        ws = self.checked_codes(draw, noise)
        x = self.blocks[0].const.to(ws.dtype).expand(len(ws), -1, -1, -1)
        image, index = None, 0
        for block in self.blocks:
            for conv in block.convs:
                x = maybe_recompute(recompute, conv, x, ws[:, index], self.fir, self._noise(draw, noise, index, conv))
                index += 1
            colours = maybe_recompute(recompute, block.to_rgb, x, ws[:, index]).float()
            image = colours if image is None else upsample(image, self.fir).float() + colours
            if block.resolution == resolution:
                break
        return image

    @staticmethod
    def _noise(draw: Draw, noise: str, index: int, conv: SynthesisConv) -> Tensor | None:
        """The noise input of a layer, by its mode."""
        if noise == "const":
            return conv.noise_const
        return draw.random_noise(index, *conv.size) if noise == "random" else None
