"""The command learn-domain: a domain from a folder of pictures."""

import argparse
import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..domain.settings import DomainSettings
from ..metrics.pictures import picture_files, read_picture
from ..miniature.settings import LEARNING
from ..training.parallel import Alone, joined
from ..training.settings import declared_settings, option_of
from .arguments import add_device, add_on_model, add_output, add_setting, at_least, path, positive, shown
from .beside import train_beside
from .load import diffusion_model
from .signals import stop_noted, stopping
from .terminal import MINIATURE, UsageError, counting_bar, device_named, make_folder, shell_word, write_png

logger = logging.getLogger(__name__)

DOMAIN, TRAINING, SAMPLES, LOSS = "domain.safetensors", "training.safetensors", "samples", "loss.png"
IN_PICTURE = 8  # samples
SAMPLING_STEPS = 20


def add(commands) -> None:
    parser = commands.add_parser(
        "learn-domain",
        help="learn a domain from a folder of pictures, for draw and adapt",
        description="Trains a text-free copy of a diffusion model on pictures of one domain, thirty of a style for example "
        f"(arXiv 2312.08195), and writes {DOMAIN}: with --domain, draw makes pictures of that domain and adapt moves a "
        "generator there. No captions are needed. The same command goes on where it was stopped, and with more --steps it "
        "trains further.",
    )
    parser.add_argument(
        "--images", required=True, type=path, nargs="+", metavar="FOLDER", help="folders with pictures, or pictures"
    )
    add_output(parser, f"folder for {DOMAIN}, samples over time, and what is needed to go on")
    add_on_model(parser)
    for declared in declared_settings(DomainSettings).values():
        usual, miniature = (shown(getattr(one, declared.name), declared) for one in (DomainSettings(), LEARNING))
        add_setting(parser, declared, f"({usual})" if usual == miniature else f"({usual}; {MINIATURE} {miniature})")
    parser.add_argument(
        "--save-every", type=positive, default=100, metavar="N", help="steps between two savings (default: 100)"
    )
    parser.add_argument(
        "--sample-every",
        type=at_least(0),
        default=500,
        metavar="N",
        help="steps between two pictures of samples, besides those at the end; 0: no pictures (default: 500)",
    )
    add_device(parser)
    parser.set_defaults(command=learn)


def learn(options: argparse.Namespace) -> int:
    """Learn a domain, or go on with it."""
    with joined(device_named(options.device)) as parallel:
        return _learn(options, parallel)


def _learn(options: argparse.Namespace, parallel: Alone) -> int:
    from ..training.files import locked

    settings, folder = settings_of(options), options.output
    settings = dataclasses.replace(settings, accumulation=settings.accumulation * parallel.world)
    files = picture_files(options.images)
    if parallel.first and (folder / DOMAIN).exists() and not (folder / TRAINING).exists():
        raise UsageError(f"{folder} already holds {DOMAIN}; give another folder as --output, so that nothing is lost.")
    for file in files:
        read_picture(file)  # what is wrong with one is said before gigabytes are loaded
    model = diffusion_model(options, device_named(options.device), decoder=options.sample_every > 0)
    if not parallel.first:
        from ..domain.learning import learn_domain

        learner = _Learner.of(model, files, settings, options)
        given = learner.score, learner.pictures, settings
        return train_beside(lambda report: learn_domain(*given, report, learner.saved, parallel=parallel))
    make_folder(folder)
    with locked(folder / ".lock") as free:
        if not free:
            raise UsageError(f"Another process is working on {folder}; wait until it ends, or stop it first.")
        return _train(options, settings, _Learner.of(model, files, settings, options), parallel)


