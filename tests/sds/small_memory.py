"""Trains a generator within a limit of memory: `small_memory.py FOLDER SPARE_MEGABYTES`."""

import logging
import resource
import sys
from pathlib import Path

import torch
from comfyui_stylegan_fusion.sds import Prior, SavedTraining, TrainingOutOfMemory, TrainSettings, train_generator
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig, save_generator


class Plain(Prior):
    """Draws to gray."""

    image_size = 64
    device = torch.device("cpu")

    def schedule(self, t):
        return 0.8, 0.6

    def encode(self, images, recompute=False):
        return torch.nn.functional.avg_pool2d(images, 8)

    def guided(self, z_t, t, scaling=1.0):
        return z_t


def used() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(folder: Path, spare: int) -> None:
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    small, large = (Generator(GeneratorConfig(size, 16, 16, 0, 2, 4096, 16)).eval() for size in (32, 256))
    saved = SavedTraining(folder / "training.safetensors", every=1)

    def train(generator: Generator, batch_size: int, where: SavedTraining | None):
        settings = TrainSettings(steps=1, batch_size=batch_size, diversity_samples=2)
        return train_generator(generator.requires_grad_(False), Plain(), settings, saved=where)

    # Libraries take theirs when they are first used, and what is freed may be used again: little, here.
    train(small, 1, None)
    limit = used() + spare * 1_000_000
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    try:
        result = train(large, 16, saved)
        print("done", result.steps_done)
    except TrainingOutOfMemory as error:
        result = error.result
        print(type(error).__name__, error)
    save_generator(result.generator, folder / "generator.safetensors")
    resource.setrlimit(resource.RLIMIT_AS, (most, most))  # what is checked from here on is no part of a training
    assert all(torch.isfinite(weight).all() for weight in result.generator.state_dict().values())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
