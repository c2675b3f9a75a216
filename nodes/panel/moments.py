"""Moments of a training to which its user can go back: a picture, and the trained weights, both on disk."""

import contextlib
import secrets
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...training.files import write_atomically, write_tensors

DISK_BYTES = 2 * 2**30
"""What the weights of one training's moments may take while it is the latest of its node."""

MOST = 40
"""Moments over a whole training; fewer where the weights are large."""


class Moments:
    """Moments are those of one training, in `folder`, which is theirs alone."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._pictures: dict[int, bytes | None] = {}  # None: on disk alone
        self.version = secrets.token_hex(4)  # another one whenever pictures of the same steps may differ

    @classmethod
    def found(cls, folder: Path, version: str = "") -> "Moments":
        """Take up the moments that an earlier run of the host has left in a folder. Raises OSError."""
        moments = cls(folder)
        moments._pictures = {int(path.stem): None for path in folder.glob("*.jpg") if path.stem.isdecimal()}
        moments.version = version or moments.version
        return moments

    @property
    def steps(self) -> list[int]:
        """The steps after which the moments were taken, in order."""
        return sorted(self._pictures)

    @property
    def pictures_alone(self) -> list[int]:
        """The moments whose weights are gone: they can be looked at."""
        return [step for step in self.steps if not self.has(step)]

    def has(self, step: int) -> bool:
        """Tell whether it is possible to go back there. Step 0 is the generator as it came."""
        return step in self._pictures and (step == 0 or self._path(step).exists())

    def picture(self, step: int) -> bytes | None:
        """Return what the samples looked like, as JPEG; None where there is no such moment."""
        if step in self._pictures and self._pictures[step] is None:
            with contextlib.suppress(OSError):
                return self._path(step, ".jpg").read_bytes()
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
        with contextlib.suppress(OSError):  # then it is not found again after a restart
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path(step, ".jpg"), picture)

    def weights(self, step: int) -> dict[str, Tensor]:
        """Read what was trained by then. Raises ValueError when it is gone, as after its file was removed."""
        try:
            return load_file(self._path(step))
        except (OSError, SafetensorError) as error:
            raise ValueError(
                f"What was trained after {step} steps is gone from the folder of moments; choose another "
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
            self._unlink(later, ".jpg")
            self._unlink(later)

    def thin(self, but: Collection[int]) -> None:
        """Forget the weights of all moments `but` these; their pictures stay."""
        for step in self._pictures:
            if step not in but:
                self._unlink(step)

    def _unlink(self, step: int, ending: str = ".safetensors") -> None:
        with contextlib.suppress(OSError):  # held by a virus scanner, on Windows
            self._path(step, ending).unlink(missing_ok=True)

    def _path(self, step: int, ending: str = ".safetensors") -> Path:
        return self._folder / f"{step:06}{ending}"


def how_many(weights: Mapping[str, Tensor]) -> int:
    """Tell how many moments of these weights fit into DISK_BYTES; at least 4, at most MOST."""
    size = sum(value.nbytes for value in weights.values())
    return max(4, min(MOST, DISK_BYTES // max(1, size)))
