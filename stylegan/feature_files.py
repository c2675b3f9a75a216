"""Reading VGG16, the network of the LPIPS metric, from a file of the user."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..metrics.vgg import BLOCKS, VGG16, vgg_layers
from .checkpoint import CheckpointError, reading
from .formats.state_dicts import read_tensors

WHERE_FROM = (
    "VGG16 is torchvision's vgg16-397923af.pth (https://download.pytorch.org/models/vgg16-397923af.pth), or a safetensors "
    "file with the same names; for the calibrated metric put vgg.pth of the lpips project beside it "
    "(https://github.com/richzhang/PerceptualSimilarity, folder lpips/weights/v0.1)"
)
"""Where the files come from, for messages and tooltips."""

LINEAR_FILES = ("vgg.pth", "vgg.safetensors")
"""Names under which the metric's linear layers are looked for beside VGG16."""


def _shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        return {f"features.{name}": list(value.shape) for name, value in vgg_layers().state_dict().items()}


_CONVOLUTIONS = _shapes()
_LINEAR = {f"lin{i}.model.1.weight": [1, channels[-1], 1, 1] for i, channels in enumerate(BLOCKS)}


@torch.inference_mode(False)  # a host may load within inference mode, whose tensors could never be differentiated
def load_vgg(path: str | Path) -> VGG16:
    """Load VGG16 in float32 on the CPU from a safetensors or torch file with torchvision's names (features.0.weight and
    so on; others are ignored). No pickle is executed.

    The metric's linear layers (lin0.model.1.weight and so on) come from the same file, or from `linear_file`; without
    them the metric is not calibrated. Raises CheckpointError."""
    path = Path(path)
    with reading(path):
        found = read_tensors(path, _CONVOLUTIONS | _LINEAR)
    weights = {name: found.pop(name) for name in _CONVOLUTIONS if name in found}
    if not weights:
        what = "only the linear layers of LPIPS" if found else "no VGG16"
        raise CheckpointError(f"{path} holds {what}; choose a file with VGG16. {WHERE_FROM}.")
    _require_all(path, weights, _CONVOLUTIONS)
    if not found and (beside := linear_file(path)):
        with reading(beside):
            found = read_tensors(beside, _LINEAR)
        path = beside
    if found:
        _require_all(path, found, _LINEAR)
    return VGG16(weights, [found[name].flatten() for name in _LINEAR] if found else None)


def linear_file(path: Path) -> Path | None:
    """Find the file beside that of VGG16 in which the metric's linear layers are looked for; None without one."""
    candidates = (path.with_name(name) for name in LINEAR_FILES)
    return next((other for other in candidates if other != path and other.is_file()), None)


def _require_all(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]]) -> None:
    for name in wanted:
        if name not in found:
            raise CheckpointError(f"{path} lacks the weight {name!r}; download it again. {WHERE_FROM}.")
