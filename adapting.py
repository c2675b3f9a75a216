"""The command `adapt`, and going on with what it began."""

import argparse
import logging
import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .planning import Parts, load_parts, plan_for
from .runs import RESULTS, Plan, RunError, RunFolder
from .terminal import (
    INTERRUPTED,
    UsageError,
    ctrl_c_ignored,
    ctrl_c_noted,
    make_folder,
    progress_bar,
    require_free,
    write_png,
)

logger = logging.getLogger(__name__)


def adapt(options: argparse.Namespace) -> int:
    """Begin a run, with the miniature's settings as defaults where `options.miniature_settings` are given."""
    plan, folder = plan_for(options), RunFolder(options.output)
    if folder.notes.exists():
        raise UsageError(
            f"{folder.path} already holds a run. Go on with it: {_resuming(folder)}, or give another folder as --output."
        )
    require_free(folder.path, RESULTS)
    parts = load_parts(plan)
    make_folder(folder.path)
    with folder.held():
        require_free(folder.path, RESULTS)  # once more: loading takes a while
        folder.tidy()
        folder.write(plan)
        return _run(plan, parts, folder)


def resume(path: Path) -> int:
    """Go on with the run in a folder."""
    folder = RunFolder(path)
    folder.read()  # that there is a run
    with folder.held():
        return _resumed(folder)


def _resumed(folder: RunFolder) -> int:
    from .stylegan import CheckpointError

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
    return _run(plan, parts, folder)


def _run(plan: Plan, parts: Parts, folder: RunFolder) -> int:
    """Train, and write what came of it; the exit status."""
    from .sds import TrainingDiverged, TrainingOutOfMemory, TrainingStopped, train_generator

    saved, stopped = folder.saved(plan), None
    try:
        with ctrl_c_noted() as ctrl_c, progress_bar(plan.settings.steps, saved.steps_done()) as show:

            def report(progress) -> None:
                show(progress)
                if progress.step % plan.save_every == 0 and progress.step < progress.steps:
                    _keep(plan, parts, folder, progress.result)
                ctrl_c.raise_if_pressed()

            given = parts.settings, parts.regularizers, parts.layers
            result = train_generator(parts.generator, parts.prior, *given, report, saved)
    except TrainingStopped as error:
        stopped, result = error, error.result
    except KeyboardInterrupt:
        print(f"Stopped. {_what_is_kept(plan, folder)}")
        return INTERRUPTED
    if result.steps_done == 0:
        raise UsageError(f"{stopped} Nothing is trained yet. Try again with: {_resuming(folder)}") from stopped
    with ctrl_c_ignored():
        _write_results(plan, parts, folder, result, pictures=not ctrl_c.at_once, finished=stopped is None)
    if result.best_step != result.steps_done:
        print(f"best.safetensors is the generator after {result.best_step} steps, before its images became alike.")
    if stopped is None:
        return 0
    kept = _what_is_kept(plan, folder)
    if isinstance(stopped.__cause__, KeyboardInterrupt):
        print(f"Stopped. {kept}")
        return INTERRUPTED
    if isinstance(stopped, TrainingOutOfMemory):
        kept += ", once there is more memory, or begin anew with --image-size or --half and another --output."
    if isinstance(stopped, TrainingDiverged):
        kept += ", or begin anew with other settings and another --output; going on may end the same way."
    raise UsageError(f"{stopped} {kept}") from stopped


def _keep(plan: Plan, parts: Parts, folder: RunFolder, result: Callable[[], Any]) -> None:
    """Write what is trained so far. When that fails, the training goes on all the same."""
    from .stylegan import save_generator

    try:
        now = result()
        if not folder.notes.exists():  # the folder has been removed meanwhile
            folder.write(plan)
        save_generator(now.generator, folder.generator, {**parts.metadata, "steps_done": str(now.steps_done)})
        save_generator(now.best, folder.best, {**parts.metadata, "steps_done": str(now.best_step)})
    except Exception as error:
        logger.warning("The training goes on, but: %s", error)


def _write_results(plan: Plan, parts: Parts, folder: RunFolder, result, pictures: bool, finished: bool) -> None:
    from .stylegan import CheckpointError, save_generator, save_or_rescue

    metadata = parts.metadata if finished else {**parts.metadata, "steps_done": str(result.steps_done)}
    names = list(RESULTS[:2])
    try:
        written = save_or_rescue(result.generator, folder.generator, metadata)
        if written != folder.generator:
            raise UsageError(f"{folder.generator} could not be written; the generator is kept in {written} instead.")
        save_generator(result.best, folder.best, {**parts.metadata, "steps_done": str(result.best_step)})
        if pictures:
            names += _draw(plan, parts, folder, result)
        if finished:
            folder.write(plan, finished=True)
    except (OSError, CheckpointError) as error:
        reason = f"{folder.path} could not be written ({error.strerror})." if isinstance(error, OSError) else error
        kept = _what_is_kept(plan, folder)
        raise UsageError(f"{reason} {kept} Free some space first.") from error
    print(f"Wrote {', '.join(names)} to {folder.path.resolve()}")


def _draw(plan: Plan, parts: Parts, folder: RunFolder, result) -> list[str]:
    """Draw before and after, and the losses; the names of the files. No picture is worth losing a generator for."""
    from .metrics.figures import before_after
    from .sds.figures import loss_plot
    from .stylegan import render_samples, sample_z

    settings = parts.settings
    z = sample_z(parts.generator.z_dim, plan.samples, settings.seed)
    try:
        before, after = (
            render_samples(drawing, z, class_index=settings.class_index)
            for drawing in (parts.generator, result.generator)
        )
        if settings.crop is not None:
            before, after = settings.crop.apply(before), settings.crop.apply(after)
        drawn = {"before_after.png": before_after(before, after), "loss.png": loss_plot(result.history)}
    except (RuntimeError, MemoryError) as error:
        logger.warning("The pictures could not be drawn: %s", error)
        return []
    for name, picture in drawn.items():
        write_png(picture, folder.path / name)
    return list(drawn)


def _what_is_kept(plan: Plan, folder: RunFolder) -> str:
    """Where what was trained lies, and how to go on."""
    done = folder.saved(plan).steps_done()
    kept = f"What was trained for {done} of {plan.settings.steps} steps is kept in {folder.path}." if done else ""
    return f"{kept} Go on with: {_resuming(folder)}".strip()


def _resuming(folder: RunFolder) -> str:
    path = str(folder.path)  # each system's shell has its own quotation marks
    return f"stylegan-fusion adapt --resume {subprocess.list2cmdline([path]) if os.name == 'nt' else shlex.quote(path)}"
