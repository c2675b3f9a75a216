"""The generator: a mapping z -> w (arXiv 1812.04948), and the synthesis w+ -> image of its architecture."""

import itertools

import torch
from torch import Tensor, nn

from .architectures import ARCHITECTURES
from .cameras import frontal
from .config import Config
from .layers import FullyConnected, normalize_second_moment
from .synthesis import Draw


def class_labels(
    c_dim: int, count: int, device: torch.device | str = "cpu", class_index: int | None = None, first: int = 0
) -> Tensor | None:
    """Return one-hot labels [count, c_dim]: of one class, or of all classes in turn, for the pictures from the number
    `first` on; None for generators without classes.

    Raises ValueError when there is no such class."""
    if class_index is not None and not 0 <= class_index < c_dim:
        has = f"classes 0 to {c_dim - 1}" if c_dim else "no classes"
        raise ValueError(f"There is no class {class_index}: this generator has {has}.")
    if c_dim == 0:
        return None
    rows = torch.arange(first, first + count) % c_dim if class_index is None else torch.full([count], class_index)
    return torch.eye(c_dim)[rows].to(device)


class Mapping(nn.Module):
    """A Mapping takes z [B, z_dim] (and label [B, c_dim]) to ws [B, num_ws, w_dim]; `w_avg` [w_dim] is
    the centre of truncation. The label of a generator that takes cameras is one, the frontal one unless it is given."""

    def __init__(self, config: Config, num_ws: int):
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
        """Return w_avg, estimated at its first use where the generator's file had none."""
        if not self.has_w_avg:
            self.w_avg.copy_(self._mean_w())
            self.has_w_avg = True
        return self.w_avg

    @torch.no_grad()
    def _mean_w(self, count: int = 4096) -> Tensor:
        """The mean over `count` latents, always the same ones, of the classes in turn."""
        z = torch.randn(count, self.config.z_dim, generator=torch.Generator().manual_seed(0)).to(self.w_avg.device)
        return self(z, label=class_labels(self.config.classes, count, z.device))[:, 0].mean(dim=0)

    def forward(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        label: Tensor | None = None,
    ) -> Tensor:
        """Return the w of each sample, repeated for every layer.

        The first `truncation_cutoff` codes (all when None) are moved to w_avg + truncation_psi (w - w_avg).
        Raises ValueError when z or label do not fit the generator."""
        c_dim = self.config.c_dim
        if z.ndim != 2 or z.shape[1] != self.config.z_dim:
            raise ValueError(f"z must have shape [B, {self.config.z_dim}] for this generator, not {list(z.shape)}.")
        if label is None and self.config.takes_cameras:
            label = frontal(self.config, len(z)).to(z.device)
        if (label is None) != (c_dim == 0) or (label is not None and list(label.shape) != [len(z), c_dim]):
            given = "none" if label is None else list(label.shape)
            wanted = f"labels of shape [{len(z)}, {c_dim}]" if c_dim else "no labels"
            raise ValueError(f"This generator takes {wanted}, but was given {given}.")
        x = normalize_second_moment(z.float())
        if label is not None:
            x = torch.cat([x, normalize_second_moment(self.embed(label.float() * self.config.label_scale))], dim=1)
        for layer in self.layers:
            x = layer(x)
        return self.truncated(x[:, None].repeat(1, self.num_ws, 1), truncation_psi, truncation_cutoff)

    def truncated(self, ws: Tensor, truncation_psi: float, truncation_cutoff: int | None = None) -> Tensor:
        """Return codes ws [B, num_ws, w_dim] of which the first `truncation_cutoff` (all when None) are moved to
        w_avg + truncation_psi (w - w_avg)."""
        if truncation_psi == 1.0:
            return ws
        truncated = torch.lerp(self.centre().to(ws.dtype), ws, truncation_psi)
        if truncation_cutoff is None:
            return truncated
        return torch.cat([truncated[:, :truncation_cutoff], ws[:, truncation_cutoff:]], dim=1)


class Generator(nn.Module):
    """A Generator is a `mapping` and the `synthesis` of the architecture that its configuration names,
    with its sizes as attributes."""

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        self.z_dim = config.z_dim
        self.w_dim = config.w_dim
        self.c_dim = config.classes
        self.height, self.width = config.height, config.width
        self.synthesis = ARCHITECTURES[config.architecture].synthesis(config)
        self.num_ws = self.synthesis.num_ws
        self.mapping = Mapping(config, self.num_ws)

    def forward(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        truncation_cutoff: int | None = None,
        label: Tensor | None = None,
        noise: str = "const",
        cameras: Tensor | None = None,
    ) -> Tensor:
        """Render images [B, img_channels, H, W], about [-1, 1], from z [B, z_dim]; of a generator that takes cameras as
        these see it, [B, 25]."""
        ws = self.mapping(z, truncation_psi, truncation_cutoff, label)
        return self.synthesis(Draw(ws, cameras=cameras), noise=noise)
