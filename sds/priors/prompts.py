"""What ComfyUI makes of a prompt, without ComfyUI: weights from parentheses, and chunks as long as a text encoder reads.

One prompt means the same on both sides: the rules here are those of its tokenizers for Stable Diffusion.
"""

import contextlib
import math
import re
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from torch import Tensor

EMPHASIS = 1.1
"""The weight of parentheses that name none; nested ones multiply."""

_LONG = 8  # tokens from which on a piece of text is broken where a chunk ends, instead of moved to the next one
_OPEN, _CLOSE = "\0\2", "\0\1"  # stand for \( and \) while parentheses are read
_EMBEDDING = "embedding:"
_EMBEDDINGS = re.compile(rf"(?<=\s)(?={_EMBEDDING})")  # where texts are parted
_NAME_ENDS = re.compile(r"[\s<\[]")

Token = tuple[int | Tensor, float]
"""A token's number, or the vector that stands in its place, and its weight."""


@dataclass(frozen=True)
class Marks:
    """Marks are the tokens around and behind a text."""

    start: int
    end: int
    pad: int


def weighted_pieces(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt into pieces with weights: "(a fox:1.3)" weighs 1.3 whatever is around it, "(a fox)" is 1.1 times
    what is around it, and \\( and \\) are parentheses of the text. Raises ValueError with a sentence where a weight is
    no finite number, and for parentheses in too many others."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("The prompt holds letters that are none; see that the terminal writes UTF-8.") from None
    try:
        pieces = list(_weighted(prompt.replace("\\)", _CLOSE).replace("\\(", _OPEN), 1.0))
    except RecursionError:
        raise ValueError("The prompt has parentheses in hundreds of others; leave some out.") from None
    for text, weight in pieces:
        if not math.isfinite(weight):
            raise ValueError(f"The weight of {text!r} in the prompt is {weight}; give a number such as 1.2.")
    return [(text.replace(_CLOSE, ")").replace(_OPEN, "("), weight) for text, weight in pieces]


def words_and_embeddings(text: str, known: Container[str]) -> list[tuple[str, str]]:
    """Split a text of one weight into pairs of the name of an embedding, "" for none, and the words behind it. An
    embedding is `embedding:name`, at the beginning or behind a space; a comma behind the name is none of it. Raises
    ValueError with a sentence for a name that is not among the `known` ones."""
    found = []
    for piece in filter(None, _EMBEDDINGS.split(text)):
        if not piece.startswith(_EMBEDDING):
            found.append(("", piece))
            continue
        said = piece.removeprefix(_EMBEDDING).lstrip()
        end = _NAME_ENDS.search(said)
        name, rest = (said[: end.start()], said[end.start() :]) if end else (said, "")
        if name not in known and (bare := name.strip(",")) in known:
            name, rest = bare, name[name.index(bare) + len(bare) :] + rest
        if name not in known:
            raise ValueError(
                f"The prompt names the embedding {name!r}, which is not there; give its file with --embedding {name}.safetensors, "
                "or write words in its place."
            )
        found.append((name, " ".join(rest.split())))
    return found


def embeddings_in(prompt: str, known: Container[str]) -> set[str]:
    """Find the names of the embeddings in a prompt. Raises ValueError as `weighted_pieces` and `words_and_embeddings`."""
    named = (words_and_embeddings(text, known) for text, _ in weighted_pieces(prompt))
    return {name for pairs in named for name, _ in pairs if name}


def chunks(
    prompt: str,
    tokenize: Callable[[str], Sequence[int]],
    marks: Marks,
    length: int,
    embeddings: Mapping[str, Sequence[Tensor]] = MappingProxyType({}),
) -> list[list[Token]]:
    """Turn a prompt into chunks of exactly `length` tokens, each between the marks of start and end.

    `tokenize` gives the tokens of a text without marks, `embeddings` the vectors of each name. Where an embedding, or the
    words of one weight up to the next embedding, do not fit into what is left of a chunk, a short one goes to the next
    chunk as a whole, and a long one is broken."""
    made = [[(marks.start, 1.0)]]
    groups = [
        [(token, weight) for token in group]
        for text, weight in weighted_pieces(prompt)
        for name, words in words_and_embeddings(text, embeddings)
        for group in ((embeddings[name] if name else ()), tokenize(words) if words else ())
    ]
    for tokens in groups:
        breaks = len(tokens) >= _LONG
        while tokens:
            room = length - 1 - len(made[-1])
            if len(tokens) <= room:
                made[-1] += tokens
                break
            if breaks:
                made[-1] += tokens[:room]
                tokens = tokens[room:]
            made.append([(marks.start, 1.0)])
    return [_filled(chunk, marks, length) for chunk in made]


def empty_chunk(marks: Marks, length: int) -> list[Token]:
    """Return the chunk of an empty prompt, from which weights lead away."""
    return _filled([(marks.start, 1.0)], marks, length)


def _filled(chunk: list[Token], marks: Marks, length: int) -> list[Token]:
    chunk = [*chunk, (marks.end, 1.0)]
    return chunk + [(marks.pad, 1.0)] * (length - len(chunk))


def _weighted(text: str, weight: float) -> Iterator[tuple[str, float]]:
    for piece in _outermost(text):
        # A parenthesis that never closes counts as well where its text ends in one.
        if len(piece) < 2 or piece[0] != "(" or piece[-1] != ")":
            yield piece, weight
            continue
        inside, own = piece[1:-1], weight * EMPHASIS
        words, colon, number = inside.rpartition(":")
        if colon and words:
            with contextlib.suppress(ValueError):  # a colon of the text
                own, inside = float(number), words
        yield from _weighted(inside, own)


def _outermost(text: str) -> Iterator[str]:
    """Split a text into its outermost pairs of parentheses and what is between them."""
    depth = begin = 0
    for place, letter in enumerate(text):
        if letter == "(":
            if depth == 0 and place > begin:
                yield text[begin:place]
                begin = place
            depth += 1
        elif letter == ")":
            depth -= 1
            if depth == 0:
                yield text[begin : place + 1]
                begin = place + 1
    if begin < len(text):
        yield text[begin:]
