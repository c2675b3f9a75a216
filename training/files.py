"""Writing files so that an earlier one stays whole until the new one is complete."""

import errno
import json
import os
import secrets
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch import Tensor

_KINDS = {
    torch.uint8: "U8",
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
}
"""The numbers that are written, and their names in safetensors."""

PATIENCE = 2.0
"""Seconds to wait for a file that another program holds: on Windows one that is open or mapped cannot be replaced, and
virus scanners hold new files for a moment."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file in the folder of `path`, to be written in the body; after it, it takes the place
    of `path` in one step. When anything fails it is gone, and `path` is as it was. Raises OSError,
    PermissionError for a file in use."""
    temporary = path.parent / f"{_prefix(path)}{secrets.token_hex(8)}.tmp"
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        _replace(temporary, path)
    except BaseException:
        with suppress(OSError):  # the folder itself may be gone
            temporary.unlink()
        raise


def remove_leftovers(path: Path) -> None:
    """Remove the temporary files of writings to `path` that the end of a process cut short."""
    with suppress(OSError):
        for leftover in path.parent.glob(f"{_prefix(path)}*.tmp"):
            leftover.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[bool]:
    """Hold the file at `path` alone in the body, among processes that do the same; gives whether nobody else holds it.
    The system lets go of it when the process ends, however that is. Where files cannot be locked, nobody holds them."""
    try:
        file = path.open("ab")
    except OSError:  # said by what is to be written there
        yield True
        return
    free = _lock(file.fileno())
    try:
        yield free
    finally:
        file.close()
        if free:
            with suppress(OSError):
                path.unlink()


def _lock(descriptor: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EAGAIN, errno.EACCES, errno.EDEADLK)
    return True


def write_atomically(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data` in one step. Raises OSError."""
    with replacing(path) as temporary, temporary.open("xb") as file:
        file.write(data)


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a new safetensors file, one tensor after the other: all at once would take their memory twice more, where
    perhaps memory has run out already. Halves of characters, as file names and arguments may hold them, become U+FFFD:
    with them no other program could read the header. Raises OSError."""
    header: dict[str, object] = {"__metadata__": {_whole(key): _whole(value) for key, value in metadata.items()}}
    # The widest numbers first, so that each begins at a multiple of its size.
    ordered, end = sorted(tensors.items(), key=lambda item: -item[1].element_size()), 0
    for name, tensor in ordered:
        begin, end = end, end + tensor.nbytes
        header[name] = {"dtype": _KINDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("xb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _whole(text: str) -> str:
    """Text with U+FFFD for what is no character by itself (lone surrogates); pairs of them are one."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _prefix(path: Path) -> str:
    # Not the name itself, which may be as long as names can be.
    return f".{zlib.crc32(path.name.encode(errors='surrogatepass')):08x}-"


def _replace(source: Path, target: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return os.replace(source, target)
        except PermissionError:
            if os.name != "nt" or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
