"""Files of torch.save: first checked as data, then loaded by torch.load with weights_only.

torch's own restricted unpickler executes nothing, but it allocates what a file claims: so sizes are checked before.
"""

import math
import os
import pickle
import struct
import tarfile
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .errors import Damaged, Unsupported
from .inert_pickle import Chunk, Global, Pickle, Record, Stored, read_pickle
from .names import IGNORED, ITEM_SIZES, TENSORS, require_harmless
from .zip_directory import read_directory

ZIP_START = b"PK\x03\x04"
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of files before torch 1.6
LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
MAX_NOTE = 1024  # bytes of the parts that name the version and the order of bytes
LEGACY_PICKLES = 5  # magic number, version, system, the object, its storages' keys

FLOATS = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
}


def load_torch_file(file: BinaryIO, path: str | os.PathLike, wanted: Callable[[Any], Any]) -> tuple[Any, bool]:
    """The object in the open file at `path`, which torch.save wrote, on the CPU, and whether its tensors are views of
    the file, to be copied before use. Raises FileError.

    They are when what `wanted` picks, from the object as data, is the smaller part of the file: then only what is used
    later is read at all."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_zip = file.read(4) == ZIP_START
    if is_zip:
        content, sizes = _check_zip(file, size)
    else:
        content, sizes, _ = _check_legacy(file, 0, size)
    require_harmless(content.globals)
    _check_calls(content)
    part = sum(sizes[stored.id[2]] for stored in _storages(wanted(content.root)))
    use_map = is_zip and part < size / 2 and _may_be_mapped(path)
    file.seek(0)
    names = [str(name) for name in content.globals]
    ignored = [(_Ignored, name) for name in names if name not in TENSORS]
    if not hasattr(torch.serialization, "safe_globals") or _version() < (2, 6):
        raise Unsupported(
            f"cannot be read with torch {torch.__version__}, which is not safe before 2.6", "update torch"
        )
    try:
        with torch.serialization.safe_globals(ignored):
            content = torch.load(path if use_map else file, map_location="cpu", weights_only=True, mmap=use_map)
            return content, use_map
    except (RuntimeError, ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError) as error:
        raise Damaged(_first_line(error)) from error
    except pickle.UnpicklingError as error:
        raise Unsupported(f"cannot be read ({_first_line(error)})") from error


def storage_numbers(data: Chunk) -> Tensor:
    """The numbers [N] of a storage that torch.save wrote into these bytes. Raises FileError."""
    data.read_once()
    content, sizes, starts = _check_legacy(data.file, data.start, data.start + data.length)
    require_harmless(content.globals)
    if not isinstance(content.root, Stored):
        raise Damaged("a weight is no storage of numbers")
    _, kind, key, *_ = content.root.id
    if kind.name not in FLOATS:
        raise Unsupported("holds weights of an unknown type of number")
    return Chunk(data.file, starts[key], sizes[key]).numbers(FLOATS[kind.name])


def _may_be_mapped(path: str | os.PathLike) -> bool:
    """Whether torch takes the path for a file of its own: it goes by the ending, and needs a name in UTF-8."""
    try:
        return not os.fspath(path).encode().endswith(b".safetensors")
    except UnicodeEncodeError:
        return False


class _Ignored:
    """Stands for what a training put beside the weights."""

    def __new__(cls, *_):
        return super().__new__(cls)

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        pass


def _version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _check_zip(file: BinaryIO, size: int) -> tuple[Pickle, dict[str, int]]:
    """The pickle and the size in bytes of each storage."""
    members = read_directory(file, size)
    roots = [name for name in members if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(roots) != 1:
        raise Unsupported("is a zip archive, but not a torch file", "unpack it and choose what is inside")
    start, length = members[roots[0]]
    content = read_pickle(file, start, start + length)
    folder = roots[0].removesuffix("data.pkl")
    if not all(name.startswith(folder) for name in members):
        raise Damaged("its parts lie in several folders")
    if any(length > MAX_NOTE for name, (_, length) in members.items() if name.count("/") == 1 and name != roots[0]):
        raise Damaged("one of its notes is larger than any")
    sizes = {}
    for stored in content.stored:
        key, claimed = storage_of(stored)
        if members.get(f"{folder}data/{key}", (0, -1))[1] != claimed:
            raise Damaged(f"its part {key!r} is missing or has another size")
        sizes[key] = claimed
    return content, sizes


def _check_legacy(file: BinaryIO, start: int, end: int) -> tuple[Pickle, dict[str, int], dict[str, int]]:
    """Of what is between `start` and `end`: the pickle, and the size in bytes and the position of each storage."""
    file.seek(start)
    if _is_tar(file.read(tarfile.BLOCKSIZE)):  # an older format still, for which torch looks first
        raise Unsupported("is a tar archive", "save it with a newer torch")
    position, pickles = start, []
    for _ in range(LEGACY_PICKLES):
        pickles.append(read_pickle(file, position, end))
        position = pickles[-1].end
    magic, _, _, content, keys = pickles
    if magic.root != LEGACY_MAGIC or type(keys.root) is not list:
        raise Unsupported("is not a torch file")
    for other in (magic, *pickles[1:3], keys):
        require_harmless(other.globals)
    sizes, counts, starts = {}, {}, {}
    for stored in content.stored:
        key, claimed = storage_of(stored)
        sizes[key], counts[key] = claimed, stored.id[4]
    known = [key for key in keys.root if type(key) is str and key in sizes]
    if len(known) != len(keys.root) or len(set(known)) != len(known) or len(known) != len(sizes):
        raise Damaged("its list of parts is wrong")
    for key in keys.root:
        file.seek(position)
        if file.read(8) != struct.pack("<q", counts[key]):
            raise Damaged(f"its part {key!r} is missing or has another size")
        starts[key] = position + 8
        position += 8 + sizes[key]
    if position > end:
        raise Damaged("it ends within its weights")
    return content, sizes, starts


def _is_tar(block: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


def _check_calls(content: Pickle) -> None:
    """That torch, which makes the objects, is asked for nothing but tensors within their storages, and dictionaries."""
    for record in content.calls:
        name = str(record.maker) if isinstance(record.maker, Global) else ""
        match name, record.args:
            case "collections.OrderedDict", () | ([*_],) if _is_dictionary(record):
                continue
            case "torch.Size", (tuple(size),) if record.state is None and _are_sizes(size):
                continue
            case "torch._utils._rebuild_parameter", (Record() as tensor, bool(), *_) if record.state is None:
                if str(tensor.maker).startswith("torch._utils._rebuild_tensor"):
                    continue
            case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", (
                Stored() as stored,
                int(offset),
                tuple(size),
                tuple(stride),
                *_,
            ) if record.state is None and is_within(stored, offset, size, stride):
                continue
            case "_codecs.encode", (str(), "latin1") | (str(), "latin-1"):
                continue
            case "torch.device", (str(),) | (str(), int()):
                continue
            case _ if name in IGNORED:
                continue
        raise Damaged(f"what it says of {name or 'an object'} makes no sense")


def _is_dictionary(record: Record) -> bool:
    """Whether an ordered dictionary has plain keys, and no attributes that hide its methods."""
    pairs = record.args[0] if record.args else []
    plain = all(type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, int) for pair in pairs)
    return plain and (record.state is None or (type(record.state) is dict and record.state.keys() <= {"_metadata"}))


def _are_sizes(values: tuple) -> bool:
    return len(values) <= 8 and all(type(n) is int and 0 <= n < 2**40 for n in values)


def is_within(stored: Stored, offset: int, size: tuple, stride: tuple) -> bool:
    if not (_are_sizes((offset,)) and _are_sizes(size) and _are_sizes(stride) and len(size) == len(stride)):
        return False
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    # More entries than numbers would be repetitions: a small file could fill the memory.
    return 0 in size or (last < stored.id[4] and math.prod(size) <= stored.id[4])


def storage_of(stored: Stored) -> tuple[str, int]:
    """Key and size in bytes of a storage."""
    match stored.id:
        case ("storage", Global("torch", kind), str(key), str(), int(count), *_) if kind in ITEM_SIZES and count >= 0:
            if count > 2**40:
                raise Damaged("one of its parts is larger than any")
            if len(stored.id) == 6 and stored.id[5] is not None:
                raise Unsupported("holds views of storages, as torch wrote them long ago", "save it with a newer torch")
            return key, count * ITEM_SIZES[kind]
    raise Damaged("a storage's description makes no sense")


def _storages(state: Any) -> list[Stored]:
    """The storages behind a dictionary's tensors."""
    entries = state.entries if isinstance(state, Record) else state
    if type(entries) is not dict:
        return []
    return [
        value.args[0]
        for value in entries.values()
        if isinstance(value, Record) and type(value.args) is tuple and value.args and isinstance(value.args[0], Stored)
    ]
