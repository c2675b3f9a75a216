"""What do style vectors do? The bundled ones of the miniature: a slider for each, both mixed, and on siblings of their
source; as a table, and as a picture.

    python benchmarks/styles.py [--samples 500] [--picture FILE]"""

import argparse
import io
from pathlib import Path

import torch
from comfyui_stylegan_fusion.metrics.evaluation import frechet_distance
from comfyui_stylegan_fusion.metrics.figures import labelled_grid
from comfyui_stylegan_fusion.miniature import DIFFERENCES, load_generator
from comfyui_stylegan_fusion.miniature.classifier import load_classifier
from comfyui_stylegan_fusion.miniature.factors import DOMAINS, sample_factors
from comfyui_stylegan_fusion.miniature.metrics import diversity
from comfyui_stylegan_fusion.miniature.renderer import render
from comfyui_stylegan_fusion.miniature.stages import seeded
from comfyui_stylegan_fusion.stylegan import load_difference, render_samples, sample_z, with_differences

AMOUNTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25)
MIXED = ((1.0, 0.0), (0.75, 0.25), (0.5, 0.5), (0.25, 0.75), (0.0, 1.0), (0.7, 0.7))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--picture", type=Path, help="draw the first ten samples of each mixture")
    options = parser.parse_args()
    judge, source = load_classifier(), load_generator("miniature")
    vectors = {name.removeprefix("miniature-"): load_difference(path) for name, path in DIFFERENCES.items()}
    z = sample_z(source.z_dim, options.samples, seed=4242)
    goals = {name: judge.read(render(sample_factors(options.samples, seeded(4243), name))).features for name in vectors}

    def row(said: str, parts, begin=source) -> torch.Tensor:
        images = render_samples(with_differences(begin, parts), z).clamp(-1, 1)
        seen = judge.read(images)
        sure = seen.domain.softmax(1).mean(0)
        shares = ", ".join(f"{name} {sure[DOMAINS.index(name)]:.0%}" for name in ("person", *vectors))
        far = ", ".join(f"{name} {frechet_distance(seen.features, goal):.1f}" for name, goal in goals.items())
        varied = {name: diversity(seen.features) / diversity(goal) for name, goal in goals.items()}
        print(f"| {said} | {shares} | {far} | {', '.join(f'{one:.0%}' for one in varied.values())} |")
        return images[:10]

    print("| generator | how sure the judge is | distance to | diversity of theirs |\n|---|---|---|---|")
    for name, vector in vectors.items():
        for amount in AMOUNTS:
            row(f"person + {amount:g} {name}", [(vector, amount)])
    first, second = vectors.values()
    shown, labels = [row("person", [])], ["person"]
    for a, b in MIXED:
        names = list(vectors)
        labels.append(f"{a:g} {names[0]} {b:g} {names[1]}")
        shown.append(row(labels[-1], [(first, a), (second, b)]))
    cats = load_generator("miniature-cat")
    shown.append(row("cat + zombie", [(first, 1.0)], cats))
    labels.append("cats + zombie")
    if options.picture:
        picture, kept = labelled_grid(torch.stack(shown), labels, [], 96), io.BytesIO()
        picture.convert("RGB").save(kept, "WEBP", quality=88, method=6)
        options.picture.write_bytes(kept.getvalue())


if __name__ == "__main__":
    main()
