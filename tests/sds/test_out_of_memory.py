"""When memory runs out: the same step in smaller pieces, then without kept activations, then an end that keeps all."""

import subprocess
import sys
import weakref
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.sds import (
    DirectionalRegularizer,
    ReconstructionRegularizer,
    SavedTraining,
    TrainingInterrupted,
    TrainingOutOfMemory,
    TrainSettings,
    diversity,
    train_generator,
)
from comfyui_stylegan_fusion.sds.layers import AllLayers
from comfyui_stylegan_fusion.sds.training import GeneratorTraining

REGULARIZERS = (DirectionalRegularizer(0.5), ReconstructionRegularizer(0.2))
ON_THE_GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore about it.")
ON_THE_CPU = RuntimeError(
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried"
)


def settings(**changes):
    return TrainSettings(**{"steps": 3, "batch_size": 4, "t_max": 0.8, "diversity_samples": 4, **changes})


def train(generator, prior, saved=None, progress=None, **changes):
    return train_generator(generator, prior, settings(**changes), REGULARIZERS, progress=progress, saved=saved)


def assert_close(a, b):
    """Adam divides a gradient by its own size, so that rounding counts where it is all that there is."""
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        difference = (x - y).abs()
        assert difference.median() < 1e-6 and difference.mean() < 1e-4 * max(1.0, x.abs().mean().item()), name


def limited(prior, rows, error, where="guided"):
    """Let evaluations of more than so many rows fail; a list of the rows of every attempt."""
    whole, attempts = getattr(prior, where), []

    def limit(batch, *others):
        attempts.append(len(batch))
        if len(batch) > rows:
            raise error
        return whole(batch, *others)

    setattr(prior, where, limit)
    return attempts


@pytest.mark.parametrize("error", [ON_THE_GPU, ON_THE_CPU, MemoryError()])
@pytest.mark.parametrize("where, fitting", [("guided", 4), ("guided", 2), ("encode", 2), ("encode", 1)])
def test_a_step_that_does_not_fit_is_done_in_micro_batches_with_the_same_result(
    generator, prior, error, where, fitting
):
    whole = train(generator, prior)
    limited(prior, fitting, error, where)
    pieces = train(generator, prior)
    assert_close(pieces.generator, whole.generator)
    for a, b in zip(pieces.history.records, whole.history.records, strict=True):
        assert (a.t, a.layers, a.skipped) == (b.t, b.layers, None)
        assert a.losses == pytest.approx(b.losses, rel=1e-3, abs=1e-7)


def test_the_batch_is_halved_once_and_stays_so(generator, prior):
    attempts = limited(prior, 4, ON_THE_GPU)
    train(generator, prior)
    assert attempts == [8, 4, 4] + [4, 4] * 2


def test_then_activations_are_not_kept(generator, prior):
    whole, encode, modes = train(generator, prior, batch_size=1), prior.encode, []

    def only_without_activations(images, recompute=False):
        modes.append(recompute)
        if images.requires_grad and not recompute:
            raise ON_THE_GPU
        return encode(images, recompute)

    prior.encode = only_without_activations
    assert_close(train(generator, prior, batch_size=1).generator, whole.generator)
    assert modes.count(True) == 3


def test_what_fits_nowhere_ends_with_advice_and_the_last_weights(generator, prior, tmp_path):
    saved, released = SavedTraining(tmp_path / "training.safetensors"), []
    prior.session.release_memory = lambda: released.append(True)
    two_steps = train(generator, prior, steps=3, progress=None)
    guided, after = prior.guided, {"steps": 2}

    def fill_up(progress):
        if progress.step == after["steps"]:
            limited(prior, 0, ON_THE_GPU)

    with pytest.raises(TrainingOutOfMemory) as caught:
        train(generator, prior, saved, fill_up)
    message, result = str(caught.value), caught.value.result
    assert message.startswith(
        "Out of memory with one image at a time (CUDA out of memory. Tried to allocate 2.00 GiB.)."
    )
    assert "Choose a smaller image size" in message and "More about it" not in message
    assert (result.steps_done, saved.steps_done()) == (2, 2)
    assert len(released) >= 4  # halved twice, then without activations, then at the end
    prior.guided = guided
    resumed = train(generator, prior, saved)
    assert resumed.steps_done == 3
    assert_close(resumed.generator, two_steps.generator)


def test_what_was_found_to_fit_is_remembered(generator, prior, tmp_path):
    saved = SavedTraining(tmp_path / "training.safetensors", every=1)
    attempts = limited(prior, 2, ON_THE_GPU)

    def stop(progress):
        raise KeyboardInterrupt

    with pytest.raises(TrainingInterrupted):
        train(generator, prior, saved, stop)
    attempts.clear()
    train(generator, prior, saved)
    assert set(attempts) == {2}


