"""The fake score: a second network that learns what a generator draws, as a second phase of its training."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..training.draws import MicroStep
from ..training.low_rank import added_low_rank
from ..training.memory import tensor_bytes
from ..training.out_of_memory import MemoryPolicy, split_rows
from ..training.phases import Outcome, Phase, accumulate, gradients_of
from ..training.ramps import Ramp
from .recomputing import recomputing
from .score import TrainableScore
from .settings import TrainSettings

NAME = "fake score"
"""The name of its phase and of its loss."""

LATENTS = "latents"
"""What the generator's phase leaves in a micro step for it: latents [B, c, h, w] of the pictures drawn."""

BETAS, LONGEST_GRADIENT = (0.9, 0.999), 1.0


class FakeScore:
    """A FakeScore is a copy of the prior's network that is trained on the latents of each step's pictures, by the plain
    error of its predictions at timesteps of the training's range; whole, or in low `rank`."""

    def __init__(
        self, score: TrainableScore, settings: TrainSettings, memory: MemoryPolicy, rank: int = 0, half: bool = False
    ):
        self.score, self.settings, self.memory, self.half = score, settings, memory, half or score.half
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
        return Phase(NAME, self.trained, optimizer, self.compute, rate, repeats=updates)

    @torch.no_grad()
    def eps(self, z_t: Tensor, t: float) -> Tensor:
        """Return eps_phi [B, c, h, w] of noisy latents at one timestep."""
        with self._precision():
            return self.score.eps(z_t, t)

    def compute(self, micro_steps: Sequence[MicroStep]) -> Outcome:
        """Compute the gradient of its error, timesteps drawn evenly for each row. Where the generator's phase left no
        latents, its step having been skipped, nothing is learned."""
        pieces = [piece for one in micro_steps for piece in self._pieces(one)]
        if not pieces:
            return Outcome({})
        outcome = accumulate((self._outcome(*piece) for piece in pieces), len(pieces))
        if not all(gradient.isfinite().all() for gradient in outcome.gradients.values()):
            return Outcome({}, outcome.losses, skipped=f"the gradient of the {NAME}")
        norm = nn.utils.get_total_norm(outcome.gradients.values())
        factor = (LONGEST_GRADIENT / (norm + 1e-6)).clamp(max=1.0)
        return Outcome({p: gradient * factor for p, gradient in outcome.gradients.items()}, outcome.losses)

    def _pieces(self, micro_step: MicroStep) -> list[tuple[Tensor, Tensor, list[float], float]]:
        """A batch in pieces that fit into memory: latents, noise, timesteps, and how much each piece counts."""
        z = micro_step.shared.get(LATENTS)
        if z is None:
            return []
        low, high = self.settings.t_min, self.settings.t_max
        eps = torch.randn(z.shape, generator=micro_step.rng("fake noise")).to(z)
        t = (low + (high - low) * torch.rand(len(z), generator=micro_step.rng("fake timesteps"))).tolist()
        pieces = split_rows(len(z), self.memory.micro_batch)
        return [(z[rows], eps[rows], t[rows], len(t[rows]) * len(pieces) / len(z)) for rows in pieces]

    def _outcome(self, z: Tensor, eps: Tensor, t: list[float], share: float) -> Outcome:
        with recomputing(self.score.denoiser, self.memory.recompute), self.score.training():
            with self._precision():
                loss = self.score.loss(z, eps, t).mean() * share
            return Outcome(gradients_of(loss, self.trained.values()), {NAME: loss.item()})

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.score.device.type, torch.bfloat16, enabled=self.half)

    def optimizer_bytes(self) -> int:
        """Return what its gradients and Adam's averages take."""
        return 3 * tensor_bytes(self.trained.values())
