"""The directory of a zip archive as torch.save writes it: everything stored as it is, in one piece, from the first byte.

Archives can be read in more ways than one (two directories, names twice, parts that are compressed or lie elsewhere). What
leaves any doubt is refused, so that torch's own reader finds the very parts that were looked at here."""

import struct
from typing import BinaryIO

from .errors import Damaged, Unsupported

MAX_DIRECTORY = 4_000_000  # bytes; a training with thousands of tensors needs some hundred thousand

_END = struct.Struct("<4s4H2LH")  # signature, disks, entries here and in all, size and start of the directory, comment
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")

_FLAGS = 1 << 3 | 1 << 11  # sizes repeated behind the data, names in UTF-8


def read_directory(file: BinaryIO, size: int) -> dict[str, tuple[int, int]]:
    """Return start and length in bytes of each part, by its name. Raises FileError."""
    count, start, length = _place(file, size)
    file.seek(start)
    directory = file.read(length)
    members, at = {}, 0
    for _ in range(count):
        name, offset, bytes_stored, at = _entry(directory, at)
        data = _local(file, offset, name)
        if data + bytes_stored > start:
            raise Damaged(f"its part {name[:80]!r} is larger than the file")
        members[name] = data, bytes_stored
    if at != length or len({name.lower() for name in members}) != count:
        raise Damaged("its directory makes no sense")
    return members


def torch_script() -> Unsupported:
    return Unsupported(
        "is a program of TorchScript, whose weights cannot be read apart from it",
        "choose the checkpoint that it was made from",
    )


def _place(file: BinaryIO, size: int) -> tuple[int, int, int]:
    """Entries, start and length of the directory, which has to end where the records at the end of the file begin."""
    records = _END.size + _LOCATOR_64.size + _END_64.size
    file.seek(max(0, size - records))
    tail = file.read(records).rjust(records, b"\0")
    signature, *disks, here, count, length, start, comment = _END.unpack(tail[-_END.size :])
    if signature != b"PK\x05\x06" or comment or any(disks) or here != count:
        raise Damaged("its directory is missing")
    end = size - _END.size
    large, disk, place, _ = _LOCATOR_64.unpack_from(tail, _END_64.size)
    if large == b"PK\x06\x07":
        end -= _LOCATOR_64.size + _END_64.size
        signature, own, _, _, *disks, here, count_64, length_64, start_64 = _END_64.unpack_from(tail)
        same = count in (count_64, 0xFFFF) and length in (length_64, 2**32 - 1) and start in (start_64, 2**32 - 1)
        if (
            signature != b"PK\x06\x06"
            or own != 44
            or place != end
            or disk
            or any(disks)
            or here != count_64
            or not same
        ):
            raise Damaged("its directory makes no sense")
        count, length, start = count_64, length_64, start_64
    if start + length != end or length > MAX_DIRECTORY or count * _ENTRY.size > length:
        raise Damaged("its directory makes no sense")
    return count, start, length


def _entry(directory: bytes, at: int) -> tuple[str, int, int, int]:
    """Name, place, length and the end of the entry that begins at `at`."""
    if at + _ENTRY.size > len(directory):
        raise Damaged("its directory is incomplete")
    signature, _, _, flags, method, _, _, _, packed, plain, *rest = _ENTRY.unpack_from(directory, at)
    name_length, extra, comment, disk, _, _, offset = rest
    end = at + _ENTRY.size + name_length + extra + comment
    if signature != b"PK\x01\x02" or disk or end > len(directory):
        raise Damaged("its directory makes no sense")
    if method and b"/code/" in directory:
        raise torch_script()
    if method or packed != plain or flags & ~_FLAGS:
        raise Unsupported("is a compressed archive, not a torch file", "unpack it and choose what is inside")
    if 2**32 - 1 in (plain, offset):  # the true numbers stand elsewhere, and no generator needs them
        raise Damaged("one of its parts is larger than any")
    try:
        name = directory[at + _ENTRY.size : at + _ENTRY.size + name_length].decode("ascii")
    except UnicodeDecodeError:
        raise Damaged("the name of one of its parts cannot be read") from None
    return name, offset, plain, end


def _local(file: BinaryIO, offset: int, name: str) -> int:
    """Where the data of the part at `offset` begin."""
    file.seek(offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        raise Damaged(f"its part {name[:80]!r} is missing")
    signature, _, _, method, *_, name_length, extra = _LOCAL.unpack(head)
    if signature != b"PK\x03\x04" or method or file.read(name_length) != name.encode():
        raise Damaged(f"its part {name[:80]!r} is missing")
    return offset + _LOCAL.size + name_length + extra