@dataclass(frozen=True)
class _Learner:
    """The parts of a training, and what is written of it."""

    model: Any  # StableDiffusion
    score: Any  # TextFreeUNet
    removals: list
    pictures: Any
    saved: Any
    folder: Path
    about: dict[str, str]

    @classmethod
    def of(cls, model, files: list[Path], settings: DomainSettings, options: argparse.Namespace) -> "_Learner":
        import torch

        from ..domain.images import learnable
        from ..domain.on_diffusers import TextFreeUNet, base_of
        from ..metrics.figures import from_picture
        from ..sds import SavedTraining
        from ..sds.priors.diffusers import DiffusersPrior, side_multiple
        from ..training.precision import computes_in_half

        prior = DiffusersPrior(model, "", "", 1.0, settings.image_size or None)
        named = ((str(file), from_picture(read_picture(file)).to(model.device)) for file in files)
        with torch.no_grad():
            pictures, warnings = learnable(
                named, prior.image_size, side_multiple(model), settings.crop, settings.mirror, prior.encode
            )
        for warning in warnings:
            print(warning)
        half = computes_in_half(settings.precision, model.device) and settings.rank > 0
        score = TextFreeUNet.copied(model, torch.bfloat16 if half else torch.float32)
        removals = score.take_out_text(pictures.buckets[0][:, 0])
        identity = {"the model of --model": base_of(model), "the pictures of --images": pictures.digest}
        model.unet.to("cpu")  # room for the copy: nothing but names is asked of it from now on
        folder = options.output
        path = folder / TRAINING
        saved = SavedTraining(path, options.save_every, identity, words=_in_options, finished=path)
        described = {one: str(value) for one, value in dataclasses.asdict(settings).items()}
        about = {"model": Path(options.model).name, "pictures": str(len(pictures)), **described}
        return cls(model, score, removals, pictures, saved, folder, about)

    def write(self, learned) -> None:
        """Write the domain and its plot. Raises OSError."""
        from ..domain.files import save_domain
        from ..metrics.figures import plot_curves

        about = {**self.about, "steps_done": str(learned.steps_done)}
        save_domain(self.score.domain(self.removals, learned.weights, about), self.folder / DOMAIN)
        steps = range(1, len(learned.losses) + 1)
        write_png(plot_curves({"error of the copy's predictions": (steps, learned.losses)}), self.folder / LOSS)

    def draw(self, step: int, seed: int) -> None:
        """Draw with the copy as it is, always of the same noise."""
        import torch

        from ..domain.on_diffusers import DomainPrior
        from ..metrics.figures import sample_grid
        from ..sds.priors.drawing import draw_pictures

        try:
            prior = DomainPrior(self.model, "", "", 0.0, self.score, 1.0)
            images = torch.cat([*draw_pictures(prior, 0, IN_PICTURE, SAMPLING_STEPS, seed, 1)])
            (self.folder / SAMPLES).mkdir(exist_ok=True)
            write_png(sample_grid(images, columns=IN_PICTURE // 2), self.folder / SAMPLES / f"{step:06}.png")
        except (RuntimeError, MemoryError, OSError) as error:  # no picture is worth losing a training for
            logger.warning("The samples could not be drawn: %s", error)


def _train(options: argparse.Namespace, settings: DomainSettings, learner: _Learner, parallel: Alone) -> int:
    """Train on the terminal and write what comes of it; the exit status."""
    from ..domain.learning import learn_domain
    from ..sds import TrainingStopped

    done, every, written = learner.saved.steps_done(), options.sample_every, options.output / DOMAIN
    if done:
        print(f"Going on after {done} of {settings.steps} steps.")
    stopped = None
    try:
        with stop_noted() as request, stopping(request, counting_bar(settings.steps, "step", done)) as bar:

            def report(progress) -> None:
                if progress.warning:
                    logger.warning("%s", progress.warning)
                if every and (progress.step % every == 0 or progress.step == progress.steps):
                    with progress.averaged():
                        learner.draw(progress.step, settings.seed)
                bar(1)

            learned = learn_domain(learner.score, learner.pictures, settings, report, learner.saved, parallel=parallel)
    except TrainingStopped as error:
        learned, stopped = error.result, error
    learner.write(learned)
    kept = f"Wrote {written}, as learned in {learned.steps_done} of {settings.steps} steps."
    if stopped is None:
        command = f"stylegan-fusion draw --model {shell_word(Path(options.model))} --domain {shell_word(written)}"
        print(f"{kept} Pictures with it: {command} --output pictures")
        return 0
    if isinstance(stopped.__cause__, KeyboardInterrupt):
        print(f"Stopped. {kept} The same command goes on from there.")
        return request.status
    raise UsageError(f"{stopped} {kept} The same command goes on from there.") from stopped


def settings_of(options: argparse.Namespace) -> DomainSettings:
    """Return what was asked for, over the defaults. Raises ValueError."""
    base = LEARNING if options.model == MINIATURE else DomainSettings()
    asked = {one: value for one in declared_settings(DomainSettings) if (value := getattr(options, one)) is not None}
    return dataclasses.replace(base, **asked)


def _in_options(differing: str, saved: object, wanted: object) -> list[str]:
    declared = declared_settings(DomainSettings).get(differing)
    return [option_of(declared)] if declared else [differing]
