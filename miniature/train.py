"""Train every model of the miniature world: python -m comfyui_stylegan_fusion.miniature.train

The stages run in order, each in a folder of its own under training-runs/; an interrupted run goes on where it was.
"""

import argparse
import importlib
import logging
from pathlib import Path

import torch

from . import WEIGHTS

STAGES = {
    "classifier": ("train_classifier", {}),
    "vae": ("train_vae", {}),
    "diffusion": ("train_diffusion", {}),
    "generator": ("train_generator", {}),
    "cat": ("train_generator", {"domain": "cat"}),
    "head": ("train_heads", {}),
    "clip": ("train_clip", {}),
    "lora": ("train_lora", {}),
}
"""What is trained, in this order, each by the module that says how."""
CONTINUED = ("diffusion", "generator", "cat", "head")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"which of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("training-runs"), help="where the states are kept")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the finished weights are written")
    parser.add_argument("--steps", type=int, help="fewer or more steps than the stage's own number")
    parser.add_argument("--threads", type=int, help="processor cores to use")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FOLDER",
        help=f"begin from the weights in this folder, for {', '.join(CONTINUED)}: a further round, with fresh moments",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.stages if name not in STAGES]
    if unknown:
        parser.error(f"there is no stage {unknown[0]!r}; choose from {', '.join(STAGES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in options.stages or STAGES:
        module, extra = STAGES[name]
        extra = extra | ({"steps": options.steps} if options.steps else {})
        if options.start and name in CONTINUED:
            extra |= {"start": options.start}
        importlib.import_module(f".{module}", __package__).run(options.folder / name, options.weights, **extra)


if __name__ == "__main__":
    main()
