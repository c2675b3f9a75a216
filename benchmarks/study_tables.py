"""The study's tables in Markdown: of groups as they are, and those of a page, between its comments."""

import re
import statistics
from collections.abc import Callable, Sequence

from study_cells import BASE, CLIP, FASTER, GROUPS, KEPT, PAIRS, STRONGER_SDS, TOWARDS, Cell

SCORING = range(3)
"""Seeds; others chose settings and score nothing."""

COURSE = ("100", "200", "300", "400", "600", "800", "1000", "1200")
HEAD = (
    "distance",
    "of the frozen one's",
    "read as it",
    "diversity, of latents",
    "detail",
    "CLIP",
    "outlines",
    "background",
)
NAMES = {
    "VSD": "not normalized (VSD)",
    "DMD": "distribution matching, as in DMD",
    "DMD in low rank": "the same in low rank, 8",
    "targets": "150 targets",
    "targets and discriminator": "150 targets, discriminator",
}
"""What the page calls rows of the groups."""

Found = Sequence[dict]
"""What a cell measured, of each seed."""


def mean(values: Sequence[float], form: str) -> str:
    """Write the mean, and the standard deviation of more than one."""
    numbers = [statistics.mean(values), *([statistics.stdev(values)] if len(values) > 1 else [])]
    written = " ± ".join(f"{number:{form}}" for number in numbers)
    return written.replace("%", "", len(numbers) - 1).replace("%", " %")


def seconds(found: Found) -> str:
    return mean([one["seconds"] for one in found], ".0f") if "seconds" in found[0] else "-"


def from_edited(found: Found) -> str:
    """Write the distances from edited pictures, of each strength."""
    strengths = found[0].get("to_edits", {})
    return " / ".join(mean([one["to_edits"][name] for one in found], ".0f") for name in strengths) or "-"


def shown(found: Found) -> str:
    """Write how often what the prompt names is found; smiles cannot be read."""
    names = {name: re.sub("a portrait of a |wearing |on a ", "", name) for name in found[0]["shown"]}
    read = {name: short for name, short in names.items() if short not in ("smiling", "sad")}
    return ", ".join(f"{short} {mean([one['shown'][name] for one in found], '.0%')}" for name, short in read.items())


FURTHER: dict[str, Callable[[Found], str]] = {
    "seconds": seconds, "from edited ones, .5 / .7 / .9": from_edited, "shown": shown
}  # fmt: skip
"""Columns that some tables have, too."""


def row(label: str, found: Found, further: str = "") -> str:
    def of(name: str, form: str) -> str:
        return mean([one[name] for one in found], form) if name in found[0] else "-"

    outlines = [f"{name} {mean([one['outlines'][name] for one in found], '.0%')}" for name in found[0]["outlines"]]
    many = f" ({len(found)} seeds)" if len(found) > 1 else ""
    cells = [
        label + many, of("distance", ".1f"), of("of_frozen", ".0%"), of("read", ".0%"),
        f"{of('diversity', '.0%')}, {of('coded_diversity', '.0%')}", of("detail", ".2f"), of("clip", ".0f"),
        ", ".join(outlines), of("background", ".3f"),
    ]  # fmt: skip
    return "| " + " | ".join([*cells, *([FURTHER[further](found)] if further else [])]) + " |"


def table(study, rows: Sequence[tuple[str, str]], title="", further="", seeds=SCORING, frozen=False) -> str:
    """Write rows, each a label and a cell's words, as far as they are measured; without a title under the names of their
    pairs, with `frozen` below the frozen generator."""
    head = [title, *HEAD, *([further] if further else [])]
    lines, pair = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)], None
    for label, words in rows:
        cell = Cell.parse(words)
        if not (found := measured(study, words, seeds)):
            continue
        if not title and pair != (pair := (cell.source, cell.target)):
            lines.append(f"| **{' to '.join(pair)}** |" + " |" * (len(head) - 1))
            if frozen:
                pictures, _ = study.measures.frozen(cell.source)
                lines.append(row("frozen generator", [study.measures.compare(pictures, Cell("", *pair))], further))
        lines.append(row(NAMES.get(label, label), found, further))
    return "\n".join(lines)


