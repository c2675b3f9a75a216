"""Targets in a folder: codes in a file, and a picture for each, which any program may edit."""

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...stylegan import Generator, mapping_digest, require_cameras
from ...training.files import remove_leftovers, replacing, write_atomically, write_tensors
from .pool import Targets

FORMAT = "stylegan-fusion-targets-1"
TARGETS_FILE = "targets.safetensors"
PICTURE_NAMES = "00000.png, 00001.png, ..."
_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
_LARGEST = 16384  # pixels of a side, beyond which a picture is not read


class TargetsError(Exception):
    """TargetsError is raised for a folder of targets that cannot be used; the message says what to do."""


@dataclass
class TargetsFolder:
    """A TargetsFolder is where targets are written as they are made, and read from. While they are being made, a missing
    picture is one that is still to come; afterwards, one that somebody has thrown out."""

    path: Path
    identity: str = ""  # what tells how they are made from other ways
    model: str = ""  # digest of the diffusion model that makes them; "": not known
    _codes: Tensor | None = field(default=None, repr=False)
    _cameras: Tensor | None = field(default=None, repr=False)
    _metadata: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def codes_file(self) -> Path:
        return self.path / TARGETS_FILE

    def begin(
        self, codes: Tensor, generator: Generator, size: tuple[int, int], cameras: Tensor | None = None
    ) -> dict[int, Tensor]:
        """Write the codes, and return the pictures [3, H, W] that are there already, by index. Raises TargetsError when
        the folder holds others, OSError."""
        described = json.dumps({"identity": self.identity, "size": list(size), "count": len(codes)})
        self._codes, self._cameras = codes, cameras
        self._metadata = {"format": FORMAT, "made": described, "mapping": mapping_digest(generator), "finished": ""}
        self._metadata |= {"model": self.model} if self.model else {}
        if self.codes_file.exists():
            theirs, cameras_there, metadata = self._read_codes()
            same = metadata.get("made") == described and _equal(theirs, codes) and _equal(cameras_there, cameras)
            if not same:
                raise TargetsError(
                    f"{self.path} holds other targets; give another folder, or the settings that those were made with."
                )
            if not metadata.get("finished") and self.model and metadata.get("model", self.model) != self.model:
                raise TargetsError(
                    f"{self.path} holds targets made with another diffusion model than the one that is there now under "
                    "its name; put that back to go on with them, or give another folder."
                )
            remove_leftovers(self.codes_file)
            self._metadata["finished"] = metadata.get("finished", "")
            known = self._pictures(len(codes))
            return {index: _sized(picture, size) for index, picture in known.items()}
        self.path.mkdir(parents=True, exist_ok=True)
        self._write()
        return {}

    @property
    def finished(self) -> bool:
        """Tell whether all were made, as `begin` found: what is missing then was thrown out."""
        return bool(self._metadata.get("finished"))

    def write(self, rows: Sequence[int], images: Tensor) -> None:
        """Write pictures [B, 3, H, W] of bytes. Raises OSError."""
        for row, picture in zip(rows, images, strict=True):
            buffer = io.BytesIO()
            Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "PNG")
            write_atomically(self.path / f"{row:05}.png", buffer.getvalue())

    def finish(self) -> None:
        """Note that all of them are there. Raises OSError."""
        self._metadata["finished"] = "yes"
        self._write()

    def read(self, generator: Generator | None = None) -> Targets:
        """Read the codes whose pictures are there, edited or not. Raises TargetsError where there are none, or they are
        of a generator with another mapping."""
        codes, cameras, metadata = self._read_codes()
        if generator is not None:
            fits = tuple(codes.shape[1:]) == (generator.num_ws, generator.w_dim)
            if not fits or metadata.get("mapping") not in (None, mapping_digest(generator)):
                raise TargetsError(
                    f"The targets in {self.path} were made with another generator; make them anew with this one."
                )
        pictures = self._pictures(len(codes))
        if len(pictures) < 2:
            raise TargetsError(f"{self.path} holds {len(pictures)} pictures ({PICTURE_NAMES}); at least 2 are needed.")
        (size, _), *_ = Counter(tuple(picture.shape[-2:]) for picture in pictures.values()).most_common(1)
        images = torch.stack([_sized(picture, size) for picture in pictures.values()])
        chosen = list(pictures)
        if generator is not None and generator.config.takes_cameras != (cameras is not None):
            raise TargetsError(
                f"The targets in {self.path} were made with a generator of another kind; make them anew with this one."
            )
        return Targets(codes[chosen], images, cameras=None if cameras is None else cameras[chosen])

    def edits(self) -> list[str]:
        """Describe the pictures that were changed or removed since all of them were made, differently for each other
        state. Nothing is raised for what cannot be read."""
        try:
            made = self.codes_file.stat().st_mtime_ns
            pictures = {path.name: path.stat() for path in self.path.iterdir() if path.suffix.lower() in _ENDINGS}
            with safe_open(self.codes_file, framework="pt") as file:
                metadata = file.metadata() or {}
            if not metadata.get("finished"):
                return []
            count = json.loads(metadata["made"])["count"]
        except (OSError, SafetensorError, LookupError, ValueError, TypeError):
            return []
        changed = [
            f"{name} {s.st_mtime_ns} {s.st_size}" for name, s in sorted(pictures.items()) if s.st_mtime_ns > made
        ]
        return changed + ([f"{len(pictures)} of {count}"] if len(pictures) != count else [])

    def _write(self) -> None:
        codes = self._codes
        if (codes == codes[:, :1]).all():  # one code for all layers
            codes = codes[:, :1]
        metadata = {**self._metadata, "num_ws": str(self._codes.shape[1])}
        with replacing(self.codes_file) as temporary:
            seen = {} if self._cameras is None else {"cameras": self._cameras.contiguous()}
            write_tensors(temporary, {"codes": codes.contiguous(), **seen}, metadata)

    def _read_codes(self) -> tuple[Tensor, Tensor | None, dict[str, str]]:
        try:
            if not self.codes_file.is_file():
                raise TargetsError(
                    f"{self.path} holds no targets (no {TARGETS_FILE}); give a folder that the command targets wrote."
                )
            with safe_open(self.codes_file, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise ValueError("it is of another kind")
                codes = file.get_tensor("codes").float()
                cameras = file.get_tensor("cameras").float() if "cameras" in file.keys() else None  # noqa: SIM118
            if codes.ndim != 3 or not torch.isfinite(codes).all():
                raise ValueError("its codes make no sense")
            if cameras is not None:
                require_cameras(cameras, len(codes))
            return codes.expand(-1, int(metadata["num_ws"]), -1), cameras, metadata
        except (OSError, ValueError, LookupError, RuntimeError, SafetensorError) as error:
            raise TargetsError(f"{self.codes_file} cannot be read ({error}); make the targets anew.") from error

    def _pictures(self, count: int) -> dict[int, Tensor]:
        found = {}
        for index in range(count):
            path = next(
                (
                    self.path / f"{index:05}{ending}"
                    for ending in _ENDINGS
                    if (self.path / f"{index:05}{ending}").is_file()
                ),
                None,
            )
            if path is not None:
                found[index] = read_picture(path)
        return found


def read_picture(path: Path) -> Tensor:
    """Read a picture as bytes [3, H, W], alpha dropped. Raises TargetsError when it is none."""
    try:
        with Image.open(path) as image:
            if max(image.size) > _LARGEST:
                raise ValueError(f"it has {image.width} x {image.height} pixels")
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1).contiguous()
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
        raise TargetsError(f"{path} cannot be read as a picture{reason}; replace or remove it.") from error


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    return a is b is None or (a is not None and b is not None and a.shape == b.shape and torch.equal(a, b))


def _sized(picture: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(picture.shape[-2:]) == tuple(size):
        return picture
    image = Image.fromarray(picture.permute(1, 2, 0).numpy()).resize((size[1], size[0]), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
