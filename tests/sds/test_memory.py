"""Memory that is told from a generator's sizes, against memory that is taken."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.sds import DirectionalRegularizer, TrainSettings, train_generator
from comfyui_stylegan_fusion.sds.memory import training_memory
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig, StyleGAN3Config, alias_free
from comfyui_stylegan_fusion.training.memory import transient_bytes

CHILD = """
import torch
from pathlib import Path
from comfyui_stylegan_fusion.training.memory import transient_bytes
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, StyleGAN3Config

torch.set_num_threads(1)

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def step(config, recompute, device):
    with torch.device(device):
        generator = Generator(config).requires_grad_(False)
    for layer in generator.synthesis.layers:
        layer.weight.requires_grad_(True)
        layer.clamp = 1e-3  # all of them clamp, as is told: on the CPU they do where something is out of bounds
    ws = torch.zeros(2, generator.num_ws, generator.w_dim, device=device)
    def body():
        images = generator.synthesis(Draw(ws), recompute=recompute)
        images.backward(torch.ones_like(images))
        generator.zero_grad()
    return body

for config in (
    GeneratorConfig(128, 64, 64, 0, 2, 8192, 64), StyleGAN3Config(32, 32, 32, 0, 2, channel_base=512, channel_max=32)
):
    for recompute in (False, True):
        body = step(config, recompute, "cpu")
        body()  # what the libraries keep for good
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        body()
        print(config.architecture, recompute, transient_bytes(step(config, recompute, "meta")), resident("VmHWM") - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs /proc/self/clear_refs of Linux")
def test_a_generator_step_takes_what_was_told():
    # Freed memory goes back to the system at once, or the system's count would not see it fall.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    child = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, cwd=Path(__file__).parent
    )
    assert child.returncode == 0, child.stderr
    rows = [line.split() for line in child.stdout.splitlines()]
    assert [row[:2] for row in rows] == [[kind, c] for kind in ("stylegan2", "stylegan3") for c in ("False", "True")]
    for *case, told, taken in rows:
        assert int(told) == pytest.approx(int(taken), rel=0.2), case


def test_a_training_takes_what_was_told(generator, prior):
    """Followed from the first copy to the last step; the prior of these tests is small, but not nothing."""
    settings = TrainSettings(steps=2, batch_size=8, diversity_samples=8, recompute=False)
    taken = transient_bytes(lambda: train_generator(generator, prior, settings, [DirectionalRegularizer()]))
    generator.requires_grad_(False)
    for layer in generator.synthesis.layers[1:]:
        for name in ("weight", "affine.weight", "noise_strength"):
            layer.get_parameter(name).requires_grad_(True)
    held, peak = training_memory(generator, rows=8)
    assert held + peak == pytest.approx(taken, rel=0.2)


def large(config):
    with torch.device("meta"):
        generator = Generator(config).requires_grad_(False)
    for layer in generator.synthesis.layers[1:]:
        layer.weight.requires_grad_(True)
    return generator


@pytest.mark.parametrize("config", [GeneratorConfig(1024), StyleGAN3Config(256)])
def test_recomputed_activations_wait_for_no_prior(config):
    generator = large(config)
    held, peak = training_memory(generator, samples=1)
    less, more = training_memory(generator, samples=1, recompute=True)
    assert less < 0.55 * held
    assert less + more < 0.65 * (held + peak)


def test_raised_feature_maps_are_never_whole_where_none_is_kept(monkeypatch):
    """Four times those of a 1024-pixel StyleGAN3 would not fit into many a GPU."""
    generator = large(StyleGAN3Config(1024))
    sliced = sum(training_memory(generator, samples=1, recompute=True))
    monkeypatch.setattr(alias_free, "SLICE", 2**40)
    assert sliced < 0.5 * sum(training_memory(generator, samples=1, recompute=True))


def test_resident_are_two_copies_two_averages_and_gradients_when_they_accumulate():
    generator = large(GeneratorConfig(64))
    sizes = [4 * p.numel() for p in generator.parameters()]
    trained = sum(4 * p.numel() for p in generator.parameters() if p.requires_grad)
    held, peak = training_memory(generator, rows=1)
    accumulating = training_memory(generator, rows=1, accumulate=True)
    assert accumulating == (held + trained, peak)
    # Each further image waits with activations of its own; one alone is computed in another way.
    two, three, four = (training_memory(generator, rows=rows)[0] for rows in (2, 3, 4))
    assert four - two == 2 * (three - two) > 0
    buffers = sum(4 * b.numel() for b in generator.buffers())
    per_step = two - 2 * (sum(sizes) + buffers) - 2 * trained
    assert per_step >= 2 * (three - two)


def test_images_for_a_look_count_when_they_take_more_than_a_step():
    generator = large(GeneratorConfig(256))
    few, many = (sum(training_memory(generator, samples=samples, recompute=True)) for samples in (1, 16))
    assert many > 2 * few


def test_nothing_of_the_generator_itself_changes(generator):
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in generator.named_parameters()}
    training_memory(generator)
    for name, tensor in generator.named_parameters():
        assert torch.equal(tensor, before[name][0]) and tensor.requires_grad == before[name][1] and tensor.grad is None
