"""One run of the training node: train, or go back to a moment; keep what was trained, whatever happens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ...sds import (
    LayerChoice,
    Prior,
    SavedTrainingError,
    Term,
    TrainingDiverged,
    TrainingOutOfMemory,
    TrainingStopped,
    TrainResult,
    TrainSettings,
    train_generator,
    with_weights,
)
from ...stylegan import Generator, render_samples, sample_z
from ...training.out_of_memory import handle_out_of_memory
from ..on_device import on_device
from ..panel.panel import CANCELLED, FAILED, FINISHED, STOPPED, Ended, Panel
from ..sentences import sentence
from .endings import NOTHING_YET, failure, keep, keep_latest, out_of_memory_at_first
from .panel_report import PanelReport
from .report import Report
from .running_node import RunningNode
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

    def __call__(self) -> tuple[TrainResult, dict[str, str], Tensor, Tensor]:
        """Return the result, its metadata, and samples [B, 3, R, R] before and after. What it raises says what was
        kept.

        To be called outside of torch.inference_mode."""
        step = self.panel and self.panel.moment_for(self.unfinished.saved.identity)
        if step is not None:
            result = self._moment(step)
            pictures = self._draw(self.generator), self._draw(result.generator)
            self.panel.publish(self.panel.state["status"], kept=step)
        else:
            result, *pictures = self._train()
        metadata = dict(self.metadata)
        if result.interrupted:
            metadata["steps_done"] = str(result.steps_done)
        if step is None:  # a moment is still there to be chosen again
            keep_latest(self.folder, result.generator, metadata)
        return result, metadata, *pictures

    def _train(self) -> tuple[TrainResult, Tensor, Tensor]:
        report = self._report()
        done = self._attempt(report)
        self.prior.session.release_memory()
        give_back()
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
            report.ended(FINISHED, "", result.steps_done)
            self.unfinished.forget()
        if self.panel and result.best_step == result.steps_done:  # the panel has no other
            self.panel.result = result.steps_done
        return result, before, after

    def _attempt(self, report: Report) -> "tuple[Tensor, TrainResult] | _Failure":
        """Train, and keep what was trained when that fails: samples before and the result, or what to raise."""
        step = self.unfinished.saved.steps_done()
        try:
            before = self._draw(self.generator)
            report.before(before)
            return before, self._trained(report)
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
        arguments = self.prior, self.settings, self.terms, self.layers, report, self.unfinished.saved
        try:
            return train_generator(self.generator, *arguments)
        except TrainingStopped as stopped:
            ended = stopped.__cause__
            if not isinstance(ended, Ended):
                raise
            result, done = stopped.result, stopped.result.steps_done
            said = f"Stopped after {done} of {self.settings.steps} steps and kept."
            if ended.step not in (None, done):
                try:
                    result = self._moment(ended.step)
                    said += f" The generator is the one after {ended.step} steps."
                except ValueError as error:
                    said += f" {error}"
            report.ended(STOPPED, said, done)
            self.panel.publish(STOPPED, kept=result.steps_done)
            return result

    def _moment(self, step: int) -> TrainResult:
        """Return the training as it was after `step` steps. Raises ValueError when its weights are gone."""
        generator = with_weights(self.generator, self.panel.moments.weights(step)) if step else self.generator
        history = self.panel.history.until(step)
        return TrainResult(generator, history, step, step < self.settings.steps, best=generator, best_step=step)

    def _report(self) -> Report:
        """Make the report, which says where the training begins."""
        done = self.unfinished.saved.steps_done()
        if self.panel:
            layers = len(self.generator.synthesis.layers)
            report = PanelReport(self.settings, self.node, self.panel)
            self.panel.begin(self.unfinished.saved.identity, self.settings.steps, layers, done)
        else:
            report = Report(self.settings, self.node)
        if done:
            report.going_on(done, f'when_unfinished "{START_OVER}" begins anew')
        else:
            report.other_seeds(self.unfinished.other_seeds())
        return report

    def _draw(self, generator: Generator) -> Tensor:
        z = sample_z(generator.z_dim, self.samples, self.settings.seed)

        def drawn() -> Tensor:
            with on_device(self.prior.device, generator):
                return render_samples(generator, z, class_index=self.settings.class_index)

        return self.node.retry_without_models(drawn)


@dataclass(frozen=True)
class _Failure:
    """_Failure is what to raise for a training that failed."""

    error: BaseException
    step: int  # steps done
    no_memory: bool = False
