"""Do the paper's claims hold, and what came after it? Every setting is measured against true pictures, the renderer's.

    python benchmarks/study.py [--groups terms regularizers ...] [--seeds 0 1 2] [--plan] [--grid FOLDER]
    python benchmarks/study.py --cells "person-fox sds scale=1.25 steps=350" ... [--seeds 0]

A cell is one training: SOURCE-TARGET, then its terms by name, each with its own settings in brackets as in
"vsd(rank=0,weight=0.5)" or "targets(count=200,adversarial=0.5,scale=1.5,refresh=100)" (without the last three: no
discriminator, edits at scale 2, and these stay), then settings of the training as name=value; "scale" is the
guidance's, "layers" a choice of layers, "prompt" another prompt with _ for spaces, "watch=100" measures every 100
steps, and what is left out is as `study_cells.LEFT_OUT` has it.
"edited(strength=0.5)" in place of terms trains nothing: the pictures are the frozen generator's, from image to image.
Every finished cell is a line of JSON in study.jsonl beside this file, under its name, its seed and the digest of the
weights it stands on; a run measures what no line says, and --plan says first what that costs. What there is to measure
stands in study_cells.py.
"""

import argparse
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import torch
from comfyui_stylegan_fusion import load_generator, save_generator, train_generator
from comfyui_stylegan_fusion.metrics.figures import labelled_grid
from comfyui_stylegan_fusion.miniature.settings import MINIATURE_SETTINGS, prompt_for
from comfyui_stylegan_fusion.sds import TERMS, ClipDirectional, Editor, PicturesPrior, TargetPictures, make_targets
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior
from comfyui_stylegan_fusion.stylegan import render_samples, sample_z
from comfyui_stylegan_fusion.training.allocator import keeping_freed_memory
from study_cells import EDITS, GROUPS, Cell
from study_measures import Measures
from study_tables import table, written_into
from study_variants import clamping

SAMPLES = 1000
WATCHED = 400  # samples, of a training on its way
LOOKED_AT = 8  # pictures of a grid's row


