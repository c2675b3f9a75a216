"""One run of the training node: train, or go back to a moment; keep what was trained, whatever happens."""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...sds import (
    LayerChoice,
    Prior,
    SavedTrainingError,
    Targets,
    Term,
    TrainingDiverged,
    TrainingOutOfMemory,
    TrainingStopped,
    TrainResult,
    TrainSettings,
    train_generator,
    with_weights,
)
from ...sds.collapse import ImagesAlike
from ...sds.describing import describe_settings
from ...sds.targets.pool import to_unit
from ...stylegan import Generator, draw_codes, render_samples, sample_z
from ...training.out_of_memory import handle_out_of_memory
from ..on_device import on_device
from ..panel.panel import CANCELLED, FAILED, FINISHED, STOPPED, Ended, Panel
from ..panel.panel_report import PanelReport
from ..panel.report import PREVIEW_SAMPLES, Report
from ..panel.running_node import RunningNode
from ..panel.shown import About, ShownTraining
from ..sentences import sentence
from .endings import NOTHING_YET, failure, keep, keep_latest, out_of_memory_at_first
from .spare_memory import give_back
from .unfinished import Unfinished

START_OVER = "start over"


@dataclass(frozen=True)
class TrainingRun:
    """A TrainingRun trains a generator, or goes back to a moment of its training, as the node's panel asks."""

    generator: Generator  # stays as it is
    prior: Prior
    settings: TrainSettings
    terms: Sequence[Term]
    layers: LayerChoice
    metadata: Mapping[str, str]
    unfinished: Unfinished
    samples: int
    panel: Panel | None
    node: RunningNode
    folder: Path  # output/stylegan
    about: About | None = None  # what the panel says of the training
    warnings: Sequence[str] = ()  # what should be known before it begins

    def __call__(self) -> tuple[TrainResult, dict[str, str], Tensor, Tensor]:
        """Return the result, its metadata, and samples [B, 3, R, R] before and after. What it raises says what was
        kept.

        To be called outside of torch.inference_mode."""
        about, metadata = self._about, dict(self.metadata)
        step = self.panel and self.panel.moment_for(about.training, about.of_any_length, about.generator)
        if step is not None:
            given = self.panel.given
            result = self._moment(step, given)
            pictures = self._draw(self.generator), self._draw(result.generator)
            if given.about.training != about.training:
                metadata = dict(given.about.metadata)
                self.panel.note(_of_another(given, step))
            self._show_kept(given, step)
        else:
            result, *pictures = self._train()
        if result.interrupted:
            metadata["steps_done"] = str(result.steps_done)
        if step is None:  # a moment is still there to be chosen again
            keep_latest(self.folder, result.generator, metadata)
        return result, metadata, *pictures

    def _train(self) -> tuple[TrainResult, Tensor, Tensor]:
        report = self._report()
        done = self._attempt(report)
        self.prior.session.release_memory()
        give_back(at_once=isinstance(done, _Failure))
        if isinstance(done, _Failure):
            if done.no_memory:
                self.node.unload_models()  # as the host does itself where it sees the error: or the next run ended alike
            if not self.node.is_interruption(done.error):
                report.ended(FAILED, str(done.error), done.step)
            raise done.error  # out here, where nothing of the training hangs on to it
        before, result = done
        try:
            after = self._draw(result.generator)
        except Exception as error:
            said = f"The pictures could not be drawn: {sentence(error)} {keep(self.folder, result, self.metadata, 0)}"
            report.ended(FAILED, said, result.steps_done)
            raise RuntimeError(said) from error
        if not result.interrupted:
            self.unfinished.forget()
            report.ended(FINISHED, "", result.steps_done)
        if self.panel and result.best_step == result.steps_done:  # the panel has no other
            self.panel.passes_on(result.steps_done)
        return result, before, after

    def _attempt(self, report: Report) -> "tuple[Tensor, TrainResult] | _Failure":
        """Train, and keep what was trained when that fails: samples before and the result, or what to raise."""
        step = self.unfinished.saved.steps_done()
        try:
            drawn = self._draw(self.generator, max(self.samples, PREVIEW_SAMPLES))
            report.before(drawn)
            return drawn[: self.samples], self._trained(report)
        except SavedTrainingError as error:
            return _Failure(RuntimeError(f'{error} Or set when_unfinished to "{START_OVER}".'), step)
        except TrainingStopped as stopped:
            again = 0 if isinstance(stopped, TrainingDiverged) else self.unfinished.saved.steps_done()
            kept = keep(self.folder, stopped.result, self.metadata, again)
            raised, step = failure(stopped, kept, self.node.is_interruption), stopped.result.steps_done
            if self.node.is_interruption(raised):
                report.ended(CANCELLED, kept, step)
            return _Failure(raised, step, isinstance(stopped, TrainingOutOfMemory))
        except BaseException as error:
            if handle_out_of_memory(error):
                return _Failure(out_of_memory_at_first(error), step, no_memory=True)
            cancelled = self.node.is_interruption(error)
            report.ended(*((CANCELLED, NOTHING_YET) if cancelled else (FAILED, sentence(error))), step)
            raise

    def _trained(self, report: Report) -> TrainResult:
        """Train to the end, or to where the panel's user ends it."""
        saved = self.unfinished.saved
        if self.panel:
            saved = dataclasses.replace(saved, finished=self.panel.shown.saved_state)
        arguments = self.prior, self.settings, self.terms, self.layers, report, saved
        try:
            return train_generator(self.generator, *arguments, refreshing=report.refreshing)
        except TrainingStopped as stopped:
            ended = stopped.__cause__
            if isinstance(ended, ImagesAlike):
                return self._before_collapse(report, stopped.result)
            if not isinstance(ended, Ended):
                raise
            result, done = stopped.result, stopped.result.steps_done
            said = f"Stopped after {done} of {self.settings.steps} steps and kept."
            if ended.step not in (None, done):
                try:
                    result = self._moment(ended.step, self.panel.shown)
                    said += f" The generator is the one after {ended.step} steps."
                except ValueError as error:
                    said += f" {error}"
            self._add_moment(report, result.steps_done, result.generator)
            report.ended(STOPPED, said, done)
            self.panel.publish(STOPPED, kept=result.steps_done)
            return result

    def _before_collapse(self, report: Report, result: TrainResult) -> TrainResult:
        """The training as it was before its images became alike, for which it was stopped."""
        best, generator = result.best_step, result.best
        said = f"Stopped after {result.steps_done} of {self.settings.steps} steps: the images have become alike. "
        said += (
            f"The generator is the one after {best} steps, before that."
            if best
            else "The generator is the one that came in."
        )
        if self.panel:
            self._add_moment(report, best, generator)
        report.ended(STOPPED, said, result.steps_done)
        if self.panel:
            self._show_kept(self.panel.shown, best)
        return TrainResult(generator, result.history.until(best), best, True, best=generator, best_step=best)

    def _add_moment(self, report: PanelReport, step: int, generator: Generator) -> None:
        """Let the panel have a moment after `step` steps, where it has none."""
        if not self.panel.moments.has(step):
            before = dict(self.generator.named_parameters())
            changed = {name: p.cpu() for name, p in generator.named_parameters() if not torch.equal(p, before[name])}
            with contextlib.suppress(OSError):  # then there is no going back to it on the panel
                self.panel.take_moment(step, report.picture_of(self._draw(generator, PREVIEW_SAMPLES)), changed)

    def _moment(self, step: int, shown: ShownTraining) -> TrainResult:
        """Return a training as it was after `step` steps. Raises ValueError when its weights are gone."""
        generator = with_weights(self.generator, shown.moments.weights(step)) if step else self.generator
        ended = step < shown.state.get("steps", self.settings.steps)
        return TrainResult(generator, shown.history.until(step), step, ended, best=generator, best_step=step)

    def _show_kept(self, shown: ShownTraining, step: int) -> None:
        """Show which moment the node passes on."""
        if shown is self.panel.shown:
            self.panel.publish(self.panel.state["status"], kept=step)
        else:
            self.panel.publish(self.panel.state["status"])
            shown.keep()

    @property
    def _about(self) -> About:
        return self.about or About(self.unfinished.saved.identity)

    def _report(self) -> Report:
        """Make the report, which says where the training begins."""
        saved = self.unfinished.saved
        if self.panel:
            self.panel.take_up_finished(saved, describe_settings(self.settings))
        done, given = saved.steps_done(), (self.settings.steps, self.node)
        if self.panel:
            layers = len(self.generator.synthesis.layers)
            report = PanelReport(*given, self.panel, self.settings.crop, self._targets())
            self.panel.begin(self._about.training, self.settings.steps, layers, done, self._about)
        else:
            report = Report(*given, self.settings.crop)
        for warning in self.warnings:
            report.warn(warning)
        if done:
            report.going_on(done, f'when_unfinished "{START_OVER}" begins anew')
        else:
            report.other_seeds(self.unfinished.other_seeds())
        return report

    @property
    def _pool(self) -> Targets | None:
        return next((term.pool for term in self.terms if term.pool is not None), None)

    def _targets(self) -> Tensor | None:
        """The first targets as images [N, 3, H, W], whose codes are those that the panel's samples are drawn from."""
        return None if self._pool is None else to_unit(self._pool.images[:PREVIEW_SAMPLES])

    def _draw(self, generator: Generator, count: int | None = None) -> Tensor:
        count = count or self.samples
        z = sample_z(generator.z_dim, count, self.settings.seed)

        def drawn() -> Tensor:
            with on_device(self.prior.device, generator):
                if self._pool is not None:
                    return torch.cat(
                        [
                            *draw_codes(
                                generator, self._pool.codes[:count], cameras=self._pool.draw(slice(count)).cameras
                            )
                        ]
                    )
                return render_samples(generator, z, class_index=self.settings.class_index)

        return self.node.retry_without_models(drawn)


def _of_another(given: ShownTraining, step: int) -> str:
    """Say that a moment is not one of the training that the node's inputs ask for."""
    prompt = f' "{given.about.prompt}"' if given.about.prompt else ""
    return (
        f"The graph went on with the training{prompt} as it was after {step} steps. Run it once more to train with the "
        "inputs as they are."
    )


@dataclass(frozen=True)
class _Failure:
    """_Failure is what to raise for a training that failed."""

    error: BaseException
    step: int  # steps done
    no_memory: bool = False
