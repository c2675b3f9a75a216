"""W+ codes in files: what was projected or edited, to be drawn, mixed and walked between later."""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..training.files import replacing, write_tensors
from .checkpoint import CheckpointError, reading

FORMAT = "stylegan-fusion-codes-1"

_OTHERS = (".npy", ".npz")  # of NVlabs' projector ("w"), and of others'


@dataclass(frozen=True)
class Codes:
    """Codes are W+ codes [N, num_ws, w_dim] on the CPU with where they come from."""

    ws: Tensor
    mapping: str = ""  # of `mapping_digest`: to whom they mean the same; "": not known
    description: str = ""  # for people


def save_codes(path: Path, codes: Codes) -> None:
    """Write codes as safetensors, atomically, and the folders of `path`. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    notes = {"format": FORMAT, "mapping": codes.mapping, "description": codes.description}
    with replacing(path) as temporary:
        write_tensors(temporary, {"codes": codes.ws.float().contiguous()}, notes)


def load_codes(path: Path) -> Codes:
    """Read codes that `save_codes` wrote, or an array [num_ws, w_dim] or [N, num_ws, w_dim] in a .npy or .npz. No pickle
    is executed. Raises CheckpointError."""
    with reading(path):
        found = _array(path) if path.suffix.lower() in _OTHERS else _own(path)
    if found.ws.ndim != 3 or len(found.ws) == 0 or not torch.isfinite(found.ws).all():
        raise CheckpointError(
            f"{path} holds no latents: its numbers have the shape {list(found.ws.shape)}, and must be finite and "
            "[latents, layers, width]; choose a file that project or edit wrote."
        )
    return found


def joined(several: Sequence[Codes]) -> Codes:
    """Join codes, one after the other. Raises ValueError when they are of generators of different sizes."""
    first = several[0]
    if any(one.ws.shape[1:] != first.ws.shape[1:] for one in several):
        raise ValueError("These latents are of generators of different sizes; join those of one generator.")
    mappings = {one.mapping for one in several}
    mapping = mappings.pop() if len(mappings) == 1 else ""
    return Codes(torch.cat([one.ws for one in several]), mapping, "; ".join(one.description for one in several))


def _own(path: Path) -> Codes:
    try:
        with path.open("rb"), safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise CheckpointError(f"{path} holds no latents; choose a file that project or edit wrote.")
            ws = file.get_tensor("codes").float()
    except SafetensorError as error:
        raise CheckpointError(f"{path} cannot be read as latents ({error}); choose another file.") from error
    return Codes(ws, metadata.get("mapping", ""), metadata.get("description", ""))


def _array(path: Path) -> Codes:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.ndarray):
            with loaded:
                loaded = loaded["w" if "w" in loaded.files else loaded.files[0]] if loaded.files else np.empty(0)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise CheckpointError(f"{path} cannot be read as latents ({error}); choose another file.") from error
    if loaded.dtype.kind not in "fiu":
        raise CheckpointError(f"{path} holds no numbers; choose a file with latents.")
    ws = torch.from_numpy(loaded.astype(np.float32))
    return Codes(ws[None] if ws.ndim == 2 else ws, description=path.name)
