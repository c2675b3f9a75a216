"""Weights of diffusion models from safetensors files: every one is accounted for, or the file is refused.

Libraries fill in what a file lacks with random numbers, and leave out what they do not know; a training would go on
with that for hours.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

PICKLES = (b"PK", b"\x80")
"""How files of torch.save and pickle begin."""


class WeightFiles(Mapping[str, Tensor]):
    """WeightFiles are the tensors of one or several safetensors files by their names, read when they are asked for."""

    def __init__(self, *paths: Path):
        """Raises ValueError with a sentence for files that cannot be read, FileNotFoundError where there is none."""
        self.path = paths[0]
        self.metadata: dict[str, str] = {}
        self._files: dict[str, Any] = {}
        for path in paths:
            file = _opened(path)
            self.metadata |= file.metadata() or {}
            self._files |= dict.fromkeys(file.keys(), file)

    def __getitem__(self, name: str) -> Tensor:
        return self._files[name].get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _opened(path: Path):
    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}; check the name and the folder.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a safetensors file.")
    try:
        with path.open("rb") as file:
            start = file.read(9)
        if not start:
            raise ValueError(f"{path} is empty; copy or download it again.")
        if start[8:9] != b"{" and start.startswith(PICKLES):
            raise ValueError(
                f"{path} is a pickle, which could hold a program; give the model as safetensors. ComfyUI's node "
                "Save Checkpoint writes that."
            )
        if start[8:9] != b"{":
            raise ValueError(f"{path} is no safetensors file; choose another one, or download it again.")
        return safe_open(path, framework="pt")
    except SafetensorError:
        raise ValueError(f"{path} is damaged or incomplete; copy or download it again.") from None


def fill(
    module: nn.Module,
    weights: Mapping[str, Tensor],
    part: str,
    place: Path,
    dtype: torch.dtype,
    left_out: Callable[[str], bool] = lambda name: False,
) -> None:
    """Give a module all of its weights, in a precision. `weights` have the module's names, or are `left_out` by them.

    Raises ValueError with a sentence that names the `part`, the file or folder, and a weight, where one is missing,
    unknown, of another size or not finite."""
    wanted = module.state_dict()
    here = {name for name in weights if not left_out(name)}
    if missing := _some(name for name in wanted if name not in here):
        raise ValueError(
            f"The {part} in {place} is incomplete: {missing} of its weights are missing. Get a complete copy."
        )
    if unknown := _some(name for name in here if name not in wanted):
        raise ValueError(
            f"The {part} in {place} holds weights that its kind does not have: {unknown}. Give a plain Stable "
            "Diffusion 1.x, 2.x or SDXL model."
        )
    found = {}
    for name, meant in wanted.items():
        value = weights[name]
        # Linear layers are stored as 1x1 convolutions by some, and the other way round.
        if value.shape != meant.shape and _without_ones(value) == _without_ones(meant):
            value = value.reshape(meant.shape)
        if value.shape != meant.shape:
            raise ValueError(
                f"The {part} in {place} does not fit its description: {name} is of size {_size(value)}, not "
                f"{_size(meant)}. Get a copy whose files belong together."
            )
        require_finite(value, f"The {part} in {place}", name)
        found[name] = value.to(dtype) if meant.is_floating_point() else value
    module.load_state_dict(found, assign=True)


def require_finite(value: Tensor, whose: str, name: str) -> None:
    """Raise ValueError with a sentence when a weight holds infinite numbers or none at all."""
    if value.is_complex() or value.element_size() == 1:  # those have no smallest and largest
        value = torch.view_as_real(value) if value.is_complex() else value.float()
    if value.is_floating_point() and value.numel() and not all(bound.isfinite() for bound in value.aminmax()):
        raise ValueError(f"{whose} is damaged: {name} holds numbers that are not finite. Download it again.")


def _some(names: Iterable[str]) -> str:
    """Name the first of several names and say how many others there are; "" for none."""
    names = sorted(names)
    others = f" and {len(names) - 1} others" if len(names) > 1 else ""
    return f"{names[0]}{others}" if names else ""


def _without_ones(value: Tensor) -> list[int]:
    return [side for side in value.shape if side != 1]


def _size(value: Tensor) -> str:
    return " x ".join(map(str, value.shape)) or "1"
