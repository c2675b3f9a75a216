"""The synthesis network of EG3D: w+ -> feature planes -> a picture seen by a camera (Chan et al., arXiv 2112.07945)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .cameras import frontal, rays, require_cameras
from .config import EG3DConfig
from .layers import FullyConnected
from .stylegan2 import StyleGAN2Synthesis, SynthesisConv
from .superresolution import superresolution
from .synthesis import Draw, SynthesisNetwork, maybe_recompute
from .volume import box_limits, coarse_depths, fine_depths, march, sample_planes

POINTS = 2**18
"""Points of rays that are computed together."""

_COARSE, _FINE = 1_000_003, 1_000_033
"""What seeds of rays are moved by for the two passes, away from those of layers."""


class Decoder(nn.Module):
    """A Decoder takes features [.., plane_channels] of points to their colours [.., plane_channels], in [0, 1] but for a
    thousandth, and raw densities [..]."""

    def __init__(self, config: EG3DConfig):
        super().__init__()
        self.hidden = FullyConnected(config.plane_channels, config.decoder_width)
        self.out = FullyConnected(config.decoder_width, 1 + config.plane_channels)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        found = self.out(F.softplus(self.hidden(features)))
        return found[..., 1:].sigmoid() * 1.002 - 0.001, found[..., 0]


@dataclass(frozen=True)
class Rendering:
    """A Rendering is what cameras see of a batch."""

    images: Tensor  # [B, img_channels, H, W], about [-1, 1]
    raw: Tensor  # [B, img_channels, R, R]: before the superresolution
    depth: Tensor  # [B, 1, R, R]: distance from the camera along each ray; where there is nothing, that of the back
    cover: Tensor  # [B, 1, R, R]: how much of each ray ends in something, 0 to 1


class TriPlaneSynthesis(SynthesisNetwork):
    """TriPlaneSynthesis is the synthesis network of EG3D: a StyleGAN2, the `backbone`, whose pictures are the planes, which
    the `decoder` turns into colours and densities along rays, and the `superresolution`. Layers and codes are those of
    the backbone; the superresolution takes the last code, too."""

    takes_cameras = True

    def __init__(self, config: EG3DConfig):
        super().__init__()
        self.config = config
        self.w_dim = config.w_dim
        self.backbone = StyleGAN2Synthesis(config.planes)
        self.decoder = Decoder(config)
        self.superresolution = superresolution(config)
        self.num_ws = self.backbone.num_ws
        self.register_buffer("projections", _projections(config), persistent=False)

    def restore_constants(self) -> None:
        self.backbone.restore_constants()
        self.superresolution.restore_constants()
        self.projections = _projections(self.config)

    @property
    def layers(self) -> list[SynthesisConv]:
        return self.backbone.layers

    @property
    def layer_names(self) -> list[str]:
        return self.backbone.layer_names

    @property
    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        trained = self.superresolution.trained
        enlarging = {"superresolution": trained} if trained else {}
        return {**self.backbone.groups, "decoder": [self.decoder], **enlarging}

    @property
    def companions(self) -> list[list[nn.Module | nn.Parameter]]:
        return self.backbone.companions

    @property
    def detail(self) -> list[float]:
        return self.backbone.detail

    def forward(
        self, draw: Draw, noise: str = "const", resolution: int | None = None, recompute: bool = False
    ) -> Tensor:
        """Render what the draw's cameras see. Noise inputs and places on rays: "const" always the same, "random" fresh,
        "none" without noise and at even places; the draw's `ray_seeds` come before that. `resolution` is for progressive
        training of other architectures."""
        return self.render(draw, noise, recompute).images

    def render(self, draw: Draw, noise: str = "const", recompute: bool = False) -> Rendering:
        """Render images, and the depth that was found on the way."""
        ws, cameras, config = self.checked_codes(draw, noise), self._cameras(draw), self.config
        planes = self.planes(draw, noise, recompute)
        origins, directions = rays(cameras, config.render_side)
        features, depth, cover = self.render_rays(planes, origins, directions, self.places(draw, noise), recompute)
        features, depth, cover = (
            x.mT.unflatten(2, (config.render_side, config.render_side))
            for x in (features, depth[..., None], cover[..., None])
        )
        raw = features[:, : config.img_channels]
        given = lambda number, conv: self.backbone._noise(draw, noise, 100 + number, conv)  # noqa: E731
        images = self.superresolution(raw, features, ws[:, -1], given, recompute)
        return Rendering(images, raw, depth, cover)

    def planes(self, draw: Draw, noise: str = "const", recompute: bool = False) -> Tensor:
        """Draw the feature planes [B, P, plane_channels, side, side] of codes."""
        flat = self.backbone(Draw(draw.ws, draw.noise_seeds), noise, recompute=recompute)
        return flat.unflatten(1, (len(self.config.plane_axes), self.config.plane_channels))

    def at(self, planes: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return colours [B, N, plane_channels] and raw densities [B, N] of points [B, N, 3] of the world."""
        scaled = points * (2 / self.config.box_warp)
        places = torch.einsum("bnk,pkj->bpnj", scaled, self.projections.to(points.dtype))
        return self.decoder(sample_planes(planes, places))

    def _cameras(self, draw: Draw) -> Tensor:
        count, device = len(draw), draw.ws.device
        if draw.cameras is None:
            return frontal(self.config, count).to(device)
        require_cameras(draw.cameras, count)
        return draw.cameras.to(device, torch.float32).expand(count, -1)

    def places(self, draw: Draw, noise: str) -> tuple[Tensor, Tensor]:
        """Return uniform numbers [B, M, points] in [0, 1) for the points on the rays of both passes."""
        config, count, device = self.config, len(draw), draw.ws.device
        m, seeds = config.render_side**2, draw.ray_seeds
        sizes = ((_COARSE, config.depth_samples), (_FINE, config.importance_samples))
        if device.type == "meta":
            return tuple(torch.empty(count, m, points, device=device) for _, points in sizes)
        if seeds is None and noise == "none":
            coarse = torch.full([1, 1, config.depth_samples], 0.5)
            fine = (torch.arange(config.importance_samples) + 0.5) / max(1, config.importance_samples)
            return tuple(x.expand(count, m, -1).to(device) for x in (coarse, fine.view(1, 1, -1)))
        if seeds is None and noise == "random":
            if draw.noise_seeds is None:
                return tuple(torch.rand(count, m, points, device=device) for _, points in sizes)
            seeds = draw.noise_seeds
        seeds = (0,) if seeds is None else seeds
        drawn = (torch.stack([_uniform(seed + moved, m, points) for seed in seeds]) for moved, points in sizes)
        return tuple(x.expand(count, -1, -1).to(device) for x in drawn)

    def render_rays(
        self,
        planes: Tensor,
        origins: Tensor,
        directions: Tensor,
        places: tuple[Tensor, Tensor],
        recompute: bool = False,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return colours [B, M, C], depth and cover [B, M] of rays [B, M, 3], a part of them at a time."""
        config = self.config
        start, end = self._limits(origins, directions)
        size = max(1, POINTS // (len(planes) * (config.depth_samples + config.importance_samples)))
        parts = [
            maybe_recompute(
                recompute, self._some_rays, planes, *(x[:, rows] for x in (origins, directions, start, end, *places))
            )
            for rows in (slice(first, first + size) for first in range(0, origins.shape[1], size))
        ]
        colours, depth, cover, nearest, farthest = (torch.cat(part, 1) for part in zip(*parts, strict=True))
        # A ray that meets nothing has no mean depth: the farthest point of its picture stands for it.
        limits = nearest.amin(1, keepdim=True), farthest.amax(1, keepdim=True)
        return colours, torch.nan_to_num(depth, torch.inf).clamp(*limits), cover

    def _limits(self, origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        if config.ray_start is None:
            return box_limits(origins, directions, config.box_warp)
        like = origins[..., :1]
        return torch.full_like(like, config.ray_start), torch.full_like(like, config.ray_end)

    def _some_rays(self, planes, origins, directions, start, end, jitter, uniform) -> tuple[Tensor, ...]:
        """Both passes over some rays; with the smallest and largest depth of their points."""
        config = self.config
        depths = coarse_depths(start, end, jitter, config.disparity)
        colours, densities = self._along(planes, origins, directions, depths)
        if config.importance_samples:
            with torch.no_grad():
                weights = march(colours, densities, depths)[2]
            finer = fine_depths(depths, weights, uniform)
            of_finer = self._along(planes, origins, directions, finer)
            depths, order = torch.cat([depths, finer], 2).sort(2)
            densities = torch.cat([densities, of_finer[1]], 2).gather(2, order)
            order = order[..., None].expand(-1, -1, -1, colours.shape[-1])
            colours = torch.cat([colours, of_finer[0]], 2).gather(2, order)
        colour, depth, weights = march(colours, densities, depths, config.white_back)
        return colour, depth, weights.sum(2), depths.amin(2), depths.amax(2)

    def _along(self, planes: Tensor, origins: Tensor, directions: Tensor, depths: Tensor) -> tuple[Tensor, Tensor]:
        """Colours [B, M, S, C] and raw densities [B, M, S] at depths of rays."""
        points = origins[:, :, None] + depths[..., None] * directions[:, :, None]
        colours, densities = self.at(planes, points.flatten(1, 2))
        return colours.unflatten(1, depths.shape[1:]), densities.unflatten(1, depths.shape[1:])


def _projections(config: EG3DConfig) -> Tensor:
    """What takes a point to its place on each plane, [P, 3, 2]."""
    axes = torch.tensor(config.plane_axes, dtype=torch.float64)
    return torch.linalg.inv(axes)[..., :2].float().contiguous()


def _uniform(seed: int, rays_: int, points: int) -> Tensor:
    return torch.rand(rays_, points, generator=torch.Generator().manual_seed(seed % 2**64))
