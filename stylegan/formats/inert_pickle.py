"""Pickles read as data: what a pickle would import, call or build becomes a record of the names and the arguments.

Nothing is imported and nothing is called, so that there is nothing to exploit. Python's own unpickler would, even with
its imports restricted, fill gigabytes for a wrong memo index, and crash over tuples nested deeply enough.
"""

import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

from .errors import Damaged, Unsupported
from .weights import Storage

MAX_OPCODES = 1_000_000  # each takes some hundred bytes at most; the largest known file has about a tenth
MAX_TEXT = 16_000_000  # bytes of text in all; pickles of NVlabs hold their programs' source, some hundred thousand
MAX_NAMES = 500  # of what would be imported; checkpoints have some dozens
INLINE = 1024  # bytes; longer ones stay in the file until they are asked for


@dataclass(frozen=True)
class Global:
    """A Global is a name that the pickle would import."""

    module: str
    name: str

    def __str__(self):
        return f"{self.module}.{self.name}"


@dataclass(eq=False, slots=True)
class Record:
    """A Record is an object that the pickle would make by calling `maker` with `args`, and
    what it would put into it."""

    maker: Any
    args: Any
    called: bool = True  # whether `maker` is called as a function, not only asked for a bare object of its class
    state: Any = None
    entries: dict | None = None  # as of a dictionary
    items: list | None = None  # as of a list


@dataclass(slots=True)
class Stored:
    """A Stored is an object that the pickle leaves to its reader, by an id: torch's storages."""

    id: Any
    storage: Storage | None = None  # where its numbers lie, once the file's layout is known


@dataclass(slots=True)
class Chunk:
    """A Chunk is bytes that were left in the file."""

    file: BinaryIO
    start: int
    length: int
    storage: Storage | None = None  # the numbers in it, once it is known what they are


@dataclass(frozen=True)
class Pickle:
    """A Pickle is what a pickle says: its object, every name, call and storage in it, and where it ends in the file."""

    root: Any
    globals: frozenset[Global]
    uses: Mapping[Global, int]  # how often each name is used
    calls: tuple[Record, ...]
    stored: tuple[Stored, ...]
    end: int


def read_pickle(file: BinaryIO, start: int, end: int) -> Pickle:
    """Read the pickle that begins at `start`, within the bytes before `end`. Raises FileError.

    Time is linear in the pickle, memory in what it says apart from long byte strings."""
    return PickleReader(file, start, end).run()


_MARK = object()


