"""The command line: adapt a generator to a prompt, draw samples with one, or see a demo of it all."""

import argparse
import dataclasses
import math
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

from .miniature.settings import DEMOS, MINIATURE_SETTINGS, MiniatureSettings
from .sds.layers import TRAINED_BY_DEFAULT

INTERRUPTED = 130  # the exit status of a program that Ctrl-C ended
MINIATURE = "miniature"
KNOWN_FORMATS = "a safetensors file of this program, a .pt in rosinality's layout, or a .pkl of NVlabs' StyleGAN2 or 3"
DEMO_FOLDER = "stylegan-fusion-demo"
RESULTS = ("generator.safetensors", "before_after.png", "loss.png")


class UsageError(Exception):
    """Something the user can put right; the message says how."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; the exit status is 0, 1 for an error that is explained, 130 when Ctrl-C ended the run."""
    options = _parser().parse_args(arguments)
    _quiet_libraries()
    from torch import OutOfMemoryError

    from .stylegan import CheckpointError

    try:
        return options.run(options)
    except (UsageError, CheckpointError, ValueError, ImportError, FileNotFoundError) as error:
        message = str(error)
    except OutOfMemoryError:
        message = "Out of memory. Try --half, --batch-size 1, or --device cpu."
    except OSError as error:
        message = f"{error.filename or 'A file'} could not be read or written ({error.strerror or error}); free some space or choose another folder."
    except KeyboardInterrupt:
        print("\nstylegan-fusion: stopped.", file=sys.stderr)
        return INTERRUPTED
    print(f"stylegan-fusion: {message}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stylegan-fusion", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="adapt the miniature's person generator to another domain, in minutes on any computer"
    )
    demo.add_argument("--output", type=Path, metavar="DIR", help=f"folder for the results (default: {DEMO_FOLDER})")
    demo.add_argument("--target", choices=DEMOS, default="fox", help="what the persons become (default: fox)")
    demo.add_argument(
        "--prompt", help="what the generator shall draw, with the target's settings (default: the target)"
    )
    _training_options(demo, DEMOS)
    demo.set_defaults(run=_demo, generator=MINIATURE, model=MINIATURE)

    adapt = commands.add_parser("adapt", help="adapt a generator to a prompt", epilog=TRAINED_BY_DEFAULT)
    adapt.add_argument("--generator", required=True, metavar="FILE", help=f'{KNOWN_FORMATS}, or "{MINIATURE}"')
    adapt.add_argument(
        "--model",
        required=True,
        metavar="FOLDER",
        help=f'Stable Diffusion in the layout of diffusers, or "{MINIATURE}"',
    )
    adapt.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder for the results")
    adapt.add_argument("--prompt", required=True, help="what the generator shall draw")
    _training_options(adapt, {MINIATURE: MINIATURE_SETTINGS})
    adapt.set_defaults(run=_adapt, miniature_settings=MINIATURE_SETTINGS)

    sample = commands.add_parser("sample", help="draw images with a generator")
    sample.add_argument("--generator", required=True, metavar="FILE", help=f'{KNOWN_FORMATS}, or "{MINIATURE}"')
    sample.add_argument(
        "--output", required=True, type=Path, metavar="DIR", help="folder for the images and their grid"
    )
    sample.add_argument("--count", type=_positive, default=16, help="number of images (default: 16)")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same latents (default: 0)")
    sample.add_argument("--truncation-psi", type=float, default=1.0, help="below 1: nearer to the average (default: 1)")
    sample.add_argument("--truncation-cutoff", type=_positive, help="truncate this many layers only, the coarse ones")
    sample.add_argument("--noise", choices=("const", "random", "none"), default="const", help="noise inputs")
    sample.add_argument("--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)")
    sample.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    sample.set_defaults(run=_sample)

    convert = commands.add_parser(
        "convert",
        help="write a generator of any known format as safetensors, or as a .pt for other programs",
        description=f"Reads {KNOWN_FORMATS}, whatever its name, and executes nothing that is in it.",
    )
    convert.add_argument("file", metavar="FILE", help="the generator to read")
    convert.add_argument(
        "--output",
        required=True,
        type=Path,
        metavar="FILE",
        help="where to write: FILE.safetensors, or FILE.pt in rosinality's layout",
    )
    convert.add_argument("--license-note", metavar="TEXT", help="licence, for the metadata (default: the source's)")
    convert.add_argument(
        "--crop",
        default="auto",
        metavar="WxH",
        help="middle of the pictures that counts, 512x384 for LSUN cars (default: auto, between black bars; or none)",
    )
    convert.set_defaults(run=_convert)
    return parser


