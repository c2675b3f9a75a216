"""Textual inversion embeddings: vectors that stand for a word, `embedding:name` in a prompt, as ComfyUI reads them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...stylegan.formats.arrays import weight
from ...stylegan.formats.errors import FileError
from ...stylegan.formats.modules import dictionary, network
from ...stylegan.formats.torch_files import STARTS, read_torch
from .weights import WeightFiles, require_finite

LARGEST = 2**27
"""Bytes of a file with an embedding, by far: a hundred vectors take less than a megabyte."""

_OF_WEBUI = "string_to_param"  # the dictionary, of one entry, in files of the web interface that most are made with
_BUNDLED = "bundle_emb."  # the beginning of the names of embeddings in a file of LoRA's layout
_KEYS = {"clip_l", "clip_g", "clip_h", "emb_params", "*"}  # of which a file may have several


class Embedding:
    """An Embedding is what a file holds for each text encoder."""

    def __init__(self, path: Path):
        """Raises FileNotFoundError or ValueError with a sentence."""
        self.path = path
        self._found = _read(path)

    def vectors(self, key: str, width: int) -> Tensor:
        """Return the vectors [n, width of the file's] for the text encoder that embeddings know as `key` (clip_l, clip_g,
        clip_h), whose tokens have `width` numbers. Which of several tensors it is follows ComfyUI."""
        found = self._found
        if isinstance(found, list):
            fitting = [value for value in found if value.shape[-1] == width]
            return torch.cat([value.reshape(-1, width) for value in fitting or found[:1]])
        bundles = (
            [value for name, value in found.items() if name.startswith(_BUNDLED) and name.endswith(end)]
            for end in (f".{_OF_WEBUI}.*", f".{key}")
        )
        bundled = next((bundle for bundle in bundles if bundle), None)
        if key in found:
            value = found[key]
        else:
            value = torch.cat(bundled) if bundled else next(iter(found.values()))
        return value.reshape(-1, value.shape[-1])


class Embeddings(Mapping[str, Embedding]):
    """Embeddings are found by what prompts call them: the names of their files, with or without the ending."""

    def __init__(self, paths: Sequence[Path] = ()):
        """Raises FileNotFoundError or ValueError with a sentence for a file that cannot be read, and for two of one
        name."""
        self._by_name: dict[str, Embedding] = {}
        for path in paths:
            embedding = Embedding(path)
            for name in names_of([path]):
                if name in self._by_name:
                    raise ValueError(
                        f"Two files of --embedding are called {name!r}: {self._by_name[name].path} and {path}. Rename one."
                    )
                self._by_name[name] = embedding

    def __getitem__(self, name: str) -> Embedding:
        return self._by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def names_of(paths: Iterable[Path]) -> set[str]:
    """Return what prompts may call the embeddings in these files."""
    return {name for path in paths for name in (path.stem, path.name)}


def _read(path: Path) -> list[Tensor] | dict[str, Tensor]:
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}; check the name and the folder.")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is far larger than any embedding; give a file of textual inversion.")
    with path.open("rb") as file:
        start = file.read(16)
    found = _torch_file(path) if start.startswith(STARTS) else dict(WeightFiles(path))
    values = found if isinstance(found, list) else list(found.values())
    named = isinstance(found, list) or len(found) < 2 or any(n in _KEYS or n.startswith(_BUNDLED) for n in found)
    if not values or not named or any(value.ndim not in (1, 2) or not value.numel() for value in values):
        raise ValueError(f"{path} holds no embedding; give a file of textual inversion.")
    for value in values:
        require_finite(value, f"The embedding {path}", "a vector")
    return [v.float() for v in found] if isinstance(found, list) else {n: v.float() for n, v in found.items()}


def _torch_file(path: Path) -> list[Tensor] | dict[str, Tensor]:
    """Read what torch.save wrote, as data."""
    try:
        with path.open("rb") as file:
            root = read_torch(file)
            if isinstance(root, list):
                return [tensor for entry in root for tensor in _tensors(entry).values()]
            entries = dictionary(root) or {}
            return _tensors(entries.get(_OF_WEBUI, root))
    except FileError as error:
        raise ValueError(f"{path} {error}") from None


def _tensors(value: Any) -> dict[str, Tensor]:
    """The tensors of a dictionary, or of a module's parameters, in their order."""
    if (entries := dictionary(value)) is not None:
        weights = {str(name): weight(entry) for name, entry in entries.items()}
    else:
        weights = dict(found.weights) if (found := network(value)) else {}
    return {name: found.read() for name, found in weights.items() if found is not None}
