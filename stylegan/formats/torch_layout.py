"""The layouts of torch.save: a zip archive, and before torch 1.6 a row of pickles. Of both, the object's pickle as data,
and where in the file each storage lies."""

import math
import struct
import tarfile
from collections.abc import Callable, Mapping
from typing import BinaryIO

import torch

from .errors import Damaged, Unsupported
from .inert_pickle import Global, Pickle, Stored
from .names import ITEM_SIZES
from .zip_directory import read_directory, torch_script

ZIP_START = b"PK\x03\x04"
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # their first pickle
_LEGACY_PICKLES = 5  # magic number, version, system, the object, its storages' keys
_MAX_NOTE = 1024  # bytes of the parts that name the version and the order of bytes

FLOATS = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}
"""Types of the numbers in the storages that weights may have."""

Places = Mapping[str, tuple[int, int]]
"""Start and length in bytes of each storage in a file, by its key."""

ReadPickle = Callable[[BinaryIO, int, int], Pickle]
"""Reads the pickle that begins at the first place and ends before the second, and refuses what it may not name."""


def zip_content(file: BinaryIO, size: int, read_pickle: ReadPickle) -> tuple[Pickle, Places]:
    """Read an archive as torch writes it, and no other: the object's pickle, and where each
    storage lies. Raises FileError."""
    members = read_directory(file, size)
    if any(name.endswith("/constants.pkl") for name in members):
        raise torch_script()
    roots = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if not roots and any(name.endswith(".npy") for name in members):
        raise Unsupported(
            "holds arrays of numpy, such as latents, and no generator", "choose the generator they are of"
        )
    if len(roots) != 1:
        raise Unsupported("is a zip archive, but not a torch file", "unpack it and choose what is inside")
    start, length = members[roots[0]]
    content = read_pickle(file, start, start + length)
    folder = roots[0].removesuffix("data.pkl")
    if not all(name.startswith(folder) for name in members):
        raise Damaged("its parts lie in several folders")
    if any(length > _MAX_NOTE for name, (_, length) in members.items() if name.count("/") == 1 and name != roots[0]):
        raise Damaged("one of its notes is larger than any")
    places = {}
    for key, claimed in map(storage_of, content.stored):
        places[key] = members.get(f"{folder}data/{key}", (0, -1))
        if places[key][1] != claimed:
            raise Damaged(f"its part {key!r} is missing or has another size")
    return content, places


def legacy_content(file: BinaryIO, start: int, end: int, read_pickle: ReadPickle) -> tuple[Pickle, Places]:
    """Read what is between `start` and `end`: pickles, and then each storage behind the count of its
    numbers. Raises FileError."""
    file.seek(start)
    if _is_tar(file.read(tarfile.BLOCKSIZE)):  # an older format still, for which torch looks first
        raise Unsupported("is a tar archive", "save it with a newer torch")
    position, pickles = start, []
    for _ in range(_LEGACY_PICKLES):
        pickles.append(read_pickle(file, position, end))
        position = pickles[-1].end
    magic, _, _, content, keys = pickles
    if magic.root != _LEGACY_MAGIC or type(keys.root) is not list:
        raise Unsupported("is not a torch file")
    stored = {storage_of(each)[0]: each for each in content.stored}
    known = [key for key in keys.root if type(key) is str and key in stored]
    if len(known) != len(keys.root) or len(set(known)) != len(known) or len(known) != len(stored):
        raise Damaged("its list of parts is wrong")
    places = {}
    for key in known:
        _, length = storage_of(stored[key])
        file.seek(position)
        if file.read(8) != struct.pack("<q", stored[key].id[4]):
            raise Damaged(f"its part {key!r} is missing or has another size")
        places[key] = position + 8, length
        position += 8 + length
    if position > end:
        raise Damaged("it ends within its weights")
    return content, places


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def are_sizes(values: tuple) -> bool:
    """Tell whether these can be a shape, or places in a storage."""
    return len(values) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in values)


def is_within(stored: Stored, offset: int, size: tuple, stride: tuple) -> bool:
    """Tell whether a tensor lies within its storage, each number used once at most."""
    if not (are_sizes((offset,)) and are_sizes(size) and are_sizes(stride) and len(size) == len(stride)):
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # More entries than numbers would be repetitions: a small file could fill the memory.
    return 0 in size or (last < stored.id[4] and math.prod(size) <= stored.id[4])


def storage_of(stored: Stored) -> tuple[str, int]:
    """Return key and size in bytes of a storage."""
    match stored.id:
        case ("storage", Global("torch", kind), str(key), str(), int(count), *_) if kind in ITEM_SIZES and count >= 0:
            if count > 2**40:
                raise Damaged("one of its parts is larger than any")
            if len(stored.id) == 6 and stored.id[5] is not None:
                raise Unsupported("holds views of storages, as torch wrote them long ago", "save it with a newer torch")
            return key, count * ITEM_SIZES[kind]
    raise Damaged("a storage's description makes no sense")
