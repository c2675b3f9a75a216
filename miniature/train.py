"""Train every model of the miniature world: python -m comfyui_stylegan_fusion.miniature.train

The stages run in order, each in a folder of its own under training-runs/; an interrupted run goes on where it was.
"""

import argparse
import importlib
import logging
from pathlib import Path

import torch

from . import WEIGHTS

STAGES = ("classifier", "vae", "diffusion", "generator", "clip", "lora")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", metavar="STAGE", help=f"which of {', '.join(STAGES)} (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("training-runs"), help="where the states are kept")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the finished weights are written")
    parser.add_argument("--steps", type=int, help="fewer or more steps than the stage's own number")
    parser.add_argument("--threads", type=int, help="processor cores to use")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.stages if name not in STAGES]
    if unknown:
        parser.error(f"there is no stage {unknown[0]!r}; choose from {', '.join(STAGES)}")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.threads:
        torch.set_num_threads(options.threads)
    for name in options.stages or STAGES:
        stage = importlib.import_module(f".train_{name}", __package__)
        extra = {"steps": options.steps} if options.steps else {}
        stage.run(options.folder / name, options.weights, **extra)


if __name__ == "__main__":
    main()
