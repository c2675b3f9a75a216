"""The fake score: a second network that learns what a generator draws, as a second phase of its training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..training.draws import MicroStep
from ..training.low_rank import added_low_rank
from ..training.memory import tensor_bytes
from ..training.out_of_memory import MemoryPolicy
from ..training.phases import Outcome, Phase
from ..training.ramps import Ramp
from .denoising import LONGEST_GRADIENT, Denoising
from .score import TrainableScore
from .settings import TrainSettings

NAME = "fake score"
"""The name of its phase and of its loss."""

LATENTS = "latents"
"""What the generator's phase leaves in a micro step for it: latents [B, c, h, w] of the pictures drawn."""

BETAS = (0.9, 0.999)


class FakeScore:
    """A FakeScore is a copy of the prior's network that is trained on the latents of each step's pictures, by the plain
    error of its predictions at timesteps of the training's range; whole, or in low `rank`."""

    def __init__(
        self, score: TrainableScore, settings: TrainSettings, memory: MemoryPolicy, rank: int = 0, half: bool = False
    ):
        self.score, self.settings, self.memory_policy, self.half = score, settings, memory, half or score.half
        score.denoiser.requires_grad_(False)
        if rank:
            changes = added_low_rank(score.denoiser, rank, settings.seed)
            named = {
                f"{name}.{part}": getattr(change, part).weight
                for name, change in changes.items()
                for part in ("down", "up")
            }
        else:
            named = dict(score.denoiser.named_parameters())
        self.trained = nn.ParameterDict({name.replace(".", "/"): one for name, one in named.items()})
        self.trained.requires_grad_(True)

    def phase(self, rate: Ramp, updates: int = 1) -> Phase:
        """Make the phase that trains it, `updates` times in each step."""
        # One tensor after the other: all at once would take as much memory again.
        optimizer = torch.optim.Adam(self.trained.parameters(), betas=BETAS, foreach=False)
        return Phase(
            NAME, self.trained, optimizer, self.compute, rate, repeats=updates, longest_gradient=LONGEST_GRADIENT
        )

    @torch.no_grad()
    def eps(self, z_t: Tensor, t: float) -> Tensor:
        """Return eps_phi [B, c, h, w] of noisy latents at one timestep."""
        with torch.autocast(self.score.device.type, torch.bfloat16, enabled=self.half):
            return self.score.eps(z_t, t)

    def compute(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Compute the gradient of its error, timesteps drawn evenly for each row. Where the generator's phase left no
        latents, its step having been skipped, nothing is learned."""
        denoising = Denoising(self.score, self.trained, self.memory_policy, self.half, NAME)
        return denoising.outcome(self._batch(one) for one in micro_steps if LATENTS in one.shared)

    def _batch(self, micro_step: MicroStep) -> tuple[Tensor, Tensor, list[float]]:
        """Latents, noise and timesteps of a batch."""
        z = micro_step.shared[LATENTS]
        low, high = self.settings.t_min, self.settings.t_max
        eps = torch.randn(z.shape, generator=micro_step.rng("fake noise"))
        return z, eps, (low + (high - low) * torch.rand(len(z), generator=micro_step.rng("fake timesteps"))).tolist()

    def memory(self, images: Tensor) -> tuple[int, int]:
        """Count the bytes of Adam's averages, which it keeps, and those of a step with images [B, 3, H, W]: gradients and
        activations."""
        trained = tensor_bytes(self.trained.values())
        return 2 * trained, trained + self.score.activation_bytes(images, self.memory_policy.recompute)
