"""What the command line does, once the arguments are read: demo, adapt, sample, convert."""

import argparse
import dataclasses
import math
import signal
import tempfile
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from .miniature.settings import DEMOS

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
MINIATURE = "miniature"
DEMO_FOLDER = "stylegan-fusion-demo"
RESULTS = ("generator.safetensors", "before_after.png", "loss.png")


class UsageError(Exception):
    """Something the user can put right; the message says how."""


def demo(options: argparse.Namespace) -> int:
    if options.output is None:
        options.output = _free_folder(Path(DEMO_FOLDER))
    options.miniature_settings = DEMOS[options.target]
    options.prompt = options.prompt or options.miniature_settings.prompt
    print(
        "Adapting the miniature's person generator; a few minutes on two processor cores. Ctrl-C keeps what is trained."
    )
    return adapt(options)


def _free_folder(folder: Path) -> Path:
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def adapt(options: argparse.Namespace) -> int:
    from .sds import TrainingStopped, train_generator, training_metadata
    from .sds.figures import before_after, loss_plot
    from .stylegan import render_samples, sample_z, save_or_rescue

    if options.negative_prompt is None:
        options.negative_prompt = options.miniature_settings.negative_prompt if options.model == MINIATURE else ""
    settings, regularizers, layers, guidance_scale = _settings(options)
    _require_free(options.output, RESULTS)
    device = _device(options.device)
    generator, source_metadata, crop = _generator(options.generator, device)
    settings = dataclasses.replace(settings, crop=crop)
    metadata = training_metadata(
        settings,
        regularizers,
        layers,
        prompt=options.prompt,
        negative_prompt=options.negative_prompt,
        guidance_scale=guidance_scale,
        source=Path(options.generator).name,
        source_metadata=source_metadata,
    )
    layers.candidates(len(generator.synthesis.layers))  # a choice that does not fit is said before anything is loaded
    prior = _prior(options, guidance_scale, device)
    _make(options.output)
    stopped = None
    try:
        with _progress_bar(settings.steps) as report:
            result = train_generator(generator, prior, settings, regularizers, layers, report)
    except TrainingStopped as error:
        stopped, result = error, error.result
        metadata["steps_done"] = str(result.steps_done)
    with _undisturbed():
        target = options.output / "generator.safetensors"
        written = save_or_rescue(result.generator, target, metadata)
        if written != target:
            raise UsageError(f"{target} could not be written; the generator is kept in {written} instead.")
        z = sample_z(generator.z_dim, options.samples, options.seed)
        before, after = (
            render_samples(drawing, z, class_index=settings.class_index) for drawing in (generator, result.generator)
        )
        pictures = before_after(before, after) if crop is None else before_after(crop.apply(before), crop.apply(after))
        _write_png(pictures, options.output / "before_after.png")
        _write_png(loss_plot(result.history), options.output / "loss.png")
    print(f"Wrote {', '.join(RESULTS)} to {options.output.resolve()}")
    if stopped is None:
        return 0
    if isinstance(stopped.__cause__, KeyboardInterrupt):
        print(f"Stopped after {result.steps_done} of {settings.steps} steps; what was trained until then is kept.")
        return INTERRUPTED
    raise UsageError(f"{stopped} What was trained for {result.steps_done} steps is kept.") from stopped


def _generator(file: str, device):
    """The generator in a file, on the device; its metadata; and what counts of its pictures."""
    from .miniature import generator_path
    from .stylegan import crop_of, load_checkpoint, provenance

    checkpoint = load_checkpoint(generator_path(file))
    generator = checkpoint.generator.to(device)
    metadata = provenance(checkpoint, Path(file).name)
    return generator, metadata, crop_of(metadata)


def _settings(options: argparse.Namespace):
    """TrainSettings, regularizers, layer choice and guidance scale: what was asked for, over the defaults."""
    from .sds import (
        AllLayers,
        DirectionalRegularizer,
        ReconstructionRegularizer,
        TopKLayers,
        TrainSettings,
        parse_groups,
    )

    if options.model == MINIATURE:
        base = options.miniature_settings
        training, scale, layers = base.training, base.guidance_scale, base.layers
        directional, reconstruction = base.directional_weight, base.reconstruction_weight
    else:
        training, scale, layers = TrainSettings(), 100.0, AllLayers()
        directional, reconstruction = 1.0, 0.0
    names = ("steps", "batch_size", "learning_rate", "cooldown", "t_min", "t_max", "seed", "class_index")
    asked = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    training = dataclasses.replace(training, **asked, also_train=parse_groups(options.also_train))
    regularizers = [
        kind(default if given is None else given)
        for kind, default, given in (
            (DirectionalRegularizer, directional, options.directional),
            (ReconstructionRegularizer, reconstruction, options.reconstruction),
        )
    ]
    if options.layers:
        layers = _layers(options.layers)
    if options.selection_steps is not None:
        if not isinstance(layers, TopKLayers):
            raise UsageError("--selection-steps is for a choice of the layers that matter most; add --layers top3.")
        layers = dataclasses.replace(layers, steps=options.selection_steps)
    regularizers = [regularizer for regularizer in regularizers if regularizer.weight != 0]
    return training, regularizers, layers, scale if options.guidance_scale is None else options.guidance_scale