class PickleReader:
    def __init__(self, file: BinaryIO, start: int, end: int):
        file.seek(start)
        self.file, self.position, self.end = file, start, end
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}
        self.globals: dict[tuple[str, str], Global] = {}
        self.uses: Counter[Global] = Counter()
        self.calls: list[Record] = []
        self.stored: list[Stored] = []
        self.text = 0

    def run(self) -> Pickle:
        opcodes, fetch = _OPCODES, self.file.read
        try:
            for _ in range(MAX_OPCODES):
                code = fetch(1)
                self.position += 1
                if self.position > self.end:
                    raise Damaged("it ends within its pickle")
                if code == b".":
                    names = frozenset(self.globals.values())
                    return Pickle(self.pop(), names, self.uses, tuple(self.calls), tuple(self.stored), self.position)
                if code not in opcodes:
                    raise Damaged(f"byte {self.position - 1} is not an instruction of its pickle")
                opcodes[code](self)
        except (IndexError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
            raise Damaged(f"its pickle makes no sense near byte {self.position}") from error
        raise Unsupported(f"is no checkpoint (its pickle has more than {MAX_OPCODES} instructions)")

    def read(self, count: int) -> bytes:
        if count > self.end - self.position:
            raise Damaged("it ends within its pickle")
        self.position += count
        return self.file.read(count)

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.read(struct.calcsize(layout)))[0]

    def line(self) -> str:
        line = self.file.readline(min(self.end - self.position, 512))
        self.position += len(line)
        if not line.endswith(b"\n"):
            raise Damaged("a name in its pickle has no end")
        return line[:-1].decode()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def pop_to_mark(self) -> list:
        stack = self.stack
        index = len(stack) - 1
        while stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise ValueError("no mark")
        values = stack[index + 1 :]
        del stack[index:]
        return values

    def top(self) -> Any:
        value = self.stack[-1]
        if value is _MARK:
            raise ValueError("a mark where a value is needed")
        return value

    def push_text(self, length: int) -> None:
        self.text += length
        if self.text > MAX_TEXT:
            raise Unsupported("is no checkpoint (its pickle holds more text than any)")
        self.push(self.read(length).decode("utf-8", "surrogatepass"))

    def push_bytes(self, length: int) -> None:
        if length <= INLINE:
            self.push(self.read(length))
            return
        if length > self.end - self.position:
            raise Damaged("it ends within its pickle")
        self.push(Chunk(self.file, self.position, length))
        self.position += length
        self.file.seek(self.position)

    def push_integer(self, length: int) -> None:
        if length > INLINE:
            raise Unsupported("is no checkpoint (its pickle holds a number of thousands of digits)")
        self.push(int.from_bytes(self.read(length), "little", signed=True))

    def push_global(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise TypeError("a name that is not text")
        found = self.globals.setdefault((module, name), Global(module, name))
        self.uses[found] += 1
        self.push(found)
        if len(self.globals) > MAX_NAMES:
            raise Unsupported(f"is no checkpoint (its pickle has more than {MAX_NAMES} names)")

    def push_tuple(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def push_stored(self) -> None:
        identity = self.pop()
        if type(identity) is tuple and identity[:1] == ("module",) and type(identity[1]) is Global:
            self.push(identity[1])  # a class of modules, as torch wrote it with its source before 1.6
            return
        stored = Stored(identity)
        self.stored.append(stored)
        self.push(stored)

    def push_record(self, called: bool = True) -> None:
        args = self.pop()
        record = Record(self.pop(), args, called)
        self.calls.append(record)
        self.push(record)

    def push_record_with_keywords(self) -> None:
        self.pop()  # no checkpoint's classes have any
        self.push_record()

    def build(self) -> None:
        state = self.pop()
        if not isinstance(self.top(), Record) or self.top().state is not None:
            raise TypeError("a state for what has none, or has one already")
        self.top().state = state

    def append(self, values: list) -> None:
        target = self.top()
        if isinstance(target, Record):
            target.items = target.items or []
            target.items.extend(values)
        else:
            _require(target, list).extend(values)

    def set_items(self, values: list) -> None:
        target = self.top()
        if isinstance(target, Record):
            target.entries = target.entries or {}
        entries = target.entries if isinstance(target, Record) else _require(target, dict)
        if len(values) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(values[::2], values[1::2], strict=True):
            # Other keys are in no checkpoint, and deeply nested ones would crash Python.
            if type(key) not in (str, int):
                raise TypeError("a key that is neither text nor a number")
            entries[key] = value

    def get(self, index: int) -> None:
        value = self.memo[index]
        if type(value) is Global:
            self.uses[value] += 1
        self.push(value)

    def duplicate(self) -> None:
        value = self.top()
        if type(value) is Global:
            self.uses[value] += 1
        self.push(value)

    def put(self, index: int) -> None:
        self.memo[index] = self.top()


def _require(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise TypeError(f"not a {kind.__name__}")
    return value


_OPCODES = {
    b"(": lambda r: r.push(_MARK),
    b"0": lambda r: r.stack.pop(),
    b"1": lambda r: r.pop_to_mark(),
    b"2": PickleReader.duplicate,
    b"N": lambda r: r.push(None),
    b"\x88": lambda r: r.push(True),
    b"\x89": lambda r: r.push(False),
    b"J": lambda r: r.push(r.number("<i")),
    b"K": lambda r: r.push(r.number("<B")),
    b"M": lambda r: r.push(r.number("<H")),
    b"G": lambda r: r.push(r.number(">d")),
    b"\x8a": lambda r: r.push_integer(r.number("<B")),
    b"\x8b": lambda r: r.push_integer(r.number("<I")),
    b"X": lambda r: r.push_text(r.number("<I")),
    b"\x8c": lambda r: r.push_text(r.number("<B")),
    b"\x8d": lambda r: r.push_text(r.number("<Q")),
    b"B": lambda r: r.push_bytes(r.number("<I")),
    b"C": lambda r: r.push_bytes(r.number("<B")),
    b"\x8e": lambda r: r.push_bytes(r.number("<Q")),
    b"\x96": lambda r: r.push_bytes(r.number("<Q")),
    b"T": lambda r: r.push_bytes(r.number("<I")),
    b"U": lambda r: r.push_bytes(r.number("<B")),
    b"]": lambda r: r.push([]),
    b"}": lambda r: r.push({}),
    b")": lambda r: r.push(()),
    b"\x8f": lambda r: r.push([]),  # a set: what is in one is of no interest
    b"l": lambda r: r.push(r.pop_to_mark()),
    b"t": lambda r: r.push(tuple(r.pop_to_mark())),
    b"\x91": lambda r: r.push(r.pop_to_mark()),  # a frozen set
    b"\x85": lambda r: r.push_tuple(1),
    b"\x86": lambda r: r.push_tuple(2),
    b"\x87": lambda r: r.push_tuple(3),
    b"a": lambda r: r.append([r.pop()]),
    b"e": lambda r: r.append(r.pop_to_mark()),
    b"\x90": lambda r: r.append(r.pop_to_mark()),
    b"s": lambda r: r.set_items([r.pop(), r.pop()][::-1]),
    b"u": lambda r: r.set_items(r.pop_to_mark()),
    b"c": lambda r: r.push_global(r.line(), r.line()),
    b"\x93": lambda r: r.push_global(*reversed((r.pop(), r.pop()))),
    b"R": PickleReader.push_record,
    b"\x81": lambda r: r.push_record(called=False),
    b"\x92": PickleReader.push_record_with_keywords,
    b"b": PickleReader.build,
    b"Q": PickleReader.push_stored,
    b"h": lambda r: r.get(r.number("<B")),
    b"j": lambda r: r.get(r.number("<I")),
    b"q": lambda r: r.put(r.number("<B")),
    b"r": lambda r: r.put(r.number("<I")),
    b"\x94": lambda r: r.put(len(r.memo)),
    b"\x80": lambda r: r.read(1),
    b"\x95": lambda r: r.read(8),
}
"""Instructions of the protocols 2 to 5 that data is written with; the others are refused."""
