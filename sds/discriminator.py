"""The discriminator: a second network that tells a generator's pictures from their targets, as a second phase of its
training."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..training.draws import MicroStep
from ..training.memory import LiveBytes, tensor_bytes
from ..training.out_of_memory import MemoryPolicy, split_rows
from ..training.phases import Outcome, Phase, accumulate, gradients_of
from .detail import fine_part
from .settings import TrainSettings

NAME = "discriminator"
"""The name of its phase and of its loss."""

PAIRS = ("images", "targets")
"""What the generator's phase leaves in a micro step for it: both [B, 3, H, W] in [-1, 1]."""

LEARNING_RATE = 0.002
"""At the beginning; it falls as the generator's does."""

HEAD_START = 0.1
"""Share of the training in which it learns before the generator listens to it."""

PENALTY, PENALIZED_EVERY = 1.6e-6, 8
"""Weight of the gradients' squares, and steps between two computations of them, which then count as often."""


class PatchNetwork(nn.Module):
    """A PatchNetwork judges patches of pictures of about `side` pixels, from small ones to a few that cover much of the
    picture."""

    def __init__(self, side: int, width: int = 32):
        super().__init__()
        stages = min(6, max(2, round(math.log2(side)) - 3))
        widths = [width * min(2**stage, 4) for stage in range(stages)]
        self.first = nn.Conv2d(4 * 6, widths[0], 3, padding=1)
        self.halving = nn.ModuleList(nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths))
        self.last = nn.Conv2d(widths[-1], widths[-1], 3, padding=1)
        self.judges = nn.ModuleList(nn.Conv2d(channels, 1, 1) for channels in (*widths[1:], widths[-1]))

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return what it thinks of images [B, 3, H, W], one [B, 1, h, w] for each size of patches: higher where they look
        like targets."""
        height, width = images.shape[-2:]
        images = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        x = F.pixel_unshuffle(torch.cat([images, 4 * fine_part(images)], 1), 2)
        x, found = F.leaky_relu(self.first(x), 0.2), []
        for layer, judge in zip([*self.halving, self.last], self.judges, strict=True):
            x = F.leaky_relu(layer(x), 0.2)
            found.append(judge(x))
        return found


class Discriminator:
    """A Discriminator learns to tell pictures from targets, each picture beside its own target (relativistic pairing,
    Jolicoeur-Martineau, arXiv 1807.00734), with penalties on its gradients at both (Huang et al., arXiv 2501.05441)."""

    def __init__(self, settings: TrainSettings, memory: MemoryPolicy, side: int, device: torch.device):
        self.settings, self.memory_policy = settings, memory
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(settings.seed % 2**63)
            self.network = PatchNetwork(side)
        self.network.to(device)

    def phase(self) -> Phase:
        """Make the phase that trains it."""
        optimizer = torch.optim.Adam(self.network.parameters(), betas=(0.0, 0.99), foreach=False)
        rate, highest = self.settings.rate, self.settings.learning_rate
        return Phase(NAME, self.network, optimizer, self.compute, lambda step: LEARNING_RATE * rate(step) / highest)

    def compute(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Compute the gradient of its loss. Where the generator's phase left no pictures, its step having been skipped,
        nothing is learned."""
        pieces = []
        for micro_step in micro_steps:
            if PAIRS[0] in micro_step.shared:
                images, targets = (micro_step.shared[name] for name in PAIRS)
                rows = split_rows(len(images), self.memory_policy.micro_batch)
                pieces += [(images[some], targets[some], len(images[some]) * len(rows) / len(images)) for some in rows]
        if not pieces:
            return Outcome({})
        penalized = micro_steps[0].step % PENALIZED_EVERY == 0
        found = accumulate((self._outcome(*piece, penalized) for piece in pieces), len(pieces))
        if not all(gradient.isfinite().all() for gradient in found.gradients.values()):
            return Outcome({}, found.losses, skipped=f"the gradient of the {NAME}")
        return found

    def _outcome(self, images: Tensor, targets: Tensor, share: float, penalized: bool) -> Outcome:
        both = torch.cat([images, targets]).requires_grad_(penalized)
        judged = self.network(both)
        loss = lag([one[len(images) :] for one in judged], [one[: len(images)] for one in judged]).mean() * share
        total = loss
        if penalized:
            (slopes,) = torch.autograd.grad(
                sum(one.flatten(1).mean(1).sum() for one in judged), both, create_graph=True
            )
            # Of both sides together; times the number of colours, so that its weight suits every size.
            squares = 2 * slopes.square().flatten(1).sum(1).mean() * slopes[0].numel()
            total = loss + PENALTY * PENALIZED_EVERY * share * squares
        return Outcome(gradients_of(total, self.network.parameters()), {NAME: loss.item()})

    def pull(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return the gradient [B, 3, H, W] that makes pictures harder to tell from targets, both [B, 3, H, W], as long for
        each picture as that of a mean absolute difference."""
        seen = images.detach().requires_grad_()
        with torch.no_grad():
            theirs = self.network(targets)
        (gradient,) = torch.autograd.grad(lag(self.network(seen), theirs).sum(), seen)
        lengths = gradient.flatten(1).norm(dim=1).clamp_min(torch.finfo(gradient.dtype).tiny)
        return gradient / (lengths * math.sqrt(gradient[0].numel()))[:, None, None, None]

    def memory(self, images: Tensor) -> tuple[int, int]:
        """Count the bytes that it takes on the device for images [B, 3, H, W] on the meta device: weights, Adam's averages
        and pairs of pictures, which it keeps, and the activations of a step."""
        network = PatchNetwork(max(images.shape[-2:])).to("meta")
        both = torch.empty(2 * len(images), *images.shape[1:], device="meta", requires_grad=True)
        with torch.enable_grad(), LiveBytes() as live:
            (slopes,) = torch.autograd.grad(sum(one.sum() for one in network(both)), both, create_graph=True)
            torch.autograd.grad(slopes.square().sum(), [*network.parameters()], allow_unused=True)
        return 3 * tensor_bytes(self.network.parameters()) + tensor_bytes([both]), live.peak


def lag(behind: Sequence[Tensor], ahead: Sequence[Tensor]) -> Tensor:
    """Return softplus(ahead - behind) [B], the mean over patches and their sizes: how far one side is judged below the
    other."""
    found = [F.softplus(b - a).flatten(1).mean(1) for a, b in zip(behind, ahead, strict=True)]
    return torch.stack(found).mean(0)
