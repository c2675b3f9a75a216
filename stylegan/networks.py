"""The generator: mapping z -> w, and StyleGAN2's synthesis w+ -> image with skips (arXiv 1912.04958, 2006.06676)."""

import itertools

import torch
from torch import Tensor, nn

from .alias_free import AliasFreeSynthesis
from .config import GeneratorConfig, StyleGAN3Config
from .layers import FullyConnected, fir_kernel, leaky_relu, modulated_conv2d, normal, normalize_second_moment, upsample
from .synthesis import SynthesisNetwork, unless_kept


def class_labels(
    c_dim: int, count: int, device: torch.device | str = "cpu", class_index: int | None = None
) -> Tensor | None:
    """One-hot labels [count, c_dim]: of one class, or of all classes in turn; None for generators without classes.

    Raises ValueError when there is no such class."""
    if class_index is not None and not 0 <= class_index < c_dim:
        has = f"classes 0 to {c_dim - 1}" if c_dim else "no classes"
        raise ValueError(f"There is no class {class_index}: this generator has {has}.")
    if c_dim == 0:
        return None
    rows = torch.arange(count) % c_dim if class_index is None else torch.full([count], class_index)
    return torch.eye(c_dim)[rows].to(device)


class Mapping(nn.Module):
    """z [B, z_dim] (and label [B, c_dim]) to ws [B, num_ws, w_dim]; `w_avg` [w_dim] is the centre of truncation."""

    def __init__(self, config: GeneratorConfig | StyleGAN3Config, num_ws: int):
        super().__init__()
        self.config = config
        self.num_ws = num_ws
        if config.c_dim:
            self.embed = FullyConnected(config.c_dim, config.w_dim)
        width = config.z_dim + (config.w_dim if config.c_dim else 0)
        widths = [width] + [config.w_dim] * config.mapping_layers
        self.layers = nn.ModuleList(
            FullyConnected(a, b, activate=True, lr_multiplier=0.01) for a, b in itertools.pairwise(widths)
        )
        self.register_buffer("w_avg", torch.zeros(config.w_dim))
        self.has_w_avg = True

    def centre(self) -> Tensor:
        """w_avg, estimated at its first use where the generator's file had none."""
        if not self.has_w_avg:
            self.w_avg.copy_(self._mean_w())
            self.has_w_avg = True
        return self.w_avg

    @torch.no_grad()
    def _mean_w(self, count: int = 4096) -> Tensor:
        """The mean over `count` latents, always the same ones, of the classes in turn."""
        z = torch.randn(count, self.config.z_dim, generator=torch.Generator().manual_seed(0)).to(self.w_avg.device)
        return self(z, label=class_labels(self.config.c_dim, count, z.device))[:, 0].mean(dim=0)

    def forward(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """w of each sample, repeated for every layer.

        The first `truncation_cutoff` codes (all when None) are moved to w_avg + truncation_psi (w - w_avg).
        Raises ValueError when z or label do not fit the generator."""
        c_dim = self.config.c_dim
        if z.ndim != 2 or z.shape[1] != self.config.z_dim:
            raise ValueError(f"z must have shape [B, {self.config.z_dim}] for this generator, not {list(z.shape)}.")
        if (label is None) != (c_dim == 0) or (label is not None and list(label.shape) != [len(z), c_dim]):
            given = "none" if label is None else list(label.shape)
            wanted = f"labels of shape [{len(z)}, {c_dim}]" if c_dim else "no labels"
            raise ValueError(f"This generator takes {wanted}, but was given {given}.")
        x = normalize_second_moment(z.float())
        if label is not None:
            x = torch.cat([x, normalize_second_moment(self.embed(label.float()))], dim=1)
        for layer in self.layers:
            x = layer(x)
        ws = x[:, None].repeat(1, self.num_ws, 1)
        if truncation_psi == 1.0:
            return ws
        truncated = torch.lerp(self.centre().to(ws.dtype), ws, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], ws[:, truncation_cutoff:]], dim=1)


