"""What ComfyUI makes of a prompt, without ComfyUI: weights from parentheses, and chunks as long as a text encoder reads.

One prompt means the same on both sides: the rules here are those of its tokenizers for Stable Diffusion.
"""

import contextlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

EMPHASIS = 1.1
"""The weight of parentheses that name none; nested ones multiply."""

_LONG = 8  # tokens from which on a piece of text is broken where a chunk ends, instead of moved to the next one
_OPEN, _CLOSE = "\0\2", "\0\1"  # stand for \( and \) while parentheses are read
_EMBEDDING = re.compile(r"(?:^|\s)embedding:(\S+)")

Token = tuple[int, float]
"""A token's number and its weight."""


@dataclass(frozen=True)
class Marks:
    """Marks are the tokens around and behind a text."""

    start: int
    end: int
    pad: int


def weighted_pieces(prompt: str) -> list[tuple[str, float]]:
    """Split a prompt into pieces with weights: "(a fox:1.3)" weighs 1.3 whatever is around it, "(a fox)" is 1.1 times
    what is around it, and \\( and \\) are parentheses of the text. Raises ValueError with a sentence where a weight is
    no finite number, for embeddings, which only ComfyUI reads, and for parentheses in too many others."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise ValueError("The prompt holds letters that are none; see that the terminal writes UTF-8.") from None
    if named := _EMBEDDING.search(prompt):
        raise ValueError(
            f"The prompt names the embedding {named[1]!r}; embeddings are read in ComfyUI only. Write words in its place."
        )
    try:
        pieces = list(_weighted(prompt.replace("\\)", _CLOSE).replace("\\(", _OPEN), 1.0))
    except RecursionError:
        raise ValueError("The prompt has parentheses in hundreds of others; leave some out.") from None
    for text, weight in pieces:
        if not math.isfinite(weight):
            raise ValueError(f"The weight of {text!r} in the prompt is {weight}; give a number such as 1.2.")
    return [(text.replace(_CLOSE, ")").replace(_OPEN, "("), weight) for text, weight in pieces]


def chunks(prompt: str, tokenize: Callable[[str], Sequence[int]], marks: Marks, length: int) -> list[list[Token]]:
    """Turn a prompt into chunks of exactly `length` tokens, each between the marks of start and end.

    `tokenize` gives the tokens of a text without marks. Where a piece of one weight does not fit into what is left of a
    chunk, a short one goes to the next chunk as a whole, and a long one is broken."""
    made = [[(marks.start, 1.0)]]
    for text, weight in weighted_pieces(prompt):
        tokens = [(token, weight) for token in tokenize(text)]
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
