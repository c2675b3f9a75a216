"""What the command line does, once the arguments are read: demo, adapt, sample, convert."""

import argparse
import math
from contextlib import contextmanager
from pathlib import Path

from ..miniature.settings import DEMOS, MINIATURE_SETTINGS
from .load import Parts, load_parts
from .plan import Plan, plan_for
from .run import run
from .run_folder import RESULTS, RunError, RunFolder
from .terminal import (
    INTERRUPTED,
    CtrlC,
    UsageError,
    ctrl_c_noted,
    device_named,
    free_folder,
    load_generator,
    make_folder,
    progress_bar,
    require_free,
    write_png,
)

DEMO_FOLDER = "stylegan-fusion-demo"

IN_GRID = 64  # images


def demo(options: argparse.Namespace) -> int:
    if options.output is None:
        options.output = free_folder(Path(DEMO_FOLDER))
    options.miniature_settings = DEMOS[options.target]
    options.prompt = options.prompt or options.miniature_settings.prompt
    print(
        "Adapting the miniature's person generator; a few minutes on two processor cores. Ctrl-C keeps what is trained."
    )
    return adapt(options)


def adapt_or_resume(options: argparse.Namespace) -> int:
    if options.resume is not None:
        return resume(options.resume)
    options.miniature_settings = MINIATURE_SETTINGS
    return adapt(options)


def adapt(options: argparse.Namespace) -> int:
    """Begin a run, with the miniature's settings as defaults where `options.miniature_settings` are given."""
    plan, folder = plan_for(options), RunFolder(options.output)
    if folder.notes.exists():
        raise UsageError(
            f"{folder.path} already holds a run. Go on with it: {folder.resuming}, or give another folder as --output."
        )
    require_free(folder.path, RESULTS)
    parts = load_parts(plan)
    make_folder(folder.path)
    with folder.held():
        require_free(folder.path, RESULTS)  # once more: loading takes a while
        folder.tidy()
        folder.write(plan)
        return _train(plan, parts, folder)


def resume(path: Path) -> int:
    """Go on with the run in a folder."""
    folder = RunFolder(path)
    folder.read()  # that there is a run
    with folder.held():
        return _resumed(folder)


def _resumed(folder: RunFolder) -> int:
    from ..stylegan import CheckpointError

    path = folder.path
    plan, finished = folder.read()
    folder.tidy()
    if finished:
        folder.forget_training(plan)
        if not folder.generator.is_file():
            raise RunError(f"The run in {path} is finished, but its {folder.generator.name} is gone; begin it anew.")
        steps = plan.settings.steps
        print(f"This run is finished: {steps} of {steps} steps. {folder.generator} holds the generator.")
        return 0
    try:
        parts = load_parts(plan)
    except (UsageError, CheckpointError, ValueError, ImportError, OSError) as error:
        raise RunError(
            f"{error} The run in {path} cannot go on without it: put back what it began with, then resume it again. "
            "What was trained so far stays there."
        ) from error
    make_folder(path, "see that it can be, then resume it again")
    print(f"Going on after {folder.saved(plan).steps_done()} of {plan.settings.steps} steps.")
    return _train(plan, parts, folder)


def _train(plan: Plan, parts: Parts, folder: RunFolder) -> int:
    """Run it on the terminal, and say what came of it; the exit status."""
    from ..sds import TrainingDiverged, TrainingOutOfMemory

    @contextmanager
    def watched(ctrl_c: CtrlC):
        with progress_bar(plan.settings.steps, folder.saved(plan).steps_done()) as show:

            def report(progress) -> None:
                show(progress)
                ctrl_c.raise_if_pressed()

            yield report

    try:
        with ctrl_c_noted() as ctrl_c:
            done = run(plan, parts, folder, lambda: watched(ctrl_c), lambda: ctrl_c.at_once)
    except KeyboardInterrupt:
        print(f"Stopped. {folder.what_is_kept(plan)}")
        return INTERRUPTED
    print(f"Wrote {', '.join(done.written)} to {folder.path.resolve()}")
    if done.best_step != done.steps_done:
        print(f"best.safetensors is the generator after {done.best_step} steps, before its images became alike.")
    if done.stopped is None:
        return 0
    kept = folder.what_is_kept(plan)
    if isinstance(done.stopped.__cause__, KeyboardInterrupt):
        print(f"Stopped. {kept}")
        return INTERRUPTED
    if isinstance(done.stopped, TrainingOutOfMemory):
        kept += ", once there is more memory, or begin anew with --image-size or --half and another --output."
    if isinstance(done.stopped, TrainingDiverged):
        kept += ", or begin anew with other settings and another --output; going on may end the same way."
    raise UsageError(f"{done.stopped} {kept}") from done.stopped


def sample(options: argparse.Namespace) -> int:
    import torch

    from ..metrics.figures import sample_grid, to_pictures
    from ..stylegan import draw_codes, sample_codes, sample_z

    if not math.isfinite(options.truncation_psi):
        raise UsageError(f"--truncation-psi is {options.truncation_psi}; give a number, 0.7 for example.")
    names = [f"{index:05}.png" for index in range(options.count)]
    require_free(options.output, [*names, "grid.png"])
    device = device_named(options.device)
    generator, _, crop = load_generator(options.generator, device)
    z = sample_z(generator.z_dim, options.count, options.seed)
    ws = sample_codes(generator, z, options.truncation_psi, options.truncation_cutoff, options.class_index)
    make_folder(options.output)
    written, first = iter(names), []
    for images in draw_codes(generator, ws, options.noise):
        images = images if crop is None else crop.apply(images)
        for picture in to_pictures(images):
            write_png(picture, options.output / next(written))
        first += images[: IN_GRID - len(first)]
    write_png(sample_grid(torch.stack(first)), options.output / "grid.png")
    print(f"Wrote {options.count} images and grid.png to {options.output.resolve()}")
    return 0


def convert(options: argparse.Namespace) -> int:
    from ..miniature import generator_path
    from ..stylegan import ARCHITECTURES, SUFFIXES, load_checkpoint, provenance, with_crop, write_generator

    if options.output.suffix not in SUFFIXES:
        raise UsageError(f"{options.output} ends in neither {' nor '.join(SUFFIXES)}; the ending says what to write.")
    with_crop({}, options.crop)
    require_free(options.output.parent, [options.output.name])
    checkpoint = load_checkpoint(generator_path(options.file))
    metadata = with_crop(provenance(checkpoint, Path(options.file).name), options.crop)
    if options.license_note:
        metadata["license"] = options.license_note
    write_generator(checkpoint.generator, options.output, metadata)
    config = checkpoint.generator.config
    kind = ARCHITECTURES[config.architecture].title
    print(
        f"Read {options.file}: {checkpoint.format}, {kind} of {config.resolution} x {config.resolution} pixels", end=""
    )
    print(f", {config.c_dim} classes" if config.c_dim else "", end="")
    print(f", of which {metadata['crop']} count" if "crop" in metadata else "")
    print(f"Wrote {options.output.resolve()}")
    return 0