def beside_clip(study) -> str:
    """Write the distances of every pair, and what targets leave of CLIP's."""
    columns = {
        "CLIP-directional": (f"clip {CLIP} learning_rate=0.008",),
        "SDS, scale 1.25": (f"sds {KEPT} {BASE} {FASTER}",),
        "SDS, scale 2": (STRONGER_SDS,),
        "CSD": (f"csd {KEPT} {BASE}",),
        "targets": (f"targets(count=150) {TOWARDS}", f"targets(count=150,adversarial=0.5) {TOWARDS}"),
    }
    head = ["distance from the target", "frozen", *columns, "targets, of CLIP's"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for pair in PAIRS:
        distances, whole = {}, 0.0
        for name, choices in columns.items():
            found = next(filter(None, (measured(study, f"{pair} {words}") for words in choices)), [])
            distances[name] = [one["distance"] for one in found]
            whole = found[0]["distance"] / found[0]["of_frozen"] if found else whole
        written = {name: mean(values, ".1f") if values else "-" for name, values in distances.items()}
        written["targets"] = f"**{written['targets']}**"
        left = statistics.mean(distances["targets"]) / statistics.mean(distances["CLIP-directional"])
        lines.append(f"| {pair.replace('-', ' to ')} | {whole:.1f} | {' | '.join(written.values())} | {left:.2f} |")
    return "\n".join(lines)


def course(study) -> str:
    """Write how distance, variety and detail go on over the steps of a training."""
    lines = [f"| person to fox, after steps | {' | '.join(COURSE)} |", "|" + "---|" * (len(COURSE) + 1)]
    for label, words in GROUPS["regularizers"]:
        if not (found := measured(study, words)):
            continue
        for name, form in (("distance", ".0f"), ("diversity", ".0%"), ("detail", ".2f")):
            values = [mean([one["course"][step][name] for one in found], form) for step in COURSE]
            lines.append(f"| {label}: {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def measured(study, words: str, seeds=SCORING) -> list[dict]:
    cell = Cell.parse(words)
    return [one for seed in seeds if (one := study.find(cell, seed))]


def of_group(name: str, title: str = "", further: str = "", **given) -> Callable:
    return lambda study: table(study, GROUPS[name], title, further, **given)


PAGE: dict[str, Callable] = {
    "beside CLIP": beside_clip,
    "pairs": of_group("pairs"),
    "rates": of_group("rates", seeds=[100]),
    "sds": of_group("sds", "person to robot"),
    "scales": of_group("scales"),
    "clamps": of_group("clamps", "person to fox, SDS"),
    "terms": of_group("terms"),
    "timesteps": of_group("timesteps", "person to fox, SDS"),
    "timesteps of an image": of_group("timesteps of an image", further="seconds"),
    "latents of a pool": of_group("latents of a pool", further="seconds"),
    "layers": of_group("layers", "person to fox, SDS", "from edited ones, .5 / .7 / .9"),
    "course": course,
    "regularizers": of_group("regularizers", "person to fox, after 1200 steps"),
    "long prompts": of_group("long prompts", further="shown"),
    "optimizers": of_group("optimizers", further="seconds"),
    "tuned on a style": of_group("tuned on a style", "person to statue"),
}
"""The tables of a page by what its comments call them."""


def written_into(page: str, study) -> str:
    """Return a page with its tables as they are measured by now: what stands between <!-- table: NAME --> and
    <!-- end -->."""

    def now(found: re.Match) -> str:
        return f"<!-- table: {found[1]} -->\n{PAGE[found[1]](study)}\n<!-- end -->"

    return re.sub(r"<!-- table: (.*?) -->\n.*?<!-- end -->", now, page, flags=re.S)
