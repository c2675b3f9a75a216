"""A run: train what a plan names, and write what comes of it. Returns what happened; prints nothing."""

import contextlib
import json
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from ..training.files import write_atomically
from ..training.parallel import Alone
from .beside import train_beside
from .load import MODEL_WEIGHTS, Parts, load_parts
from .plan import Plan
from .run_folder import RESULTS, RunFolder
from .signals import stop_ignored
from .targets import show_targets
from .terminal import UsageError, write_png

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunResult:
    """A RunResult says how a run ended."""

    steps_done: int
    best_step: int
    written: tuple[str, ...]  # names of files in the run's folder
    stopped: BaseException | None  # what ended it before its last step


def run(
    plan: Plan,
    parts: Parts,
    folder: RunFolder,
    watching: Callable[[], AbstractContextManager[Callable[[Any], None]]],
    at_once: Callable[[], bool],
    making: Callable[[], AbstractContextManager[Callable[[Any], None]]],
    refreshing: Callable[[], AbstractContextManager[Callable[[Any], None]]],
    parallel: Alone,
) -> RunResult:
    """Train from where the folder stands, and write the results there, pictures too unless they
    are not wanted `at_once`.

    What `watching` gives is called with each step's Progress and may raise to end the training; so may what `making`
    gives, with each Made while targets are made, before, and what `refreshing` gives, with each one between two steps.
    What it raises before anything is trained is passed on; raises UsageError where nothing was
    trained for another reason, or the results cannot be written."""
    from ..sds import TrainingStopped, train_generator

    stopped = None
    if plan.making is not None:
        with making() as report:
            parts = parts.with_targets(make(plan, parts, folder, report))
    elif parts.targets is not None:
        parts = parts.with_targets(parts.targets)
    parallel.wait()

    try:
        with watching() as report, refreshing() as report_refreshed:

            def report_and_keep(progress) -> None:
                if progress.step % plan.save_every == 0 and progress.step < progress.steps:
                    _keep(plan, parts, folder, progress.result)
                report(progress)

            given = parts.settings, parts.terms, parts.layers
            reporting = report_and_keep, folder.saved(plan, parts.digests), parallel, report_refreshed
            result = train_generator(parts.generator, parts.prior, *given, *reporting)
    except TrainingStopped as error:
        stopped, result = error, error.result
    if result.steps_done == 0:
        raise UsageError(f"{stopped} Nothing is trained yet. Try again with: {folder.resuming}") from stopped
    with stop_ignored():
        written = _write_results(plan, parts, folder, result, pictures=not at_once(), finished=stopped is None)
    return RunResult(result.steps_done, result.best_step, tuple(written), stopped)


def follow(plan: Plan, folder: RunFolder, parallel: Alone) -> int:
    """Train in one of the processes that do not write; the exit status."""
    from ..sds import train_generator

    parts = load_parts(plan)

    def train(report: Callable[[Any], None]) -> None:
        parallel.wait()
        of_run = parts
        if plan.making is not None:
            of_run = parts.with_targets(_made(plan, parts, folder, lambda made: None))
        elif parts.targets is not None:
            of_run = parts.with_targets(parts.targets)
        given = of_run.settings, of_run.terms, of_run.layers
        train_generator(of_run.generator, of_run.prior, *given, report, folder.saved(plan, parts.digests), parallel)

    return train_beside(train)


def make(plan: Plan, parts: Parts, folder: RunFolder, report: Callable[[Any], None]):
    """Make the targets of a plan that are not there yet, in the run's folder. Raises TargetsError, OSError."""
    targets = _made(plan, parts, folder, report)
    settings = parts.settings
    show_targets(parts.generator, targets, parts.prior, settings.crop, folder.shown_targets)
    return targets


def _made(plan: Plan, parts: Parts, folder: RunFolder, report: Callable[[Any], None]):
    from ..sds import TargetsFolder, make_targets

    settings, kept = parts.settings, TargetsFolder(folder.targets, plan.targets.identity, parts.digests[MODEL_WEIGHTS])
    given = parts.generator, parts.editor, plan.targets.settings
    return make_targets(*given, kept, report, settings.class_index, settings.crop, plan.targets.codes())


def _keep(plan: Plan, parts: Parts, folder: RunFolder, result: Callable[[], Any]) -> None:
    """Write what is trained so far. When that fails, the training goes on all the same."""
    from ..stylegan import save_generator

    try:
        now = result()
        if not folder.notes.exists():  # the folder has been removed meanwhile
            folder.write(plan)
        save_generator(now.generator, folder.generator, {**parts.metadata, "steps_done": str(now.steps_done)})
        save_generator(now.best, folder.best, {**parts.metadata, "steps_done": str(now.best_step)})
    except Exception as error:
        logger.warning("The training goes on, but: %s", error)


def _write_results(plan: Plan, parts: Parts, folder: RunFolder, result, pictures: bool, finished: bool) -> list[str]:
    """The names of the files."""
    from ..stylegan import CheckpointError, difference, save_difference, save_generator, save_or_rescue

    metadata = parts.metadata if finished else {**parts.metadata, "steps_done": str(result.steps_done)}
    names = list(RESULTS[:2])
    try:
        written = save_or_rescue(result.generator, folder.generator, metadata)
        if written != folder.generator:
            raise UsageError(f"{folder.generator} could not be written; the generator is kept in {written} instead.")
        save_generator(result.best, folder.best, {**parts.metadata, "steps_done": str(result.best_step)})
        if parts.settings.parameterization != "weights":  # some kB, and what mixes
            with contextlib.suppress(ValueError):  # not a weight was moved
                save_difference(difference(parts.generator, result.generator, metadata), folder.difference)
                names.append(folder.difference.name)
        if pictures:
            names += _draw(plan, parts, folder, result)
        if finished:
            folder.write(plan, finished=True)
    except (OSError, CheckpointError) as error:
        reason = f"{folder.path} could not be written ({error.strerror})." if isinstance(error, OSError) else error
        raise UsageError(f"{reason} {folder.what_is_kept(plan)} Free some space first.") from error
    return names


def _draw(plan: Plan, parts: Parts, folder: RunFolder, result) -> list[str]:
    """Draw before and after, and the losses; the names of the files. No picture is worth losing a generator for."""
    from ..metrics.figures import before_after
    from ..sds.figures import curves_of, loss_plot
    from ..stylegan import render_samples, sample_z

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
    write_atomically(folder.history, json.dumps({"curves": curves_of(result.history)}).encode())
    return [*drawn, folder.history.name]