class Study:
    """Trains, draws and measures; keeps what was measured in lines, and generators in a folder."""

    def __init__(self, file: Path, folder: Path, samples: int = SAMPLES):
        self.file, self.folder, self.measures = file, folder, Measures(folder, samples)
        self.lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def key(self, cell: Cell, seed: int) -> dict:
        """Return what a line is found by."""
        digest, count = self.measures.digest(cell.source, cell.target), self.measures.count
        return {"cell": cell.name, "seed": seed, "samples": count, "weights": digest}

    def find(self, cell: Cell, seed: int) -> dict | None:
        key = self.key(cell, seed)
        return next((line["found"] for line in self.lines if line["key"] == key), None)

    def measured(self, cell: Cell, seed: int) -> dict:
        """Return what a cell measured, measured now where no line says it."""
        found = self.find(cell, seed)
        if found is None:
            if cell.edit:
                images, found = self.measures.edited(cell, seed), {}
            else:
                generator, found = self.trained(cell, seed)
                images = self.measures.samples(generator)
            found |= self.measures.compare(images, cell, moved=True)
            self.lines.append({"key": self.key(cell, seed), "found": found})
            with self.file.open("a") as out:
                out.write(json.dumps(self.lines[-1]) + "\n")
            short = {name: value for name, value in found.items() if name not in ("over_steps", "course")}
            print(cell.name, seed, json.dumps(short), flush=True)
        return found

    def trained(self, cell: Cell, seed: int):
        """Train, unless the generator is there; and what is known of the training."""
        name = f"{re.sub(r'[^a-z0-9=.]+', '-', cell.name)}-{seed}-{self.measures.digest(cell.source, cell.target)}.safetensors"
        path = self.folder / name
        notes = path.with_suffix(".json")
        if not (path.exists() and notes.exists()):
            self.folder.mkdir(parents=True, exist_ok=True)
            start, begun = time.process_time(), self.measures.generator(cell.source)
            settings, prior = replace(cell.training, seed=seed), self.measures.prior(cell)
            terms = [self.term(cell, kind, given, seed) for kind, given in cell.terms]
            if all(term.on == "image" for term in terms):
                prior = PicturesPrior(prior.image_size, torch.device("cpu"))
            course = {}

            def look(progress) -> None:
                if cell.watch and progress.step % cell.watch == 0:
                    course[progress.step] = self.measures.course(progress.samples(WATCHED).clamp(-1, 1), cell)

            with clamping(cell.clamp):
                result = train_generator(begun, prior, settings, terms, cell.choice, look)
            known = {
                "seconds": round(time.process_time() - start),
                "over_steps": {step: round(value, 4) for step, value in result.history.diversity.items()},
            } | ({"course": course} if course else {})
            save_generator(result.generator, path, {"prompt": cell.wanted, "seed": str(seed)})
            notes.write_text(json.dumps(known))
        return load_generator(path), json.loads(notes.read_text())

    def term(self, cell: Cell, kind: str, given: dict, seed: int):
        if kind == "clip":
            clip, source = self.measures.clip(), prompt_for(cell.source)
            return ClipDirectional.of(clip.vision, clip.embed_text, source, cell.wanted, **given)
        if kind != "targets":
            return TERMS[kind](**given)
        own = {"weight": 1.0, "adversarial": 0.0} | given
        making = {"count": 200} | {
            name: value for name, value in given.items() if name not in ("weight", "adversarial")
        }
        path = None
        if making.get("inversion") != "noise":
            path = DiffusersPrior(self.measures.model(), prompt_for(cell.source), "", 1.0)
        edit = self.measures.prior(replace(cell, scale=making.pop("scale", EDITS)))
        made = replace(MINIATURE_SETTINGS.targets, seed=seed, **{"refresh": 0, "refresh_share": 1.0} | making)
        targets = make_targets(self.measures.generator(cell.source), Editor(edit, path), made)
        return TargetPictures(own["weight"], targets=targets, adversarial=own["adversarial"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", nargs="*", default=[], choices=list(GROUPS), help="tables; none: all of them")
    parser.add_argument("--cells", nargs="+", default=[], help="cells by their words, in place of groups")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument(
        "--plan", action="store_true", help="say what is missing and what it costs, and measure nothing"
    )
    parser.add_argument("--print", action="store_true", help="print tables of what is measured, and measure nothing")
    parser.add_argument("--page", type=Path, help="write the tables of what is measured into a page, docs/study.md")
    parser.add_argument(
        "--grid", type=Path, metavar="FOLDER", help="draw the first samples of each row, a file a group"
    )
    parser.add_argument("--file", type=Path, default=Path(__file__).with_suffix(".jsonl"))
    parser.add_argument("--folder", type=Path, default=Path("training-runs/study"))
    options = parser.parse_args()
    study = Study(options.file, options.folder)
    groups = GROUPS if not options.groups else {name: GROUPS[name] for name in options.groups}
    if options.cells:
        groups = {"cells": [(text, text) for text in options.cells]}
    parsed = {name: [(label, Cell.parse(text)) for label, text in rows] for name, rows in groups.items()}
    say_cost(study, parsed, options.seeds)
    if options.page:
        options.page.write_text(written_into(options.page.read_text(), study))
    if options.plan or options.page:
        return
    for name, rows in parsed.items():
        if not options.print:
            with keeping_freed_memory(torch.device("cpu")):
                for _, cell in rows:
                    for seed in options.seeds:
                        study.measured(cell, seed)
        named = [(label, cell.name) for label, cell in rows]
        print(
            f"\n### {name}\n\n{table(study, named, further='seconds', seeds=options.seeds, frozen=True)}\n", flush=True
        )
        if options.grid:
            draw_grid(study, rows, options.seeds[0], options.grid / f"{name}.png")


def say_cost(study: Study, groups, seeds) -> None:
    """Say what is still to be measured, and how long that takes by what was measured."""
    wanted = {(cell.name, seed): cell for rows in groups.values() for _, cell in rows for seed in seeds}
    missing = [cell for (_, seed), cell in wanted.items() if study.find(cell, seed) is None]
    rates = [
        line["found"]["seconds"] / cell.training.steps / cell.training.batch_size
        for line in study.lines
        if "seconds" in line["found"] and (cell := Cell.parse(line["key"]["cell"]))  # image to image has none
    ]
    rate = sorted(rates)[len(rates) // 2] if rates else 0.15
    seconds = sum(rate * cell.training.steps * cell.training.batch_size + 30 for cell in missing)
    print(f"{len(wanted) - len(missing)} cells are measured, {len(missing)} are not: about {seconds / 60:.0f} minutes.")


def draw_grid(study: Study, rows, seed: int, path: Path) -> None:
    """Draw the first samples of each row that is trained, under those of the frozen generator."""
    pictures, labels = [], []
    for label, cell in rows:
        if not labels:
            pictures.append(study.measures.frozen(cell.source)[0][:LOOKED_AT])
            labels.append("frozen")
        if study.find(cell, seed) and not cell.edit:
            generator, _ = study.trained(cell, seed)
            z = sample_z(generator.z_dim, LOOKED_AT, seed=4242)
            pictures.append(render_samples(generator, z).clamp(-1, 1))
            labels.append(f"{label}, {cell.target}")
    path.parent.mkdir(parents=True, exist_ok=True)
    labelled_grid(torch.stack(pictures), labels, [], 128).save(path)


if __name__ == "__main__":
    main()
