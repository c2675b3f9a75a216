"""The text-free copy of a denoiser: its cross-attention to a text is gone, and in its place stands one vector, what that
attention put out for the empty prompt (Cao et al., arXiv 2312.08195)."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_CROSS_ATTENTIONS = ("attn2", "cross_attn")
"""What the blocks of denoisers call their attention to a text."""

_SELF_ATTENTIONS = ("attn1", "self_attn", "attn")
"""What the same blocks call their self-attention; others mix picture and text in one attention."""

VECTOR = "vector"
"""What the parameter is called that stands in place of an attention's weights."""


class NotTextFree(ValueError):
    """NotTextFree is raised for a denoiser that cannot be made text-free; the message says why."""


class ConstantAttention(nn.Module):
    """A ConstantAttention stands where a cross-attention was: it puts out one vector [1, 1, C] for every token."""

    def __init__(self, vector: Tensor):
        super().__init__()
        self.vector = nn.Parameter(vector.detach().clone().reshape(1, 1, -1))

    def forward(self, x: Tensor, *_, **__) -> Tensor:
        return self.vector.to(x.dtype).expand(*x.shape[:-1], -1)


@dataclass(frozen=True)
class Removal:
    """A Removal says what is taken out of a denoiser at one place, and what stands there instead."""

    attention: str  # its name in the denoiser
    norm: str | None  # the name of the norm that only this attention reads
    vector: Tensor  # [C], in float32


def require_text_attention(denoiser: nn.Module) -> None:
    """Raise NotTextFree for a denoiser that has no cross-attention apart from the rest, or has become text-free
    already."""
    _cross_attentions(denoiser)


@torch.no_grad()
def measured_removals(denoiser: nn.Module, evaluate: Callable[[], object]) -> list[Removal]:
    """Find what has to go for a denoiser to be text-free, and measure what each cross-attention puts out: the mean over
    batch and tokens of one evaluation, which `evaluate` makes with the empty prompt. Raises NotTextFree."""
    places, found = _cross_attentions(denoiser), {}
    with contextlib.ExitStack() as hooks:
        for name, block in places.items():
            attention, latest = denoiser.get_submodule(name), {}
            for child, module in block.named_children():
                if module is not attention:
                    hooks.callback(module.register_forward_hook(_noting(latest, child)).remove)

            def measure(_, inputs, output, name=name, latest=latest) -> None:
                if not isinstance(output, Tensor):
                    raise NotTextFree(_NO_TEXT_ATTENTION)
                norm = next((child for child, value in latest.items() if inputs and value is inputs[0]), None)
                within = name.rpartition(".")[0]
                vector = output.float().flatten(0, -2).mean(0)
                found[name] = Removal(name, norm and f"{within}.{norm}".lstrip("."), vector)

            hooks.callback(attention.register_forward_hook(measure).remove)
        evaluate()
    if found.keys() != places.keys():
        raise NotTextFree(_NO_TEXT_ATTENTION)
    return [found[name] for name in places]


def make_text_free(denoiser: nn.Module, removals: Sequence[Removal]) -> None:
    """Take out of a denoiser what the removals say, and put their vectors in place of the attentions. Raises
    NotTextFree for a denoiser without these places."""
    places = _cross_attentions(denoiser)
    if places.keys() != {one.attention for one in removals}:
        raise NotTextFree("This domain was learned with a model of another family; load the model that it says.")
    for one in removals:
        like = next(denoiser.get_submodule(one.attention).parameters())
        _put(denoiser, one.attention, ConstantAttention(one.vector.to(like)))
        if one.norm is not None:
            _put(denoiser, one.norm, nn.Identity())


def _cross_attentions(denoiser: nn.Module) -> dict[str, nn.Module]:
    """The blocks of a denoiser with a cross-attention, by the attention's name."""
    found = {}
    for name, block in denoiser.named_modules():
        attribute = next((one for one in _CROSS_ATTENTIONS if isinstance(getattr(block, one, None), nn.Module)), None)
        if attribute is not None and any(isinstance(getattr(block, own, None), nn.Module) for own in _SELF_ATTENTIONS):
            found[f"{name}.{attribute}".lstrip(".")] = block
    if any(isinstance(denoiser.get_submodule(name), ConstantAttention) for name in found):
        raise NotTextFree("This model is text-free already; give the pretrained model that it was made from.")
    if not found:
        raise NotTextFree(_NO_TEXT_ATTENTION)
    return found


_NO_TEXT_ATTENTION = (
    "This model does not read its text by a cross-attention apart from the rest, so it has no text-free copy; give Stable "
    "Diffusion 1.x, 2.x or SDXL."
)


def _noting(latest: dict[str, Tensor], child: str) -> Callable:
    def note(_, __, output) -> None:
        if isinstance(output, Tensor):
            latest[child] = output

    return note


def _put(denoiser: nn.Module, name: str, module: nn.Module) -> None:
    within, _, attribute = name.rpartition(".")
    setattr(denoiser.get_submodule(within), attribute, module)
