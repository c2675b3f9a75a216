"""Moments of a training to which its user can go back: a picture in memory, and the trained weights on disk."""

import contextlib
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...training.files import write_tensors

DISK_BYTES = 2 * 2**30
"""What the moments of one training may take of the host's temporary folder, which it empties when it starts."""

MOST = 40
"""Moments over a whole training; fewer where the weights are large."""


class Moments:
    """Moments are those of the latest training of one panel, their weights in a folder of their own within `folder`."""

    def __init__(self, folder: Path):
        self._folder = folder / secrets.token_hex(12)  # random: two ComfyUIs may share the temporary folder
        self._pictures: dict[int, bytes] = {}
        self.version = secrets.token_hex(4)  # another one whenever pictures of the same steps may differ

    @property
    def steps(self) -> list[int]:
        """The steps after which the moments were taken, in order."""
        return sorted(self._pictures)

    def has(self, step: int) -> bool:
        """Tell whether it is possible to go back there. Step 0 is the generator as it came."""
        return step in self._pictures and (step == 0 or self._path(step).exists())

    def picture(self, step: int) -> bytes | None:
        """Return what the samples looked like, as JPEG; None where there is no such moment."""
        return self._pictures.get(step)

    def add(self, step: int, picture: bytes, weights: Mapping[str, Tensor]) -> None:
        """Keep a moment; `weights` are empty for the generator as it came. Raises OSError when they cannot be written;
        then there is no such moment."""
        if weights:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._path(step).unlink(missing_ok=True)
            try:
                write_tensors(self._path(step), dict(weights), {})
            except OSError:  # the disk is full: leave it to what matters more
                self._path(step).unlink(missing_ok=True)
                raise
        self._pictures[step] = picture

    def weights(self, step: int) -> dict[str, Tensor]:
        """Read what was trained by then. Raises ValueError when it is gone, as after another ComfyUI has emptied the
        temporary folder."""
        try:
            return load_file(self._path(step))
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"The generator as it was after {step} steps is gone from ComfyUI's temporary folder; choose another "
                'moment, or "Go on" to train again.'
            ) from error

    def clear(self) -> None:
        """Forget all moments, as for another training."""
        self._pictures = {}
        self.version = secrets.token_hex(4)
        shutil.rmtree(self._folder, ignore_errors=True)

    def forget_after(self, step: int) -> None:
        """Forget the moments that come after `step` steps: the training takes another way from there."""
        for later in [taken for taken in self._pictures if taken > step]:
            self.version = secrets.token_hex(4)
            del self._pictures[later]
            with contextlib.suppress(OSError):  # held by a virus scanner, on Windows; the host empties the folder
                self._path(later).unlink(missing_ok=True)

    def _path(self, step: int) -> Path:
        return self._folder / f"{step:06}.safetensors"


def how_many(weights: Mapping[str, Tensor]) -> int:
    """Tell how many moments of these weights fit into DISK_BYTES; at least 4, at most MOST."""
    size = sum(value.nbytes for value in weights.values())
    return max(4, min(MOST, DISK_BYTES // max(1, size)))
