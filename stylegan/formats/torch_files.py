"""Files of torch.save: first checked as data, then loaded by torch.load with weights_only.

torch's own restricted unpickler executes nothing, but it allocates what a file claims: so sizes are checked before.
"""

import os
import pickle
from collections.abc import Callable
from typing import Any, BinaryIO

import torch
from torch import Tensor

from .errors import Damaged, Unsupported
from .inert_pickle import Chunk, Global, Pickle, Record, Stored, read_pickle
from .names import IGNORED, TENSORS, require_harmless
from .torch_layout import FLOATS, ZIP_START, are_sizes, is_within, legacy_content, zip_content


def load_torch_file(file: BinaryIO, path: str | os.PathLike, wanted: Callable[[Any], Any]) -> tuple[Any, bool]:
    """Return the object in the open file at `path`, which torch.save wrote, on the CPU, and whether its tensors are
    views of the file, to be copied before use. Raises FileError.

    They are when what `wanted` picks, from the object as data, is the smaller part of the file: then only what is used
    later is read at all."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    is_zip = file.read(4) == ZIP_START
    if is_zip:
        content, places = zip_content(file, size, _read_harmless)
    else:
        content, places = legacy_content(file, 0, size, _read_harmless)
    _check_calls(content)
    part = sum(places[stored.id[2]][1] for stored in _storages(wanted(content.root)))
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
    """Return the numbers [N] of a storage that torch.save wrote into these bytes. Raises FileError."""
    data.read_once()
    content, places = legacy_content(data.file, data.start, data.start + data.length, _read_harmless)
    if not isinstance(content.root, Stored):
        raise Damaged("a weight is no storage of numbers")
    _, kind, key, *_ = content.root.id
    if kind.name not in FLOATS:
        raise Unsupported("holds weights of an unknown type of number")
    return Chunk(data.file, *places[key]).numbers(FLOATS[kind.name])


def _read_harmless(file: BinaryIO, start: int, end: int) -> Pickle:
    content = read_pickle(file, start, end)
    require_harmless(content.globals)
    return content


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


def _check_calls(content: Pickle) -> None:
    """That torch, which makes the objects, is asked for nothing but tensors within their storages, and dictionaries."""
    for record in content.calls:
        name = str(record.maker) if isinstance(record.maker, Global) else ""
        match name, record.args:
            case "collections.OrderedDict", () | ([*_],) if _is_dictionary(record):
                continue
            case "torch.Size", (tuple(size),) if record.state is None and are_sizes(size):
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