def _training_options(parser: argparse.ArgumentParser, miniature: Mapping[str, MiniatureSettings]) -> None:
    """The settings of a training; those left out are the miniature's own on the miniature, else the paper's.

    The help gives both: the paper's, and under its name each of `miniature`."""

    def usual(paper: object, read: Callable[[MiniatureSettings], object]) -> str:
        return f"({paper}; {', '.join(f'{name} {read(settings)}' for name, settings in miniature.items())})"

    parser.add_argument(
        "--negative-prompt", help=f"what it shall stay away from {usual('none', lambda s: s.negative_prompt)}"
    )
    parser.add_argument(
        "--guidance-scale",
        type=float,
        help=f"how strongly the prompt pulls {usual(100, lambda s: s.guidance_scale)}",
    )
    parser.add_argument("--steps", type=int, help=f"training steps {usual(1000, lambda s: s.training.steps)}")
    parser.add_argument("--batch-size", type=int, help=f"images a step {usual(1, lambda s: s.training.batch_size)}")
    parser.add_argument(
        "--learning-rate",
        type=float,
        help=f"size of Adam's steps {usual(0.001, lambda s: s.training.learning_rate)}",
    )
    parser.add_argument(
        "--cooldown",
        type=float,
        help="share of the steps, the last ones, over which the learning rate falls to 0 "
        + usual(0, lambda s: s.training.cooldown),
    )
    parser.add_argument(
        "--t-min", type=float, help=f"lowest timestep, 0 = clean {usual(0.01, lambda s: s.training.t_min)}"
    )
    parser.add_argument(
        "--t-max",
        type=float,
        help="highest timestep, 1 = pure noise; 0.3 changes style, more the shape "
        + usual(0.5, lambda s: s.training.t_max),
    )
    parser.add_argument(
        "--image-size", type=_positive, metavar="PIXELS", help="image that the model sees (its own size)"
    )
    parser.add_argument(
        "--directional",
        type=float,
        metavar="WEIGHT",
        help=f"weight of the directional regularizer {usual(1.0, lambda s: s.directional_weight)}",
    )
    parser.add_argument(
        "--reconstruction", type=float, metavar="WEIGHT", help="weight of the reconstruction regularizer"
    )
    parser.add_argument(
        "--layers", metavar="CHOICE", help='"all", the k that matter most in each step as "top3", or a list as "1,2,3"'
    )
    parser.add_argument(
        "--selection-steps", type=int, help="search steps of a top-k choice; 1 costs nothing (default: 1)"
    )
    parser.add_argument(
        "--also-train",
        default="",
        metavar="GROUPS",
        help="of constant,4x4,to_rgb: otherwise frozen (StyleGAN3 has no 4x4; its constant is the Fourier input)",
    )
    parser.add_argument("--class-index", type=int, metavar="N", help="class of a generator with classes (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same generator (default: 0)")
    parser.add_argument("--samples", type=_at_least_two, default=8, help="images before and after (default: 8)")
    parser.add_argument("--device", help="cpu, cuda, mps (default: the fastest there is)")
    parser.add_argument("--half", action="store_true", help="evaluate the diffusion model in half precision (GPU)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("give 1 or more")
    return number


def _at_least_two(text: str) -> int:
    number = int(text)
    if number < 2:
        raise argparse.ArgumentTypeError("give 2 or more")
    return number


def _demo(options: argparse.Namespace) -> int:
    if options.output is None:
        options.output = _free_folder(Path(DEMO_FOLDER))
    options.miniature_settings = DEMOS[options.target]
    options.prompt = options.prompt or options.miniature_settings.prompt
    print(
        "Adapting the miniature's person generator; a few minutes on two processor cores. Ctrl-C keeps what is trained."
    )
    return _adapt(options)


def _free_folder(folder: Path) -> Path:
    number, free = 1, folder
    while free.exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _adapt(options: argparse.Namespace) -> int:
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


def _sample(options: argparse.Namespace) -> int:
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


def _convert(options: argparse.Namespace) -> int:
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


def _quiet_libraries() -> None:
    """Warnings and errors of the libraries only; their progress bars would cover ours."""
    try:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging
    except ImportError:
        return
    for library in (diffusers_logging, transformers_logging):
        library.disable_progress_bar()
        library.set_verbosity_error()
