"""What the study compares the loop with and no setting offers: other ways of adding up terms, and of ranking layers."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from comfyui_stylegan_fusion.sds import TopKLayers
from comfyui_stylegan_fusion.sds.objective import Objective


class RankedByDistillation(TopKLayers):
    """RankedByDistillation chooses the k layers that the distillation alone would move most, whatever the regularizers
    say."""

    def choose(self, selectable, gradient, gradient_at) -> tuple[int, ...]:
        with _put_in_place("gradients", _of_distillation):
            return super().choose(selectable, gradient_at(torch.zeros_like(gradient)), gradient_at)


def clamping(what: str):
    """Let each term's gradient be clamped, as ever, or their "sum" in its place while the context lasts."""
    return _put_in_place("latent_gradient", _of_sum) if what == "sum" else contextlib.nullcontext()


def _of_distillation(usual: Callable) -> Callable:
    def gradients(self, *given, **named):
        return usual(replace(self, terms=[term for term in self.terms if term.role == "distillation"]), *given, **named)

    return gradients


def _of_sum(usual: Callable) -> Callable:
    def latent_gradient(self, view):
        g, losses = usual(replace(self, gradient_clamp=None), view)
        return self._clamp(g), losses

    return latent_gradient


@contextlib.contextmanager
def _put_in_place(name: str, other: Callable[[Callable], Callable]) -> Iterator[None]:
    usual = getattr(Objective, name)
    setattr(Objective, name, other(usual))
    try:
        yield
    finally:
        setattr(Objective, name, usual)
