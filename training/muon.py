"""Muon: momentum whose steps are orthogonal matrices (Jordan et al. 2024, kellerjordan.github.io/posts/muon)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from .precision import has_bfloat16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic a x + b x^3 + c x^5 that takes singular values in (0, 1] near 1, in five steps."""


def orthogonalized(matrix: Tensor, steps: int = 5) -> Tensor:
    """Return about the orthogonal matrix U V^T nearest to a matrix U S V^T [M, N], in float32: singular values between
    0.7 and 1.2 by Newton-Schulz steps. A matrix of zeros stays one."""
    a, b, c = COEFFICIENTS
    wide = matrix.shape[0] <= matrix.shape[1]
    x = matrix if wide else matrix.T
    # Its rounding moves singular values by less than the quintic does; processors without it would be ten times slower.
    x = (x / x.norm().clamp(min=1e-30)).to(torch.bfloat16 if has_bfloat16(x.device) else torch.float32)
    for _ in range(steps):
        squared = x @ x.T
        x = a * x + (b * squared + c * squared @ squared) @ x
    return (x if wide else x.T).float()


class Muon(torch.optim.Optimizer):
    """A Muon moves matrices and convolutions along their orthogonalized Nesterov momentum, as [outputs, the rest], and
    everything else, vectors and noise strengths, by Adam.

    A step has a root mean square of about `lr` in each entry, as Adam's has, whatever the shape. Parameter groups may
    turn it off for matrices whose rows have nothing to do with each other, such as embeddings: "adam": True."""

    def __init__(
        self,
        parameters: Iterable,
        lr: float = 0.02,
        momentum: float = 0.9,
        betas: tuple[float, float] = (0.0, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,  # of what Muon moves
    ):
        super().__init__(
            parameters,
            {"lr": lr, "momentum": momentum, "betas": betas, "eps": eps, "weight_decay": weight_decay, "adam": False},
        )

    @staticmethod
    def is_matrix(parameter: nn.Parameter) -> bool:
        """Tell whether a parameter has rows and columns that mix what comes in."""
        return parameter.ndim in (2, 4)

    def slots(self, parameter: nn.Parameter) -> frozenset[str]:
        """Return the names of what is remembered of a parameter that was moved."""
        (group,) = (group for group in self.param_groups if any(parameter is other for other in group["params"]))
        by_adam = group["adam"] or not self.is_matrix(parameter)
        return frozenset({"step", "exp_avg", "exp_avg_sq"} if by_adam else {"momentum_buffer"})

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient; what is remembered of the others does not age."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if self.is_matrix(parameter) and not group["adam"]:
                    self._step_matrix(parameter, group)
                else:
                    self._step_adam(parameter, group)

    def _step_matrix(self, parameter: nn.Parameter, group: dict) -> None:
        gradient, state, momentum = parameter.grad, self.state[parameter], group["momentum"]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        average = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        ahead = gradient.lerp(average, momentum).flatten(1)
        update = orthogonalized(ahead) * max(ahead.shape) ** 0.5
        if group["weight_decay"]:
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update.view_as(parameter), alpha=-group["lr"])

    def _step_adam(self, parameter: nn.Parameter, group: dict) -> None:
        gradient, state, (beta1, beta2) = parameter.grad, self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        mean = state["exp_avg"].lerp_(gradient, 1 - beta1)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - beta2)
        steps = state["step"].item()
        root = (square / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        parameter.addcdiv_(mean, root, value=-group["lr"] / (1 - beta1**steps))
