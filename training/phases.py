"""What is trained: phases, what each computes in a step, and averages of weights."""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .draws import MicroStep
from .ramps import Ramp

Note = float | tuple[int, ...]
"""A Note is something that a step records beside its losses: a number, or the indices of what was chosen."""


@dataclass(frozen=True)
class Outcome:
    """An Outcome is what a phase computed in a step: a gradient for each parameter that shall move, the others stay as
    they are, and so does what their optimizer remembers of them."""

    gradients: Mapping[nn.Parameter, Tensor]
    losses: Mapping[str, float] = field(default_factory=dict)
    notes: Mapping[str, Note] = field(default_factory=dict)
    skipped: str | None = None  # what was not finite: nothing is updated then


@dataclass(frozen=True)
class Average:
    """An Average follows a module's weights: average = decay * average + (1 - decay) * weights after each update."""

    module: nn.Module
    decay: Ramp

    @classmethod
    def of(cls, module: nn.Module, decay: Ramp) -> "Average":
        """Make the average of a module, which begins as its copy."""
        return cls(copy.deepcopy(module).requires_grad_(False), decay)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Follow the weights after a step, counted from 0; buffers are copied."""
        decay = self.decay(step)
        for a, b in zip(self.module.parameters(), module.parameters(), strict=True):
            a.lerp_(b, 1 - decay)
        for a, b in zip(self.module.buffers(), module.buffers(), strict=True):
            a.copy_(b)


@dataclass
class Phase:
    """A Phase is one thing that is trained: a network with its optimizer, and what computes its gradients.

    In a step the phases take turns in the order of the list; each is updated `repeats` times."""

    name: str  # in saved trainings
    module: nn.Module
    optimizer: torch.optim.Optimizer
    compute: Callable[[Sequence[MicroStep]], Outcome]  # the mean over these micro steps
    rate: Ramp  # the learning rate; times "scale" in parameter groups that have one
    repeats: int = 1
    average: Average | None = None
    longest_gradient: float | None = None  # the norm of all gradients together above which they are made shorter
    buffers: bool = False  # whether training changes the module's buffers, so that they are saved, too

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Return every parameter that may change, in the optimizer's order."""
        return [parameter for group in self.optimizer.param_groups for parameter in group["params"]]

    def reserve(self, outcome: Outcome) -> None:
        """Let memory run out before an update changes the first weight, if it will: take what Adam is going
        to need, and give it back."""
        if parameters := list(outcome.gradients):
            averages = [torch.empty_like(p) for p in parameters if p not in self.optimizer.state for _ in range(2)]
            passing = [torch.empty_like(max(parameters, key=torch.numel)) for _ in range(2)]
            del averages, passing

    def update(self, outcome: Outcome, step: int) -> None:
        """Let the optimizer use an outcome's gradients, at the learning rate of a step counted from 0."""
        gradients = outcome.gradients
        if self.longest_gradient is not None and gradients:
            gradients = shortened(gradients, self.longest_gradient)
        for parameter in self.parameters:  # None, not zero: a zero would still age what Adam remembers
            parameter.grad = gradients.get(parameter)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate(step) * group.get("scale", 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.module, step)


def gradients_of(
    loss: Tensor, parameters: Iterable[nn.Parameter], max_norm: float | None = None
) -> dict[nn.Parameter, Tensor]:
    """Return the gradients of a loss for those parameters that record any and take part in it, made shorter where they
    are longer than `max_norm` together."""
    recording = [parameter for parameter in parameters if parameter.requires_grad]
    found = torch.autograd.grad(loss, recording, allow_unused=True)
    gradients = {parameter: g for parameter, g in zip(recording, found, strict=True) if g is not None}
    return gradients if max_norm is None else shortened(gradients, max_norm)


def shortened(gradients: Mapping[nn.Parameter, Tensor], max_norm: float) -> dict[nn.Parameter, Tensor]:
    """Return gradients, made shorter where they are longer than `max_norm` together."""
    factor = (max_norm / (nn.utils.get_total_norm(gradients.values()) + 1e-6)).clamp(max=1.0)
    return {parameter: gradient * factor for parameter, gradient in gradients.items()}


def accumulate(outcomes: Iterable[Outcome], count: int) -> Outcome:
    """Return the mean of the gradients and losses of a step's `count` batches, which all have the same parameters. They
    are added up as they come, in the memory of two."""
    gradients: dict[nn.Parameter, Tensor] = {}
    losses: dict[str, float] = {}
    for outcome in outcomes:
        for name, loss in outcome.losses.items():
            losses[name] = losses.get(name, 0.0) + loss / count
        for parameter, gradient in outcome.gradients.items():
            # Not in place: autograd may have given two parameters one tensor.
            gradients[parameter] = gradients[parameter] + gradient if parameter in gradients else gradient
        del outcome  # its gradients, while the next one is computed
    if count > 1:
        gradients = {parameter: gradient / count for parameter, gradient in gradients.items()}
    return Outcome(gradients, losses)
