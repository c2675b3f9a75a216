"""A process that trains one run after the other: its arguments come in as lines of JSON, what became of it goes out as one.

python -m comfyui_stylegan_fusion.cli.sweep.worker"""

import contextlib
import functools
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LOG = "log.txt"
SCORED = 32  # pictures
DONE, STOPPED, FAILED = "done", "stopped", "failed"


def work(arguments: Sequence[str], folder: Path, clip: str | None = None) -> dict:
    """Train by these arguments of the command line, and score what it made by a CLIP where one is named; what became of
    it. What the command prints goes to a file in the folder."""
    from .. import main

    printed, start = io.StringIO(), time.monotonic()
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            status = main(arguments)
    except SystemExit as error:
        status = int(error.code or 0)
    text = printed.getvalue()
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / LOG).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text)
    state = DONE if status == 0 else STOPPED if status >= 128 else FAILED
    found = {"state": state, "said": "" if status == 0 else _sentence(text), "seconds": time.monotonic() - start}
    if state == DONE and clip:
        try:
            found["clip"] = score(folder, clip)
        except Exception as error:  # no score is worth losing a run for
            found["said"] = f"It has no CLIP score: {error}"
    return found


def score(folder: Path, clip: str) -> float:
    """Return the CLIP score of a run's generator: 100 times the mean cosine of its pictures with its prompt."""
    import torch

    from ...metrics.colours import rgb
    from ...stylegan import load_generator, render_samples, sample_z
    from ..run_folder import RunFolder

    of_run, loaded = RunFolder(folder), _clip(clip)
    generator = load_generator(of_run.generator)
    images = rgb(render_samples(generator, sample_z(generator.z_dim, SCORED, seed=0))).clamp(-1, 1)
    text = loaded.embed_text(of_run.read()[0].prompt)
    return 100 * torch.cosine_similarity(loaded.embed_images(images), text[None]).mean().item()


@functools.lru_cache(1)
def _clip(name: str):
    from ..clip import Clip
    from ..terminal import device_named

    return Clip(name, device_named(None))


def _sentence(text: str) -> str:
    """The last thing that the command said."""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    said = [line.partition("stylegan-fusion: ")[2] for line in lines if line.startswith("stylegan-fusion: ")]
    return (said or lines or ["It ended without a word."])[-1]


def main() -> int:
    """Work on what comes in until nothing more does."""
    answers, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(work(asked["arguments"], Path(asked["folder"]), asked["clip"])), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
