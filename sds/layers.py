"""Layer selection: which synthesis convolutions a step may change (sec. 3.4 of arXiv 2212.04473).

Layers are counted by their index in W+: index i drives `generator.synthesis.layers[i]`. Layer 0 is the 4x4 convolution
of StyleGAN2 and the Fourier input of StyleGAN3.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from ..stylegan import parse_codes

TRAINED_BY_DEFAULT = (
    "Trained by default are, of StyleGAN2, the convolutions from 8x8 up (weight, style weight, noise strength), of StyleGAN3 "
    "the convolutions 1 to 14 (weight, style weight), and of EG3D those of the StyleGAN2 that draws its planes; frozen are "
    "the mapping, the first layer (constant and 4x4 convolution, or Fourier input), ToRGB and every bias."
)
"""What `AllLayers` means for each kind of generator, for help texts."""

CODE_LEARNING_RATE = 0.01
"""Step size of the SGD on the W+ code."""


class LayerChoice(Protocol):
    """A LayerChoice chooses layers step by step."""

    needs_code_gradient: ClassVar[bool]  # whether `choose` looks at gradients of the W+ code

    def selectable(self, count: int) -> tuple[int, ...]:
        """Return the layers that may ever be chosen, of a generator with `count` synthesis convolutions. Raises
        ValueError when the choice does not fit that generator."""
        ...

    def choose(
        self, selectable: tuple[int, ...], gradient: Tensor | None, gradient_at: Callable[[Tensor], Tensor]
    ) -> tuple[int, ...]:
        """Choose the layers to update in this step.

        gradient [B, num_ws, w_dim] is the objective's gradient with respect to the W+ code, for each sample on its own
        (None unless asked for); gradient_at(shift) is that of the code moved by shift, with fresh noise."""
        ...

    def describe(self) -> dict:
        """Return what tells the choice from others, in JSON's types."""
        ...


@dataclass(frozen=True)
class AllLayers:
    """AllLayers chooses every synthesis layer but the first one, in every step."""

    needs_code_gradient: ClassVar[bool] = False

    def selectable(self, count: int) -> tuple[int, ...]:
        return tuple(range(1, count))

    def choose(self, selectable, gradient, gradient_at) -> tuple[int, ...]:
        return selectable

    def describe(self) -> dict:
        return {"choice": "all"}


@dataclass(frozen=True)
class ManualLayers:
    """ManualLayers chooses the same convolutions in every step, by their indices in W+ (0 is the 4x4 convolution)."""

    indices: tuple[int, ...]

    needs_code_gradient: ClassVar[bool] = False

    def __post_init__(self):
        object.__setattr__(self, "indices", tuple(sorted(set(self.indices))))
        if not self.indices:
            raise ValueError("The list of layers is empty; name at least one layer index.")

    @classmethod
    def parse(cls, text: str) -> "ManualLayers":
        """Choose from indices and ranges with commas or spaces, as "0-3, 6". Raises ValueError when
        the text is anything else."""
        return cls(parse_codes(text))

    def selectable(self, count: int) -> tuple[int, ...]:
        outside = [index for index in self.indices if not 0 <= index < count]
        if outside:
            raise ValueError(f"There is no layer {outside[0]}: this generator's layers are numbered 0 to {count - 1}.")
        return self.indices

    def choose(self, selectable, gradient, gradient_at) -> tuple[int, ...]:
        return selectable

    def describe(self) -> dict:
        return {"choice": "list", "layers": list(self.indices)}


@dataclass(frozen=True)
class TopKLayers:
    """TopKLayers chooses the k convolutions whose W+ codes the objective would move most.

    The codes take `steps` steps of SGD at the step's timestep, with fresh noise each, and layers are ranked by the mean
    absolute change of their code over entries and batch. The first step uses the gradient of the training step itself,
    so that `steps = 1` costs nothing; every further one costs a rendering and an evaluation of the prior."""

    k: int
    steps: int = 1

    needs_code_gradient: ClassVar[bool] = True

    def __post_init__(self):
        if self.k < 1:
            raise ValueError(f"The number of layers to select is {self.k}; it must be at least 1.")
        if self.steps < 1:
            raise ValueError(f"The number of selection steps is {self.steps}; it must be at least 1.")

    def selectable(self, count: int) -> tuple[int, ...]:
        if self.k > count:
            raise ValueError(f"Cannot select {self.k} layers: this generator has {count} synthesis convolutions.")
        return tuple(range(count))

    def choose(self, selectable, gradient, gradient_at) -> tuple[int, ...]:
        # The displacement is kept by itself: as a difference of codes it would drown in their rounding errors.
        shift = -CODE_LEARNING_RATE * gradient
        for _ in range(self.steps - 1):
            shift = shift - CODE_LEARNING_RATE * gradient_at(shift)
        # The last code feeds only the last ToRGB and is not ranked.
        movement = shift.abs().mean(dim=(0, 2))[: len(selectable)]
        return tuple(sorted(movement.topk(self.k).indices.tolist()))

    def describe(self) -> dict:
        return {"choice": "top k", "k": self.k, "steps": self.steps}