def _layers(text: str):
    from .sds import AllLayers, ManualLayers, TopKLayers

    if text == "all":
        return AllLayers()
    if text.startswith("top"):
        if not text[3:].isdigit():
            raise UsageError(f"--layers {text} names no number of layers; write for example top3.")
        return TopKLayers(int(text[3:]))
    return ManualLayers.parse(text)


def _prior(options: argparse.Namespace, guidance_scale: float, device):
    import torch

    from .miniature import WEIGHTS
    from .sds.diffusers_prior import DiffusersPrior, StableDiffusion

    folder = WEIGHTS / "diffusion" if options.model == MINIATURE else Path(options.model)
    model = StableDiffusion.load(folder, device, torch.float16 if options.half else torch.float32)
    return DiffusersPrior(model, options.prompt, options.negative_prompt, guidance_scale, options.image_size)


def sample(options: argparse.Namespace) -> int:
    from .sds.figures import sample_grid, to_pictures
    from .stylegan import render_samples, sample_z

    if not math.isfinite(options.truncation_psi):
        raise UsageError(f"--truncation-psi is {options.truncation_psi}; give a number, 0.7 for example.")
    names = [f"{index:05}.png" for index in range(options.count)]
    _require_free(options.output, [*names, "grid.png"])
    device = _device(options.device)
    generator, _, crop = _generator(options.generator, device)
    z = sample_z(generator.z_dim, options.count, options.seed)
    how = options.truncation_psi, options.truncation_cutoff, options.noise, options.class_index
    images = render_samples(generator, z, *how)
    images = images if crop is None else crop.apply(images)
    _make(options.output)
    for name, picture in zip(names, to_pictures(images), strict=True):
        _write_png(picture, options.output / name)
    _write_png(sample_grid(images[:64]), options.output / "grid.png")
    print(f"Wrote {len(images)} images and grid.png to {options.output.resolve()}")
    return 0


def convert(options: argparse.Namespace) -> int:
    from .miniature import generator_path
    from .stylegan import SUFFIXES, load_checkpoint, provenance, with_crop, write_generator

    if options.output.suffix not in SUFFIXES:
        raise UsageError(f"{options.output} ends in neither {' nor '.join(SUFFIXES)}; the ending says what to write.")
    with_crop({}, options.crop)
    _require_free(options.output.parent, [options.output.name])
    checkpoint = load_checkpoint(generator_path(options.file))
    metadata = with_crop(provenance(checkpoint, Path(options.file).name), options.crop)
    if options.license_note:
        metadata["license"] = options.license_note
    write_generator(checkpoint.generator, options.output, metadata)
    config = checkpoint.generator.config
    kind = {"stylegan2": "StyleGAN2", "stylegan3": "StyleGAN3"}[config.architecture]
    print(
        f"Read {options.file}: {checkpoint.format}, {kind} of {config.resolution} x {config.resolution} pixels", end=""
    )
    print(f", {config.c_dim} classes" if config.c_dim else "", end="")
    print(f", of which {metadata['crop']} count" if "crop" in metadata else "")
    print(f"Wrote {options.output.resolve()}")
    return 0


def _require_free(folder: Path, names: Sequence[str]) -> None:
    taken = next((name for name in names if (folder / name).exists()), None)
    if taken:
        raise UsageError(f"{folder} already holds {taken}; give another folder as --output, so that nothing is lost.")


def _make(folder: Path) -> None:
    """Make the folder and see that it can be written, before hours go into what shall be there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or error
        raise UsageError(f"The folder {folder} cannot be written ({reason}); give another as --output.") from None


@contextmanager
def _undisturbed():
    """Ctrl-C waits until what was trained is written."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _device(name: str | None):
    import torch

    if name is None:
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError):
        raise UsageError(f"There is no device {name!r} that torch can use here; try --device cpu.") from None
    return torch.device(name)


@contextmanager
def _progress_bar(steps: int):
    from tqdm import tqdm

    from .sds import Progress

    with tqdm(total=steps, unit="step") as bar:

        def report(progress: Progress) -> None:
            bar.update(progress.step - bar.n)
            bar.set_postfix({name: f"{value:.3g}" for name, value in progress.losses.items()}, refresh=False)
            if progress.skipped:
                bar.write(f"step {progress.step} skipped: {progress.skipped} was not finite")

        yield report


def _write_png(picture, path: Path) -> None:
    from .stylegan import write_atomically

    data = BytesIO()
    picture.save(data, "PNG")
    write_atomically(path, data.getvalue())


def quiet_libraries() -> None:
    """Warnings and errors of the libraries only; their progress bars would cover ours."""
    try:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging
    except ImportError:
        return
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
