"""What trains and what prepares it, once the arguments are read: demo, adapt, targets."""

import argparse
from pathlib import Path

from ..miniature.settings import MINIATURE_SETTINGS, prompt_for
from ..training.out_of_memory import is_out_of_memory
from ..training.parallel import Alone, joined
from .errors import explanation
from .load import Parts, domain_copy, load_model, load_parts, model_digest, named_domain
from .plan import Plan
from .planning import plan_for, targets_plan_for
from .run import follow, run
from .run_folder import RESULTS, RunError, RunFolder
from .signals import stop_noted, stopping
from .targets import SHOWN, show_targets
from .terminal import (
    MINIATURE,
    MINIATURE_CAT,
    UsageError,
    device_named,
    free_folder,
    load_generator,
    make_folder,
    progress_bar,
    refreshing_bar,
    require_free,
    shell_word,
    targets_bar,
)

DEMO_FOLDER = "stylegan-fusion-demo"


def demo(options: argparse.Namespace) -> int:
    if options.output is None:
        options.output = free_folder(Path(DEMO_FOLDER))
    options.miniature_settings = MINIATURE_SETTINGS
    options.generator = MINIATURE_CAT if options.source == "cat" else MINIATURE
    options.prompt = options.prompt or prompt_for(options.target)
    if options.prompt == prompt_for(options.source):
        raise UsageError(f"The generator draws a {options.source} already; give another --target or --prompt.")
    print(
        f"Adapting the miniature's {options.source} generator to {options.prompt!r}; a few minutes on two processor cores. "
        "Ctrl-C keeps what is made so far."
    )
    return adapt(options)


def adapt_or_resume(options: argparse.Namespace) -> int:
    if options.resume is not None:
        return resume(options.resume)
    options.miniature_settings = MINIATURE_SETTINGS
    return adapt(options)


def adapt(options: argparse.Namespace) -> int:
    """Begin a run, with the miniature's settings as defaults where `options.miniature_settings` are given."""
    with joined(device_named(options.device)) as parallel:
        plan, folder = plan_for(options).shared_by(parallel.world), RunFolder(options.output)
        if not parallel.first:
            return follow(plan, folder, parallel)
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
            return _train(plan, parts, folder, parallel)


def resume(path: Path) -> int:
    """Go on with the run in a folder."""
    folder = RunFolder(path)
    plan, _ = folder.read()  # that there is a run
    with joined(device_named(plan.device)) as parallel:
        if not parallel.first:
            return follow(plan, folder, parallel)
        with folder.held():
            return _resumed(folder, parallel)


def _resumed(folder: RunFolder, parallel: Alone) -> int:
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
    except Exception as error:
        said = explanation(error)
        if said is None or is_out_of_memory(error):
            raise
        raise RunError(
            f"{said} The run in {path} cannot go on without it: put back what it began with, then resume it again. "
            "What was trained so far stays there."
        ) from error
    make_folder(path, "see that it can be, then resume it again")
    print(f"Going on after {folder.saved(plan).steps_done()} of {plan.settings.steps} steps.")
    return _train(plan, parts, folder, parallel)


def _train(plan: Plan, parts: Parts, folder: RunFolder, parallel: Alone) -> int:
    """Run it on the terminal, and say what came of it; the exit status."""
    from ..sds import TrainingDiverged, TrainingOutOfMemory

    steps, before = plan.settings.steps, folder.saved(plan).steps_done()
    try:
        with stop_noted() as request:
            done = run(
                plan,
                parts,
                folder,
                watching=lambda: stopping(request, progress_bar(steps, before)),
                at_once=lambda: request.at_once,
                making=lambda: stopping(request, targets_bar()),
                refreshing=lambda: stopping(request, refreshing_bar()),
                parallel=parallel,
            )
    except KeyboardInterrupt:
        print(f"Stopped. {folder.what_is_kept(plan)}")
        return request.status
    print(f"Wrote {', '.join(done.written)} to {folder.path.resolve()}")
    if done.best_step != done.steps_done:
        print(f"best.safetensors is the generator after {done.best_step} steps, before its images became alike.")
    if done.stopped is None:
        return 0
    kept = folder.what_is_kept(plan)
    if isinstance(done.stopped.__cause__, KeyboardInterrupt):
        print(f"Stopped. {kept}")
        return request.status
    if isinstance(done.stopped, TrainingOutOfMemory):
        kept += ", once there is more memory, or begin anew with --image-size or --half and another --output."
    if isinstance(done.stopped, TrainingDiverged):
        kept += ", or begin anew with other settings and another --output; going on may end the same way."
    raise UsageError(f"{done.stopped} {kept}") from done.stopped


def targets(options: argparse.Namespace) -> int:
    """Make targets in a folder."""
    from ..sds import TargetsFolder, make_targets

    plan, device = targets_plan_for(options), device_named(options.device)
    generator, _, crop = load_generator(options.generator, device)
    domain = named_domain(plan)
    model = load_model(plan, device, decoder=True)
    editor = plan.editor(model, domain_copy(plan, domain, model))
    make_folder(options.output)
    folder = TargetsFolder(options.output, plan.identity, model_digest(model))
    try:
        with stop_noted() as request, stopping(request, targets_bar()) as report:
            made = make_targets(generator, editor, plan.settings, folder, report, plan.class_index, crop, plan.codes())
    except KeyboardInterrupt:
        print(f"Stopped. The same command goes on with what is in {options.output}.")
        return request.status
    show_targets(generator, made, editor.target, crop, options.output / SHOWN)
    print(
        f"Wrote {len(made)} targets to {options.output.resolve()}. Look at them, edit or remove what you do not like, then: "
        f"stylegan-fusion adapt --targets {shell_word(options.output)} ..."
    )
    return 0
