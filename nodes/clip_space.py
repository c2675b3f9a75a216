"""Words and pictures in the common space of a CLIP, by the host's text encoders and CLIP vision models: reaches into the
host's objects, and imports none of its modules."""

from collections.abc import Iterator

import torch
from torch import Tensor

from ..metrics.evaluation import agreement

PAIRS = (
    "A text encoder and a CLIP vision model that belong together: clip_l.safetensors from Load CLIP and a ViT-L/14; the "
    "CLIP of an SDXL checkpoint and a ViT-bigG/14 (clip_vision_g); the CLIP of an SD 2 checkpoint and a ViT-H/14; both of "
    "Load Miniature"
)
"""What can be loaded, for messages."""

_COLOURS = {
    "red": (0.78, 0.22, 0.22), "orange": (0.92, 0.58, 0.24), "yellow": (0.93, 0.86, 0.42), "green": (0.32, 0.62, 0.36),
    "blue": (0.28, 0.44, 0.80), "purple": (0.52, 0.34, 0.68), "pink": (0.93, 0.66, 0.76), "grey": (0.56, 0.58, 0.60),
}  # fmt: skip


class NotOneSpace(ValueError):
    """NotOneSpace says that a text encoder and a CLIP vision model do not belong together."""


def image_embeddings(clip_vision, images: Tensor) -> Tensor:
    """Embed images [B, 3, H, W] in [-1, 1] as [B, D], on the CPU; by a model without one embedding for the whole image
    (SigLIP), as the mean over its places."""
    embeddings = clip_vision.encode_image((images.clamp(-1, 1) + 1).div(2).movedim(1, -1))["image_embeds"]
    embeddings = embeddings.float().cpu()
    return embeddings.mean(dim=1) if embeddings.ndim == 3 else embeddings


def width_of(clip_vision) -> int:
    """Count the numbers that the model gives for an image."""
    return image_embeddings(clip_vision, torch.zeros(1, 3, 64, 64)).shape[1]


def text_embedding(clip, text: str, width: int) -> Tensor:
    """Embed a text as [width], through the text projection of that encoder in `clip` which has this width.

    The host's own pooled output of most models is before that projection: it lies in another space. Of a prompt longer
    than 77 tokens the first 77 count. Raises NotOneSpace when there is no such encoder or it came without a
    projection."""
    encoders = dict(_text_encoders(clip))
    fitting = {name: encoder for name, encoder in encoders.items() if _width(encoder) == width}
    if not fitting:
        widths = ", ".join(str(_width(encoder)) for encoder in encoders.values()) or "none of CLIP's kind"
        raise NotOneSpace(
            f"The CLIP vision model gives {width} numbers and the text encoders of clip {widths}. {PAIRS}."
        )
    tokens = clip.tokenize(text)
    clip.load_model()
    for name, encoder in fitting.items():
        if not _trained(encoder.transformer.text_projection.weight):
            continue
        encoder.reset_clip_options()
        encoder.set_clip_options({"projected_pooled": True, "execution_device": clip.patcher.load_device})
        try:
            return encoder.encode_token_weights(tokens[name])[1][0].float().cpu()
        finally:
            encoder.reset_clip_options()
    raise NotOneSpace(
        "The text encoder of clip came without its text projection, as in the checkpoints of Stable Diffusion 1: its "
        f"words and the images are not in one space. {PAIRS}."
    )


def colours_named_alike(clip, clip_vision) -> tuple[int, int]:
    """Count how many of a few plain colours both name alike, and how many there are."""
    side = 64
    plain = torch.tensor(list(_COLOURS.values()))[:, :, None, None].expand(-1, -1, side, side) * 2 - 1
    images = image_embeddings(clip_vision, plain)
    texts = [text_embedding(clip, f"a {name} background", images.shape[1]) for name in _COLOURS]
    return agreement(images, torch.stack(texts)), len(_COLOURS)


def require_one_space(clip, clip_vision) -> None:
    """Raise NotOneSpace where both name plain colours as two would that do not belong together."""
    if told := strangers(clip, clip_vision):
        raise NotOneSpace(told)


def strangers(clip, clip_vision) -> str:
    """Say that both name fewer plain colours alike than two that belong together; "" where they do not."""
    named, colours = colours_named_alike(clip, clip_vision)
    if named >= colours / 2:
        return ""
    return (
        f"clip and clip_vision name only {named} of {colours} plain colours alike, as two that do not belong together. "
        f"{PAIRS}."
    )


def _text_encoders(clip) -> Iterator[tuple[str, torch.nn.Module]]:
    """Find the text encoders of CLIP's kind, by the names of their tokens (l, g, h)."""
    for name, module in clip.cond_stage_model.named_children():
        if hasattr(getattr(module, "transformer", None), "text_projection"):
            yield name.removeprefix("clip_"), module


def _width(encoder) -> int:
    return encoder.transformer.text_projection.out_features


def _trained(weight: Tensor | None) -> bool:
    """Tell whether a projection holds learned numbers: hosts leave one that a file lacks as it was in memory, or at
    zero."""
    if weight is None:
        return False
    weight = weight.detach().float()
    return bool(weight.isfinite().all() and (weight != 0).float().mean() > 0.5 and weight.abs().max() < 1000)
