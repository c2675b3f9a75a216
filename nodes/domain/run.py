"""One run of the node that learns a domain: train, or go back to a moment; keep what was learned, whatever happens."""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from comfy_api.v0_0_2 import io
from PIL import Image
from torch import Tensor

from ...domain.files import Domain, save_domain
from ...domain.images import learnable
from ...domain.learning import Learned, LearningProgress, describe_settings, learn_domain
from ...domain.settings import DomainSettings
from ...metrics.figures import from_picture, plot_curves
from ...training.endings import TrainingStopped
from ...training.precision import computes_in_half
from ...training.saving import SavedTraining
from .. import outputs
from ..drawing import picture_image, to_image
from ..host import folders
from ..host.device import make_room, raise_if_interrupted, release_memory
from ..host.running_node import HostNode
from ..host.server import answer
from ..host.text_free import HostTextFreeScore, Pixels, domain_patcher, empty_prompt
from ..panel.moments import DISK_BYTES
from ..panel.panel import CANCELLED, FAILED, FINISHED, STOPPED, Ended, Panel
from ..panel.panel_report import PanelReport
from ..panel.report import PREVIEW_SAMPLES, Report
from ..panel.shown import About
from ..sentences import sentence
from ..types import NamedDomain

logger = logging.getLogger(__name__)

SAMPLING_STEPS = 20
LOOKS = 8
"""At the samples over a training."""

COPIES = {False: 5, True: 2}  # of the weights: gradients, what Adam remembers and the average; in low rank few
AGAIN = "The same graph goes on with it."

TITLES = {"error": "How far off the copy's predictions are"}


