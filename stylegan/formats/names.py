"""The names that pickles of generators hold. None of them is ever looked up; a file with any other is refused."""

from collections.abc import Iterable

from .errors import Unsupported
from .inert_pickle import Global

ITEM_SIZES = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
"""Bytes of one number in torch's storages."""

TENSORS = frozenset(
    {
        "collections.OrderedDict",
        "torch.Size",
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        *(f"torch.{name}" for name in ITEM_SIZES),
    }
)
"""What torch writes for tensors and their dictionaries."""

_TRAINING = frozenset(
    {
        *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
        "numpy.dtype",
        "numpy.ndarray",
        "_codecs.encode",
        "__builtin__.object",
        "__builtin__.set",
        "builtins.bytearray",
        "builtins.object",
        "builtins.set",
        "builtins.slice",
        "collections.defaultdict",
        "builtins.dict",
        "builtins.list",
        "builtins.int",
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "argparse.Namespace",
        "easydict.EasyDict",
        "munch.Munch",
        *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath")),
        "datetime.datetime",
        "torch.device",
        *(f"torch.{name}" for name in ("float16", "float32", "float64", "int32", "int64", "uint8", "bool")),
    }
)
"""What trainings put beside the weights: their settings and records."""

PROGRAMS = frozenset(
    {
        "torch.storage._load_from_bytes",
        "torch_utils.persistence._reconstruct_persistent_obj",
        "dnnlib.EasyDict",
        "dnnlib.util.EasyDict",
        "dnnlib.tflib.network.Network",
    }
)
"""What NVlabs' programs write."""

HARMLESS = TENSORS | _TRAINING | PROGRAMS

IGNORED = frozenset(
    name for name in _TRAINING if not name.startswith(("builtins.", "__builtin__.", "_codecs.", "copy", "torch."))
)
"""What torch may be told to ignore: nothing of Python itself or of torch, which its reader may know and make."""


def _is_harmless(name: Global) -> bool:
    # Discriminators and losses of some trainings are made of torch's own layers.
    return str(name) in HARMLESS or (name.module.startswith("torch.nn.modules.") and name.name.isidentifier())


def require_harmless(names: Iterable[Global]) -> None:
    """Raise FileError when a pickle names anything else than what generators' pickles hold."""
    foreign = sorted(str(name) for name in names if not _is_harmless(name))
    if foreign:
        raise Unsupported(
            f"is refused: it names {foreign[0]}, which no generator needs, and which other programs may run when they "
            "open the file",
            "get the generator from another place",
        )
