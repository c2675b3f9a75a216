"""CLIP's text encoders with their tokenizers: what a diffusion model reads of a prompt."""

import contextlib
import gzip
import json
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .embeddings import Embedding
from .prompts import Marks, chunks, embeddings_in, empty_chunk

logger = logging.getLogger(__name__)

MERGES = Path(__file__).parent / "clip" / "merges.txt.gz"
"""The merges of CLIP's byte pair encoding (OpenAI, MIT), most frequent first; its vocabulary follows from them."""

START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass(frozen=True)
class TextEncoder:
    """A TextEncoder is a text model of transformers with its tokenizer, and the layer of it that is read."""

    model: Any  # CLIPTextModel or CLIPTextModelWithProjection
    tokenizer: Any  # CLIPTokenizer
    layer: int = -1  # -1 is the last one
    normed: bool = True  # whether the final layer norm follows
    embeddings: Mapping[str, Embedding] = field(default_factory=dict)  # that prompts may name
    key: str = "clip_l"  # what embeddings call it

    @property
    def length(self) -> int:
        """Return how many tokens the model reads at once."""
        return self.model.config.max_position_embeddings

    @property
    def width(self) -> int:
        """Return of how many numbers a token is."""
        return self.model.config.hidden_size

    @property
    def marks(self) -> Marks:
        start, end = self.tokenizer("").input_ids
        pad = self.tokenizer.pad_token_id
        return Marks(start, end, end if pad is None else pad)

    @torch.no_grad()
    def encode(self, prompt: str) -> tuple[Tensor, Tensor | None]:
        """Encode a prompt of any length to its states [tokens, width], and to what its first chunk means as a whole
        [width] where the model says it.

        All chunks are encoded apart and joined. A token of weight s has the state e + s (h - e), where h is its state
        and e that of the empty prompt at its place."""
        vectors = {name: self._vectors(name) for name in embeddings_in(prompt, self.embeddings)}
        made = chunks(prompt, self._tokens, self.marks, self.length, vectors)
        weights = torch.tensor([[weight for _, weight in chunk] for chunk in made])
        weighted = bool((weights != 1).any())
        rows = [*made, empty_chunk(self.marks, self.length)] if weighted else made
        found = self._run([[token for token, _ in chunk] for chunk in rows])
        states = found.last_hidden_state if self.layer == -1 else found.hidden_states[self.layer]
        if self.layer != -1 and self.normed:
            states = getattr(self.model, "text_model", self.model).final_layer_norm(states)
        if weighted:
            states, empty = states[:-1], states[-1:]
            states = torch.where((weights == 1)[..., None], states, empty + weights[..., None] * (states - empty))
        pooled = getattr(found, "text_embeds", None)
        return states.flatten(0, 1), None if pooled is None else pooled[0]

    def _tokens(self, text: str) -> list[int]:
        return self.tokenizer(text, verbose=False).input_ids[1:-1]

    def reads(self, embedding: Embedding) -> bool:
        """Tell whether the vectors of an embedding can stand in the place of tokens here."""
        return embedding.vectors(self.key, self.width).shape[1] == self.width

    def _vectors(self, name: str) -> Tensor:
        embedding = self.embeddings[name]
        if not self.reads(embedding):
            logger.warning("%s has no vectors for the text encoder that embeddings call %s.", embedding.path, self.key)
        return embedding.vectors(self.key, self.width)

    def _run(self, rows: Sequence[Sequence[int | Tensor]]) -> Any:
        """Run the model on rows of tokens, of which vectors take the place of what the model knows of them."""
        marks = self.marks
        # Vectors of another width are left out, and what is left is filled up at its end, as ComfyUI does.
        kept = [[one for one in row if not _is_vector(one) or len(one) == self.width] for row in rows]
        kept = [[*row, *[marks.pad] * (self.length - len(row))] for row in kept]
        tokens = torch.tensor([[marks.start if _is_vector(one) else one for one in row] for row in kept])
        vectors = [
            ((row, place), one) for row, all in enumerate(kept) for place, one in enumerate(all) if _is_vector(one)
        ]
        with _placed(self.model.get_input_embeddings(), vectors):
            return self.model(tokens.to(self.model.device), output_hidden_states=self.layer != -1)


def _is_vector(token: int | Tensor) -> bool:
    return isinstance(token, Tensor)


@contextlib.contextmanager
def _placed(layer: Any, vectors: Sequence[tuple[tuple[int, int], Tensor]]) -> Iterator[None]:
    """Let a layer that gives each token its vector give these ones at their places, row and column."""

    def place(module: Any, inputs: Any, found: Tensor) -> Tensor:
        found = found.clone()
        for where, vector in vectors:
            found[where] = vector.to(found)
        return found

    handle = layer.register_forward_hook(place)
    try:
        yield
    finally:
        handle.remove()


def clip_tokenizer(pad: str = END) -> Any:
    """Make the tokenizer of every CLIP text encoder in Stable Diffusion, of 49408 tokens; OpenCLIP's pad with "!"."""
    from transformers import CLIPTokenizer

    merges = gzip.decompress(MERGES.read_bytes()).decode().splitlines()
    letters = _letters()
    words = [*letters, *(f"{letter}</w>" for letter in letters), *("".join(pair.split()) for pair in merges)]
    vocabulary = {word: number for number, word in enumerate([*words, START, END])}
    options = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": pad}
    with tempfile.TemporaryDirectory() as folder:  # the one way that all versions of the library read
        place = Path(folder)
        (place / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
        (place / "merges.txt").write_text("\n".join(["#version: 0.2", *merges, ""]), encoding="utf-8")
        (place / "tokenizer_config.json").write_text(json.dumps(options), encoding="utf-8")
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def _letters() -> list[str]:
    """The letters that stand for the 256 bytes, in the order of CLIP's vocabulary: printable ones for themselves first."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = 256 - len(printable)
    return [chr(byte) for byte in printable] + [chr(256 + number) for number in range(others)]