class LearningRun:
    """A LearningRun learns a domain of pictures with the copy of a model, or goes back to a moment of its training."""

    def __init__(self, node: str, given: Mapping[str, Any], settings: DomainSettings, named: list[tuple[str, Tensor]]):
        self.node, self.given, self.settings = HostNode(node), given, settings
        model, vae = given["model"], given["vae"]
        self.pixels = Pixels(model, vae)
        side = settings.image_size or self.pixels.size
        with torch.no_grad():
            self.pictures, self.warnings = learnable(
                named, side, self.pixels.multiple, settings.crop, settings.mirror, self.pixels.encode
            )
        weights = sum(value.nbytes for value in model.model.diffusion_model.parameters())
        make_room(lambda: COPIES[settings.rank > 0] * 2 * weights)
        # Beside the weights what Adam remembers and the average: gigabytes of a whole Stable Diffusion.
        self._is_small = settings.rank > 0 or COPIES[False] * 2 * weights < DISK_BYTES
        half = settings.rank > 0 and computes_in_half(settings.precision, model.load_device)
        self.score = HostTextFreeScore(model, empty_prompt(given["clip"]), torch.bfloat16 if half else torch.float32)
        self.removals = self.score.take_out_text(self.pictures.buckets[0][:, 0])
        self.samples: list[Tensor] = []
        path = folders.output_folder() / outputs.UNFINISHED / f"domain-{self._digest()}.safetensors"
        self.saved = SavedTraining(path, given.get("save_every", 200) or None, self.score.base)

    def __call__(self, panel: Panel | None) -> io.NodeOutput:
        """Return what the node gives: the domain, samples over the training, and its curve. What it raises says what was
        kept."""
        about = self._about()
        step = panel and panel.moment_for(about.training, about.of_any_length, about.generator)
        if step is not None:
            return self._moment(panel, step, about)
        learned, said = self._learned(self._report(panel, about), panel)
        described = self._described(learned.steps_done)
        path = self._write(learned, described)
        if panel:
            self._passes_on(panel, learned.steps_done, path)
        samples = torch.cat(self.samples) if self.samples else torch.zeros(1, 3, 8, 8)
        return self._output(learned, described, path, samples, panel, said)

    def _learned(self, report: Report, panel: Panel | None) -> tuple[Learned, str]:
        """Learn to the end, or to where the panel's user ends it, which a sentence says."""

        def progress(now: LearningProgress) -> None:
            report(_Watched(now, lambda count: self._looked(now)[:count], self._weights_of(now)))

        saved = self.saved
        if panel and self._is_small:
            saved = dataclasses.replace(saved, finished=panel.shown.saved_state)
        given = self.score, self.pictures, self.settings, progress, saved, release_memory
        try:
            if panel:
                report.before(self._draw())
            learned = learn_domain(*given)
        except TrainingStopped as stopped:
            if isinstance(stopped.__cause__, Ended):
                return self._stopped(stopped.__cause__.step, stopped.result, report, panel)
            raise self._failure(stopped, report) from None
        except BaseException as error:
            ended = CANCELLED if self.node.is_interruption(error) else FAILED
            report.ended(ended, sentence(error) if ended == FAILED else "Nothing was trained yet.", 0)
            raise
        self.saved.remove()
        report.ended(FINISHED, "", learned.steps_done)
        return learned, ""

    def _stopped(self, step: int | None, learned: Learned, report: Report, panel: Panel) -> tuple[Learned, str]:
        done = learned.steps_done
        said = f"Stopped after {done} of {self.settings.steps} steps and kept."
        if step not in (None, done):
            try:
                learned = Learned(panel.moments.weights(step), step, learned.history.until(step), True)
                said += f" The domain is the one after {step} steps."
            except ValueError as error:
                said += f" {error}"
        report.ended(STOPPED, said, done)
        panel.publish(STOPPED, kept=learned.steps_done)
        return learned, f"\n{said}"

    def _failure(self, stopped: TrainingStopped, report: Report) -> BaseException:
        """What to raise for a training that ended early, once what was learned is written."""
        done, cause = stopped.result.steps_done, stopped.__cause__
        path = self._write(stopped.result, self._described(done))
        kept = f"The domain as learned in {done} steps is in models/{folders.DOMAINS}/{path.name}."
        logger.warning("StyleGAN Fusion: %s", kept)
        if self.node.is_interruption(cause):
            report.ended(CANCELLED, f"{kept} {AGAIN}", done)
            return cause.with_traceback(None)
        self.node.unload_models()
        said = f"{sentence(stopped)} {kept} {AGAIN}"
        report.ended(FAILED, said, done)
        raised = RuntimeError(said)
        raised.__cause__ = cause
        return raised

    def _moment(self, panel: Panel, step: int, about: About) -> io.NodeOutput:
        """Give a moment of a training that the panel shows, as it was asked for there."""
        given = panel.given
        described = {**given.about.metadata, "steps_done": str(step)}
        learned = Learned(given.moments.weights(step), step, given.history.until(step), True)
        name = given.state.get("files", {}).get(str(step))
        path = folders.domains_folder() / name if name else None
        if path is None or not path.exists():
            path = self._write(learned, described)
        panel.note(_saved_as(path))
        if given.about.training != about.training:
            panel.note(
                f"The graph went on with {given.about.prompt} as learned in {step} steps. Run it once more to train with the "
                "inputs as they are."
            )
        given.state = {**given.state, "files": {**given.state.get("files", {}), str(step): path.name}}
        if given is panel.shown:
            panel.publish(panel.state["status"], kept=step)
        else:
            panel.publish(panel.state["status"])
            given.keep()
        looked = from_picture(Image.open(BytesIO(given.moments.picture(step))).convert("RGB"))
        return self._output(learned, described, path, looked, panel)

    def _passes_on(self, panel: Panel, step: int, path: Path) -> None:
        """Note which moment the node passes on, and the file that it is in."""
        panel.state = {**panel.state, "files": {**panel.state.get("files", {}), str(step): path.name}}
        panel.note(_saved_as(path))
        panel.publish(panel.state["status"])
        panel.passes_on(step)

    def _report(self, panel: Panel | None, about: About) -> Report:
        """Make the report, which says where the training begins."""
        if panel:
            panel.take_up_finished(self.saved, describe_settings(self.settings))
        steps, done = self.settings.steps, self.saved.steps_done()
        every = max(1, steps // LOOKS)
        if panel:
            report = PanelReport(steps, self.node, panel, every=every)
            panel.begin(about.training, steps, 0, done, about)
        else:
            report = Report(steps, self.node, every=every)
        for warning in self.warnings:
            logger.warning("StyleGAN Fusion: %s", warning)
            report.warn(warning)
        if done:
            report.going_on(done, "another seed begins anew")
        return report

    def _about(self) -> About:
        """What tells this training from others, for the panel and for people."""
        settings = self.settings
        details = {
            "seed": f"{settings.seed}",
            "learning rate": f"{settings.learning_rate:g}",
            "batch": f"{settings.batch_size * settings.accumulation}",
            "rank": f"{settings.rank}" if settings.rank else "",
        }
        return About(
            self._digest(),
            self._digest("steps"),
            f"{self.score.base} {self.pictures.digest}",
            f"{self._wanted_name}, {len(self.pictures)} pictures",
            {name: said for name, said in details.items() if said},
            self._described(settings.steps),
            TITLES,
            "model or set of pictures",
        )

    def _digest(self, *but: str) -> str:
        described = dataclasses.asdict(self.settings) | {"pictures": self.pictures.digest, "base": self.score.base}
        for name in ("recompute", *but):
            del described[name]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _wanted_name(self) -> str:
        return self.given["name"].strip() or "domain"

    def _described(self, steps_done: int) -> dict[str, str]:
        """What a file says of how its domain was learned."""
        about = {name: str(value) for name, value in dataclasses.asdict(self.settings).items()}
        return {**about, "pictures": str(len(self.pictures)), "steps_done": str(steps_done)}

    def _domain(self, learned: Learned, described: Mapping[str, str]) -> Domain:
        return self.score.domain(self.removals, learned.weights, dict(described))

    def _write(self, learned: Learned, described: Mapping[str, str]) -> Path:
        """Write the domain where no other is. Raises OSError."""
        with outputs.claimed(folders.domains_folder(), self._wanted_name) as path:
            save_domain(self._domain(learned, described), path)
        return path

    def _output(
        self,
        learned: Learned,
        described: Mapping[str, str],
        path: Path,
        samples: Tensor,
        panel: Panel | None,
        said: str = "",
    ) -> io.NodeOutput:
        copy = domain_patcher(self.given["model"], self._domain(learned, described))
        plot = plot_curves({title: learned.history.series(loss) for loss, title in TITLES.items()})
        text = "\n".join([_saved_as(path) + said, *self.warnings])
        shown = None if panel else answer(self.node.node_id, text)  # the panel has said it
        named = NamedDomain(copy, self.score.pooled, path.name)
        return io.NodeOutput(named, to_image(samples), picture_image(plot), ui=shown)

    def _looked(self, progress: LearningProgress) -> Tensor:
        """Draw with what would come out now, and keep it for the node's samples."""
        with progress.averaged():
            self.samples.append(self._draw())
        return self.samples[-1]

    def _weights_of(self, progress: LearningProgress) -> Callable[[], dict[str, Tensor]]:
        """What a moment keeps: nothing where the moments of a training would fill the disk; then it is a picture."""
        return lambda: progress.weights() if LOOKS * progress.weight_bytes < DISK_BYTES else {}

    def _draw(self) -> Tensor:
        """Draw a row of pictures with the copy as it is, always of the same noise."""
        shape = self.pictures.buckets[0].shape[2:]
        drawn = []
        for number in range(PREVIEW_SAMPLES):
            noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(number))
            drawn.append(self.pixels.decode(self.score.drawn(noise, SAMPLING_STEPS, raise_if_interrupted)))
        return torch.cat(drawn).clamp(-1, 1)


def _saved_as(path: Path) -> str:
    return f"Saved as models/{folders.DOMAINS}/{path.name}"


@dataclass(frozen=True)
class _Watched:
    """What a report reads of a step."""

    progress: LearningProgress
    samples: Callable[[int], Tensor]
    weights: Callable[[], dict[str, Tensor]]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.progress, name)