class SynthesisConv(nn.Module):
    """Modulated 3x3 convolution with noise, bias and leaky ReLU; `up` doubles the resolution first."""

    def __init__(self, config: GeneratorConfig, in_channels: int, resolution: int, up: bool):
        super().__init__()
        out_channels = config.channels(resolution)
        self.resolution = resolution
        self.up = up
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(normal(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.noise_strength = nn.Parameter(torch.zeros([]))
        self.register_buffer("noise_const", normal(resolution, resolution))

    def forward(self, x: Tensor, w: Tensor, kernel: Tensor, noise: str) -> Tensor:
        x = modulated_conv2d(x, self.weight, self.affine(w), upsampling_kernel=kernel if self.up else None)
        if noise == "const":
            x = x + (self.noise_const * self.noise_strength).to(x.dtype)
        elif noise == "random":
            fresh = torch.randn(len(x), 1, self.resolution, self.resolution, device=x.device)
            x = x + (fresh * self.noise_strength).to(x.dtype)
        return leaky_relu(x + self.bias.to(x.dtype)[:, None, None], self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to colours, without demodulation."""

    def __init__(self, config: GeneratorConfig, in_channels: int):
        super().__init__()
        self.clamp = config.conv_clamp
        self.affine = FullyConnected(config.w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(normal(config.img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(config.img_channels))
        self.weight_gain = in_channels**-0.5

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        styles = self.affine(w) * self.weight_gain
        x = modulated_conv2d(x, self.weight, styles, demodulate=False) + self.bias.to(x.dtype)[:, None, None]
        return x if self.clamp is None else x.clamp(-self.clamp, self.clamp)


class SynthesisBlock(nn.Module):
    """One resolution: two convolutions (one at 4x4, on the learned constant) and a ToRGB."""

    def __init__(self, config: GeneratorConfig, resolution: int):
        super().__init__()
        channels = config.channels(resolution)
        if resolution == 4:
            self.const = nn.Parameter(normal(channels, 4, 4))
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


class Synthesis(SynthesisNetwork):
    """The synthesis network of StyleGAN2; each block's ToRGB takes the code after its last convolution's."""

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
        """ "4x4/conv", "8x8/conv0", "8x8/conv1", ..."""
        names = ["4x4/conv"]
        for layer in self.layers[1:]:
            names.append(f"{layer.resolution}x{layer.resolution}/conv{0 if layer.up else 1}")
        return names

    @property
    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        return {
            "constant": [self.blocks[0].const],
            "4x4": [self.layers[0]],
            "to_rgb": [block.to_rgb for block in self.blocks],
        }

    def forward(
        self, ws: Tensor, noise: str = "const", resolution: int | None = None, checkpoint: bool = False
    ) -> Tensor:
        """Render ws. Noise inputs: "const" the generator's own, "random" fresh, "none" without.

        `resolution` stops at the picture of a smaller block, for progressive training; with `checkpoint` the backward
        pass computes activations again instead of keeping them."""
        self.require_codes(ws, noise)
        x = self.blocks[0].const.to(ws.dtype).expand(len(ws), -1, -1, -1)
        image, index = None, 0
        for block in self.blocks:
            for conv in block.convs:
                x = unless_kept(checkpoint, conv, x, ws[:, index], self.fir, noise, draws=noise == "random")
                index += 1
            colours = unless_kept(checkpoint, block.to_rgb, x, ws[:, index]).float()
            image = colours if image is None else upsample(image, self.fir).float() + colours
            if image.shape[-1] == resolution:
                break
        return image


class Generator(nn.Module):
    """A generator: `mapping` and `synthesis`, StyleGAN2's or StyleGAN3's as its configuration says, with its sizes as
    attributes."""

    def __init__(self, config: GeneratorConfig | StyleGAN3Config):
        super().__init__()
        self.config = config
        self.z_dim = config.z_dim
        self.w_dim = config.w_dim
        self.c_dim = config.c_dim
        self.resolution = config.resolution
        self.synthesis = (AliasFreeSynthesis if isinstance(config, StyleGAN3Config) else Synthesis)(config)
        self.num_ws = self.synthesis.num_ws
        self.mapping = Mapping(config, self.num_ws)

    def forward(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        label: Tensor | None = None,
        noise: str = "const",
    ) -> Tensor:
        """z [B, z_dim] to images [B, img_channels, R, R], about [-1, 1]."""
        return self.synthesis(self.mapping(z, truncation_psi, truncation_cutoff, label), noise=noise)
