"""Files that claim much, or would run something: pickles and safetensors written by hand."""

import io
import json
import pickle
import struct
import zipfile

import torch
from foreign_files import rosinality_generator, rosinality_state, save_rosinality


class Call:
    """Pickled as a call of `name`, which need not exist here."""

    def __init__(self, name, *args):
        self.name, self.args = name, args


class _Pickler(pickle._Pickler):
    """Writes Call objects, by the instructions for a global and a call."""

    def save(self, thing, save_persistent_id=True):
        if not isinstance(thing, Call):
            return super().save(thing, save_persistent_id)
        module, name = thing.name.rsplit(".", 1)
        self.write(b"c" + f"{module}\n{name}\n".encode())
        super().save(tuple(str(a) if callable(a) else a for a in thing.args))
        self.write(b"R")


def pickled(content) -> bytes:
    data = io.BytesIO()
    _Pickler(data, 2).dump(content)
    return data.getvalue()


def torch_archive(path, data: bytes, parts=()):
    """A torch file with this pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/version", "3\n")
        for name, content in parts:
            archive.writestr(f"archive/data/{name}", content)
    return path


LEGACY_START = b"".join(pickle.dumps(x, 2) for x in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))


def _text(name: str) -> bytes:
    return b"X" + struct.pack("<I", len(name)) + name.encode()


def _tensor(size, stride, numel=4, storage="torch\nFloatStorage", key="0"):
    """A pickled dictionary with one tensor, as torch.save writes it."""
    persistent = b"(" + _text("storage") + f"c{storage}\n".encode() + _text(key) + _text("cpu")
    persistent += b"\x8a\x08" + struct.pack("<q", numel) + b"tQ"
    numbers = b"".join(
        b"(" + b"".join(b"\x8a\x08" + struct.pack("<q", n) for n in part) + b"t" for part in (size, stride)
    )
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + persistent + b"K\x00" + numbers + b"\x89)tR"
    return (
        b"\x80\x02}"
        + _text("g_ema")
        + b"}("
        + _text("style.1.weight")
        + tensor
        + _text("conv1.conv.modulation.weight")
        + b"Nus."
    )


def _safetensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def _own(**tensor):
    metadata = {"format": "stylegan-fusion/1", "config": json.dumps({"resolution": 32})}
    return {
        "__metadata__": metadata,
        "mapping.w_avg": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **tensor},
    }


def _deflated(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(500_000_000))


def _large_directory(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        for number in range(100_000):
            archive.writestr(f"archive/data/{number}", b"")


def _entry_that_lies(path):
    torch_archive(path, _tensor((4,), (1,)), [("0", bytes(16))])
    data = bytearray(path.read_bytes())
    at = data.rfind(b"archive/data/0") - 46
    data[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFF00, 0xFFFFFF00)  # compressed and plain size
    path.write_bytes(data)


def _rosinality_with(tail: bytes):
    """A good file whose dictionary has one more entry."""

    def write(path):
        save_rosinality(rosinality_generator(), path)
        with zipfile.ZipFile(path) as archive:
            parts = [(name, archive.read(name)) for name in archive.namelist()]
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name, data in parts:
                archive.writestr(name, data[:-1] + _text("extra") + tail + b"s." if name.endswith("data.pkl") else data)

    return write


def _two_directories(path):
    """One for readers that look before the end of the file, one for those that follow its address."""
    _rosinality_with(b"N")(path)
    data = path.read_bytes()
    end = data.rfind(b"PK\x05\x06")
    length, start = struct.unpack_from("<II", data, end + 12)
    path.write_bytes(data[: start + length] + data[start : start + length] + data[end:])


def _one_storage_for_all(path):
    """Every weight of the mapping is the same storage."""
    state = rosinality_state(rosinality_generator())
    shared = torch.randn(16, 16)
    for name in state:
        if state[name].shape == (16, 16):
            state[name] = shared
    torch.save({"g_ema": state}, path)


DEEP_KEY = b"ccollections\nOrderedDict\n]](" + b")" + b"\x85" * 300_000 + b"Nea\x85R"

NESTED = b"\x80\x04}" + b")" + b"\x85" * 300_000 + b"K\x01s."

BOMBS = {
    "a memo index of 268 million": b"\x80\x04K\x01r\x00\x00\x00\x10.",
    "a memo index of 4 billion": b"\x80\x04K\x01r\xff\xff\xff\xff.",
    "a million lists": b"\x80\x04" + b"]" * 3_000_000 + b".",
    "a million objects": b"\x80\x04)" + b"2)R" * 1_000_000 + b".",
    "a million memoized lists": b"\x80\x04" + b"]\x94" * 1_500_000 + b".",
    "bytes of an exabyte": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b"abc.",
    "text of an exabyte": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"abc.",
    "text that grows fourfold": b"\x80\x04\x8d"
    + struct.pack("<Q", 40_000_000)
    + b"a" * 39_999_996
    + "🦊".encode()
    + b".",
    "a number of millions of digits": b"\x80\x04\x8b" + struct.pack("<I", 5_000_000) + b"\x7f" * 5_000_000 + b".",
    "a byte array of terabytes": pickled({"G_ema": Call("builtins.bytearray", 2**42)}),
    "a key nested deeply": NESTED,
    "lists within lists": b"\x80\x04" + b"]" * 400_000 + b"a" * 399_999 + b".",
    "a list that holds itself": b"\x80\x04]\x94h\x00a.",
    "a dictionary that holds itself": b"\x80\x04}\x94(" + _text("G_ema") + b"h\x00u.",
    "a network that holds itself": b"\x80\x04ctorch_utils.persistence\n_reconstruct_persistent_obj\n}\x94"
    b"(" + _text("state") + b"h\x00" + _text("_modules") + b"h\x00u\x85R.",
    "a frame of an exabyte": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"N.",
    "no end": b"\x80\x04" + b"0" * 5,
    "a header of an exabyte": _safetensors(b"{}", length=2**60),
    "a header of gigabytes": _safetensors(b"{" + b" " * 60_000_000, length=60_000_000),
    "a header of lists": _safetensors(b'{"a":[' + b"[]," * 1_300_000 + b"[]]}"),
    "a header nested deeply": _safetensors(b'{"a":' * 100_000),
    "a tensor beyond the file": _safetensors(_own(data_offsets=[0, 2**40], shape=[2**38]), bytes(16)),
    "a tensor of another size": _safetensors(_own(shape=[2**30, 2**30]), bytes(16)),
    "a tensor of negative size": _safetensors(_own(shape=[-4]), bytes(16)),
    "a tensor that starts before the file": _safetensors(_own(data_offsets=[-16, 0]), bytes(16)),
    "a tensor of fractions": _safetensors(_own(shape=[4.0]), bytes(16)),
    "a tensor of an unknown type": _safetensors(_own(dtype="X9"), bytes(16)),
    "a tensor twice": _safetensors({**_own(), "b": _own()["mapping.w_avg"]}, bytes(16)),
    "a configuration of gigabytes": _safetensors(
        {
            "__metadata__": {
                "format": "stylegan-fusion/1",
                "config": '{"resolution": 1024, "channel_base": 1048576, "channel_max": 16384}',
            }
        }
    ),
    "another configuration of gigabytes": _safetensors(
        {
            "__metadata__": {
                "format": "stylegan-fusion/1",
                "config": '{"resolution": 1024, "architecture": "stylegan3", "filter_size": 64, "num_layers": 64, "use_radial_filters": true, "lrelu_upsampling": 8}',
            }
        }
    ),
    "a byte array of terabytes for torch": _rosinality_with(
        b"cbuiltins\nbytearray\n\x8a\x08" + struct.pack("<q", 2**42) + b"\x85R"
    ),
    "a key nested deeply for torch": _rosinality_with(DEEP_KEY),
    "a slow codec": _rosinality_with(b"c_codecs\nencode\n" + _text("a" * 100_000) + _text("punycode") + b"\x86R"),
    "a dictionary that hides its methods": _rosinality_with(
        b"ccollections\nOrderedDict\n)R}" + _text("items") + b"K\x05sb"
    ),
    "thousands of names": _rosinality_with(
        b"](" + b"".join(b"ctorch.nn.modules.a\nx%d\n" % i for i in range(9000)) + b"e"
    ),
    "two directories": _two_directories,
    "one storage for many weights": _one_storage_for_all,
    "an enormous clamp": _safetensors(
        {
            "__metadata__": {
                "format": "stylegan-fusion/1",
                "config": '{"resolution": 32, "conv_clamp": 1' + "0" * 400 + "}",
            }
        }
    ),
    "a sampling rate of nothing": _safetensors(
        {
            "__metadata__": {
                "format": "stylegan-fusion/1",
                "config": '{"resolution": 32, "architecture": "stylegan3", "first_cutoff": 1e-300, "first_stopband": 1e-200}',
            }
        }
    ),
    "a version of great length": _safetensors({"__metadata__": {"format": "stylegan-fusion/" + "x" * 100_000}}),
    "a tensor of nothing, enormous": _safetensors(_own(shape=[0, 2**39, 2**39], data_offsets=[0, 0])),
    "a zip bomb": _deflated,
    "a directory of a hundred thousand parts": _large_directory,
    "a part that lies about its size": _entry_that_lies,
    "a storage of terabytes": lambda path: torch_archive(path, _tensor((4,), (1,), numel=2**40), [("0", bytes(16))]),
    "a storage of negative size": lambda path: torch_archive(path, _tensor((4,), (1,), numel=-4), [("0", bytes(16))]),
    "a storage that is missing": lambda path: torch_archive(path, _tensor((4,), (1,)), [("1", bytes(16))]),
    "a storage elsewhere": lambda path: torch_archive(
        path, _tensor((4,), (1,), key="../../etc/passwd"), [("0", bytes(16))]
    ),
    "one number repeated": lambda path: torch_archive(path, _tensor((2**20, 2**20), (0, 0)), [("0", bytes(16))]),
    "a tensor beyond its storage": lambda path: torch_archive(
        path, _tensor((2**10, 2**10), (2**10, 1)), [("0", bytes(16))]
    ),
    "an unknown storage": lambda path: torch_archive(
        path, _tensor((4,), (1,), storage="torch.storage\nUntypedStorage"), [("0", bytes(16))]
    ),
    "a legacy storage of terabytes": LEGACY_START
    + _tensor((4,), (1,), numel=2**40)
    + pickle.dumps(["0"], 2)
    + bytes(24),
    "a legacy storage that lies": LEGACY_START
    + _tensor((4,), (1,))
    + pickle.dumps(["0"], 2)
    + struct.pack("<q", 2**40)
    + bytes(16),
}