def test_everything_of_a_failed_attempt_is_freed_before_the_next(generator, prior):
    encode, guided, made, alive = prior.encode, prior.guided, [], []

    def remember(images, recompute=False):
        z = encode(images, recompute)
        if images.requires_grad:
            made.extend([weakref.ref(images), weakref.ref(z)])
        return z

    def fail(z_t, t, scaling=1.0):
        if len(z_t) > 4:
            raise torch.OutOfMemoryError("out of memory")
        return guided(z_t, t, scaling)

    prior.encode, prior.guided = remember, fail
    prior.session.release_memory = lambda: alive.append([ref() is not None for ref in made])
    train(generator, prior)
    assert alive[0] == [False, False]


def test_after_the_end_nothing_of_the_training_is_held(generator, prior, tmp_path):
    """Not even while the error is being handled: what was allocated is back before the generator is copied."""
    guided, made = prior.guided, []

    def fail(z_t, t, scaling=1.0):
        made.append(weakref.ref(z_t))
        if len(made) == 2:
            raise RuntimeError("the device is gone")
        return guided(z_t, t, scaling)

    prior.guided = fail
    alive = []
    prior.session.release_memory = lambda: alive.append([ref() is not None for ref in made])
    with pytest.raises(TrainingInterrupted):
        train(generator, prior)
    assert alive == [[False, False]]


def test_memory_that_runs_out_elsewhere_ends_the_training_in_the_same_way(generator, prior):
    def run(body, request):
        raise ON_THE_CPU

    prior.session.run = run
    with pytest.raises(TrainingOutOfMemory, match="Choose a smaller image size") as caught:
        train(generator, prior)
    assert caught.value.result.steps_done == 0


def test_memory_for_adam_is_looked_for_before_a_weight_changes(generator, prior, monkeypatch):
    """The first step takes two more tensors for each parameter; after them there is no way back."""
    whole, empty_like, refusals = train(generator, prior), torch.empty_like, []

    def refuse_twice(*arguments, **options):
        if len(refusals) < 2:
            refusals.append(True)
            raise ON_THE_GPU
        return empty_like(*arguments, **options)

    monkeypatch.setattr(torch, "empty_like", refuse_twice)
    result = train(generator, prior)
    assert len(refusals) == 2
    assert_close(result.generator, whole.generator)


def test_memory_that_runs_out_within_adam_leaves_no_half_changed_weights(generator, prior, monkeypatch, tmp_path):
    adam, saved = torch.optim.Adam.step, SavedTraining(tmp_path / "training.safetensors", every=1)
    one_step = []

    def run_out(optimizer):
        if one_step:
            with torch.no_grad():
                optimizer.param_groups[0]["params"][0].add_(1.0)
            raise ON_THE_GPU
        return adam(optimizer)

    monkeypatch.setattr(torch.optim.Adam, "step", run_out)
    with pytest.raises(TrainingOutOfMemory) as caught:
        train(generator, prior, saved, lambda p: one_step.append(p.result().generator))
    result = caught.value.result
    assert result.steps_done == saved.steps_done() == 1
    for x, y in zip(result.generator.parameters(), one_step[0].parameters(), strict=True):
        assert torch.equal(x, y)


def test_samples_are_drawn_one_by_one_where_they_do_not_fit_together(generator, prior, monkeypatch):
    run = GeneratorTraining(generator, prior, settings(), [], AllLayers())
    synthesis, samples = run.adaptation.generator.synthesis, run.snapshots.samples
    expected, synthesize = samples(6), synthesis.forward

    def limit(draw, *arguments, **options):
        if len(draw) > 1:
            raise ON_THE_CPU
        return synthesize(draw, *arguments, **options)

    monkeypatch.setattr(synthesis, "forward", limit)
    torch.testing.assert_close(samples(6), expected)
    assert diversity(samples(6)) == pytest.approx(diversity(expected))


needs_limits = pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")


@needs_limits
@pytest.mark.parametrize("spare, ending", [(700, "done 1"), (6, "TrainingOutOfMemory")])
def test_a_real_process_with_too_little_memory(tmp_path, spare, ending):
    """A batch that takes some 1200 MB, in a process that may have `spare` MB more than it has when it begins."""
    command = [sys.executable, Path(__file__).with_name("small_memory.py"), tmp_path, str(spare)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ran.returncode == 0 and ending in ran.stdout, ran.stdout + ran.stderr
    assert "Out of memory" in ran.stdout + ran.stderr
    assert (tmp_path / "generator.safetensors").exists()


def test_a_training_goes_on_after_onednn_ran_out_of_memory(generator, prior, monkeypatch, caplog):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", torch.backends.mkldnn.enabled)  # given back afterwards
    guided, failures = prior.guided, []

    def fail_while_onednn_is_on(*arguments, **options):
        if torch.backends.mkldnn.enabled:
            failures.append(True)
            raise RuntimeError("could not create a primitive")
        return guided(*arguments, **options)

    prior.guided = fail_while_onednn_is_on
    assert train(generator, prior).steps_done == 3
    assert len(failures) == 1 and len(caplog.messages) == 1, "in pieces as large as before"
    assert "oneDNN" in caplog.messages[0] and not torch.backends.mkldnn.enabled
