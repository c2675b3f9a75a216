"""What should be known of prompts before a training follows them. None of it is an error: a LoRA may say what no prompt
can."""

from collections.abc import Collection

from ...miniature.factors import DOMAINS

EMPTY = "The prompt is empty: nothing says what the generator shall draw. Write it into the text that is linked to positive."
SAME = (
    "The positive and the negative prompt are the same: between them nothing pulls. Say in the positive one what the "
    "generator shall draw, and in the negative one what it draws now, or nothing."
)


def prompt_warnings(blank: bool, same: bool, unknown: Collection[str]) -> tuple[str, ...]:
    """Return sentences on a prompt that is blank, that is the same as the negative one, or whose words the model never
    learned."""
    found = [EMPTY] if blank else [SAME] if same else []
    if unknown:
        words = ", ".join(f'"{word}"' for word in unknown)
        found.append(
            f"The miniature never learned {words} and reads {'it' if len(unknown) == 1 else 'them'} letter by letter. It "
            f"knows portraits of a {', '.join(DOMAINS[:-1])} and {DOMAINS[-1]}; real checkpoints know nearly every word."
        )
    return tuple(found)
