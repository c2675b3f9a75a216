"""Files of torch.save, read as data: not even torch's own restricted unpickler sees them."""

import os
from typing import Any, BinaryIO

from .arrays import place_storages
from .errors import Damaged
from .inert_pickle import Global, Pickle, Record, Stored, read_pickle
from .modules import PERSISTENT
from .names import IGNORED, require_harmless
from .torch_layout import LEGACY_START, ZIP_START, ReadPickle, are_sizes, is_within, legacy_content, zip_content

STARTS = (ZIP_START, LEGACY_START)
"""How a file of torch.save begins."""


def read_torch(file: BinaryIO, read: ReadPickle | None = None) -> Any:
    """Return the object in an open file that torch.save wrote, as data; its tensors are Records whose storages know
    their places. `read` reads its pickles, by default as a training's, which may hold more than weights.

    Raises FileError."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) == ZIP_START:
        content, places = zip_content(file, size, read or _read_harmless)
    else:
        content, places = legacy_content(file, 0, size, read or _read_harmless)
    if read is None:
        _check_calls(content)
    place_storages(file, content.stored, places)
    return content.root


def _read_harmless(file: BinaryIO, start: int, end: int) -> Pickle:
    content = read_pickle(file, start, end)
    require_harmless(content)
    return content


def _check_calls(content: Pickle) -> None:
    """That other programs, which make the objects, are asked for nothing but tensors within their storages, dictionaries
    and modules: what is read here may be opened there."""
    for record in content.calls:
        if not _makes_sense(record):
            name = str(record.maker) if isinstance(record.maker, Global) else "an object"
            raise Damaged(f"what it says of {name[:80]} makes no sense")


def _makes_sense(record: Record) -> bool:
    if not isinstance(record.maker, Global):
        return False
    name = str(record.maker)
    match name, record.args:
        case "collections.OrderedDict", () | ([*_],):
            return _is_dictionary(record)
        case "torch.Size", (tuple(size),):
            return record.state is None and are_sizes(size)
        case "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state", (
            Record() as t,
            bool(),
            *_,
        ):
            return record.state is None and str(t.maker).startswith("torch._utils._rebuild_tensor")
        case "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2", (
            Stored() as stored,
            int(offset),
            tuple(size),
            tuple(stride),
            *_,
        ):
            return record.state is None and is_within(stored, offset, size, stride)
        case "_codecs.encode", (str(), "latin1" | "latin-1"):
            return True
        case "torch.device", (str(),) | (str(), int()):
            return True
        case (
            "builtins.set" | "__builtin__.set" | "builtins.frozenset" | "__builtin__.frozenset",
            () | ([*_],),
        ):
            return True
        case "torch.nn.backends.thnn._get_thnn_function_backend", ():  # in modules from before torch 1.5
            return True
    if record.maker == PERSISTENT:
        return len(record.args) == 1 and type(record.args[0]) is dict
    # Objects that are bare until they are given their attributes: modules, and what trainings ignore.
    return name in IGNORED or (not record.called and record.args == ())


def _is_dictionary(record: Record) -> bool:
    """Whether an ordered dictionary has plain keys, and no attributes that hide its methods."""
    pairs = record.args[0] if record.args else []
    plain = all(type(pair) in (list, tuple) and len(pair) == 2 and type(pair[0]) in (str, int) for pair in pairs)
    return plain and (record.state is None or (type(record.state) is dict and record.state.keys() <= {"_metadata"}))
