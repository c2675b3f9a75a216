"""The names that pickles of generators hold. None of them is ever looked up; a file with any other is refused."""

import sys

from .errors import Unsupported
from .inert_pickle import Global, Pickle

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
        "torch._utils._rebuild_parameter_with_state",
        "torch._utils._rebuild_tensor",
        "torch._utils._rebuild_tensor_v2",
        *(f"torch.{name}" for name in ITEM_SIZES),
    }
)
"""What torch writes for tensors and their dictionaries."""

_OMEGACONF = (
    "dictconfig.DictConfig",
    "listconfig.ListConfig",
    "base.ContainerMetadata",
    "base.Metadata",
    "nodes.AnyNode",
)

_LIGHTNING = (
    "pytorch_lightning.utilities.parsing",
    "lightning_fabric.utilities.data",
    "lightning.fabric.utilities.data",
)

_PLAIN = ("dict", "list", "tuple", "int", "float", "bool", "str", "complex")

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
        "__builtin__.frozenset",
        "builtins.frozenset",
        "collections.Counter",
        "collections.defaultdict",
        "collections.deque",
        *(f"{python}.{name}" for python in ("builtins", "__builtin__") for name in _PLAIN),
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "argparse.Namespace",
        "easydict.EasyDict",
        "munch.Munch",
        "addict.Dict",
        "addict.addict.Dict",
        "yacs.config.CfgNode",
        *(
            f"{program}.config.{name}"
            for program in ("mmcv.utils", "mmengine.config")
            for name in ("Config", "ConfigDict")
        ),
        *(f"omegaconf.{name}" for name in _OMEGACONF),
        *(f"{program}.AttributeDict" for program in _LIGHTNING),
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "typing.Any",
        *(f"pathlib.{name}" for name in ("Path", "PosixPath", "PurePath", "PurePosixPath", "WindowsPath")),
        *(f"datetime.{name}" for name in ("date", "datetime", "timedelta", "timezone")),
        "torch.device",
        "torch.nn.backends.thnn._get_thnn_function_backend",
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


_FOLDERS = ("torch.nn.modules.", "torch.nn.parallel.", "torch.optim.")
"""Where torch keeps layers, what wraps them, and optimizers. Trainings save them whole."""

_STDLIB = frozenset({*sys.stdlib_module_names, "__builtin__", "copy_reg", "torch", "numpy"})


def require_harmless(content: Pickle) -> None:
    """Raise FileError when a pickle names anything else than what generators' pickles hold, and the classes of modules
    that were saved whole."""
    classes = _module_classes(content)
    foreign = sorted(str(name) for name in content.globals if not (_is_harmless(name) or name in classes))
    if foreign:
        raise Unsupported(
            f"is refused: it names {foreign[0][:80]}, which no generator needs, and which other programs may run when "
            "they open the file",
            "get the generator from another place",
        )


def _is_harmless(name: Global) -> bool:
    return str(name) in HARMLESS or (f"{name.module}.".startswith(_FOLDERS) and name.name.isidentifier())


def _module_classes(content: Pickle) -> set[Global]:
    """Classes of which the pickle makes nothing but bare objects that are given the attributes of a torch module."""
    made: dict[Global, int] = {}
    for record in content.calls:
        match record.maker, record.args, record.state:
            case Global() as name, (), {"_parameters": _, "_modules": _} if not record.called:
                made[name] = made.get(name, 0) + 1
    return {
        name
        for name, count in made.items()
        if count == content.uses[name] and name.module.split(".")[0] not in _STDLIB and name.name.isidentifier()
    }
