"""Draws the grid on top of the README: python docs/draw_grid.py FOLDER... with the folders of runs of `demo`.

The first ten latents, uncurated: what the bundled generator draws, and below it what the generator of each run does."""

import sys
from pathlib import Path

import torch
from comfyui_stylegan_fusion import load_generator
from comfyui_stylegan_fusion.metrics.figures import sample_grid
from comfyui_stylegan_fusion.stylegan import read_metadata, render_samples, sample_z

COLUMNS, SEED, CELL = 10, 0, 128
GRID = Path(__file__).parent / "grid.png"


def main(folders: list[str]) -> None:
    files = [Path(folder) / "generator.safetensors" for folder in folders]
    source = read_metadata(files[0]).get("source", "miniature")
    generators = [load_generator(source), *map(load_generator, files)]
    z = sample_z(generators[0].z_dim, COLUMNS, SEED)
    images = torch.cat([render_samples(generator, z) for generator in generators])
    picture = sample_grid(images, columns=COLUMNS, cell=CELL)
    picture.save(GRID, optimize=True)
    print(f"{GRID}: {picture.width} x {picture.height}, {GRID.stat().st_size} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
