"""VGG16, the network of the LPIPS metric, with weights from a file of the user."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from ..stylegan import CheckpointError
from ..stylegan.checkpoint import reading
from ..stylegan.formats.state_dicts import read_tensors

WHERE_FROM = (
    "VGG16 is torchvision's vgg16-397923af.pth (https://download.pytorch.org/models/vgg16-397923af.pth), or a safetensors "
    "file with the same names; for the calibrated metric put vgg.pth of the lpips project beside it "
    "(https://github.com/richzhang/PerceptualSimilarity, folder lpips/weights/v0.1)"
)
"""Where the files come from, for messages and tooltips."""

LINEAR_FILES = ("vgg.pth", "vgg.safetensors")
"""Names under which the metric's linear layers are looked for beside VGG16."""

_BLOCKS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512, 512, 512, 512))
"""Channels before, between and after the convolutions of each block."""

# Mean and standard deviation of ImageNet's colours in [0, 1], which the network was trained with.
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class VGG16(nn.Module):
    """Images [B, 3, H, W] in [-1, 1], of 16 pixels at least, to the layers relu1_2, relu2_2, relu3_3, relu4_3, relu5_3.

    weights are those of the convolutions, under torchvision's names; calibration those of the metric's linear layers
    [C] in the same order. Gradients pass through to the images."""

    image_size = 256

    def __init__(self, weights: Mapping[str, Tensor], calibration: Sequence[Tensor] | None = None):
        super().__init__()
        with torch.device("meta"):
            self.features = _layers()
        self.load_state_dict(weights, assign=True)
        self.calibration = calibration
        mean, deviation = torch.tensor(_MEAN), torch.tensor(_DEVIATION)
        self.register_buffer("mean", (2 * mean - 1).view(3, 1, 1), persistent=False)
        self.register_buffer("deviation", (2 * deviation).view(3, 1, 1), persistent=False)
        self.requires_grad_(False)

    @property
    def name(self) -> str:
        return "VGG16 without calibration" if self.calibration is None else "VGG16 with calibration"

    def forward(self, images: Tensor) -> list[Tensor]:
        x, outputs = (images - self.mean) / self.deviation, []
        for layer in self.features:
            if isinstance(layer, nn.MaxPool2d):  # what goes into one is the end of a block
                outputs.append(x)
            x = layer(x)
        return [*outputs, x]


def _layers() -> nn.Sequential:
    layers = []
    for number, channels in enumerate(_BLOCKS):
        layers += [nn.MaxPool2d(2)] if number else []
        for before, after in pairwise(channels):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _shapes() -> dict[str, list[int]]:
    with torch.device("meta"):
        return {f"features.{name}": list(value.shape) for name, value in _layers().state_dict().items()}


_CONVOLUTIONS = _shapes()
_LINEAR = {f"lin{i}.model.1.weight": [1, channels[-1], 1, 1] for i, channels in enumerate(_BLOCKS)}


@torch.inference_mode(False)  # a host may load within inference mode, whose tensors could never be differentiated
def load_vgg(path: str | Path) -> VGG16:
    """VGG16 in float32 on the CPU from a safetensors or torch file with torchvision's names (features.0.weight and so
    on; others are ignored). No pickle is executed.

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
    """The file beside that of VGG16 in which the metric's linear layers are looked for."""
    candidates = (path.with_name(name) for name in LINEAR_FILES)
    return next((other for other in candidates if other != path and other.is_file()), None)


def _require_all(path: Path, found: Mapping[str, Tensor], wanted: Mapping[str, Sequence[int]]) -> None:
    for name in wanted:
        if name not in found:
            raise CheckpointError(f"{path} lacks the weight {name!r}; download it again. {WHERE_FROM}.")
