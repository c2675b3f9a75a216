"""Does the classifier judge rightly? Its distances must order known damages, and it must still read damaged pictures.
And how sharp are the bundled generators beside the portraits that their latents stand for?

python benchmarks/judge.py [--samples 2000]
"""

import argparse

import torch
from comfyui_stylegan_fusion.metrics.evaluation import frechet_distance
from comfyui_stylegan_fusion.miniature import WEIGHTS
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.damage import blurred
from comfyui_stylegan_fusion.miniature.factors import DOMAINS, sample_factors
from comfyui_stylegan_fusion.miniature.metrics import fine_detail
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.settings import SOURCES
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.miniature.train_generator import FILES, portraits_of
from comfyui_stylegan_fusion.stylegan import load_generator, render_samples, sample_z


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=2000)
    count = parser.parse_args().samples
    judge = load_classifier()
    # Seeds that no training used.
    pictures = {name: render(sample_factors(count, seeded(900 + i), name)) for i, name in enumerate(DOMAINS)}
    reference = judge.read(render(sample_factors(count, seeded(999), "fox"))).features

    def distance(images):
        return frechet_distance(judge.read(images).features, reference)

    def recognized(images):
        return (judge.read(images).domain.argmax(1) == DOMAINS.index("fox")).float().mean().item()

    fox, person = pictures["fox"], pictures["person"]
    print("Fréchet distance to 2000 other rendered foxes, and how many pictures are read as foxes\n")
    print("| series | " + " | ".join(f"step {i}" for i in range(5)) + " |\n|---|" + "---|" * 5)
    series = {
        "foxes blurred by 0, 0.5, 1, 2, 4 pixels": [
            blurred(fox, torch.full([count], s)) for s in (0.0, 0.5, 1.0, 2.0, 4.0)
        ],
        "0, 10, 25, 50, 100 % of the set are persons": [
            torch.cat([person[: int(p * count)], fox[int(p * count) :]]) for p in (0.0, 0.1, 0.25, 0.5, 1.0)
        ],
        "each picture 0, 10, 25, 50, 100 % blended into a person": [
            torch.lerp(fox, person, p) for p in (0.0, 0.1, 0.25, 0.5, 1.0)
        ],
        "noise of 0, 0.1, 0.2, 0.4, 0.8": [
            fox + s * torch.randn(fox.shape, generator=seeded(1)) for s in (0.0, 0.1, 0.2, 0.4, 0.8)
        ],
    }
    for name, steps in series.items():
        cells = [f"{distance(images):.2f} ({recognized(images):.0%})" for images in steps]
        print(f"| {name} | " + " | ".join(cells) + " |")
    print("\n| renders of | " + " | ".join(DOMAINS) + " |\n|---|" + "---|" * len(DOMAINS))
    print("| distance to foxes | " + " | ".join(f"{distance(pictures[name]):.1f}" for name in DOMAINS) + " |")
    accuracy = [
        (judge.read(images).domain.argmax(1) == i).float().mean().item() for i, images in enumerate(pictures.values())
    ]
    print("| read rightly | " + " | ".join(f"{value:.1%}" for value in accuracy) + " |")
    print(
        "\n| generator | its portraits, of rendered ones' detail | its pictures, of rendered ones' | of its portraits' |"
    )
    print("|---|---|---|---|")
    for source in SOURCES:
        print(f"| {source} | " + " | ".join(f"{share:.2f}" for share in sharpness(source, pictures[source])) + " |")


def sharpness(source: str, rendered: torch.Tensor) -> tuple[float, float, float]:
    """The fine detail of the portraits that a generator's latents stand for, of what it draws of them, and of the latter
    beside the former."""
    generator = load_generator(WEIGHTS / FILES[source])
    z = sample_z(generator.z_dim, len(rendered), seed=900)
    drawn = render_samples(generator, z).clamp(-1, 1)
    whole, meant, shown = (fine_detail(images) for images in (rendered, render(portraits_of(z, source)), drawn))
    return meant / whole, shown / whole, shown / meant


if __name__ == "__main__":
    main()
