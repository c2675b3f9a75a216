"""Memory that is told from sizes, against memory that is taken."""

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.sds import DirectionalRegularizer, TrainSettings, train_generator
from comfyui_stylegan_fusion.sds.memory import training_memory
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig, StyleGAN3Config, alias_free
from comfyui_stylegan_fusion.training.memory import MemoryRequest, transient_bytes
from torch.utils.checkpoint import checkpoint

N = 4000  # bytes of a vector of 1000 numbers


def vector(**options):
    return torch.empty(1000, device="meta", **options)


def matrix(rows, columns):
    return torch.empty(rows, columns, device="meta", requires_grad=True)


def chain(x):
    return x.sigmoid().sigmoid().sigmoid().sigmoid()


def test_a_chain_holds_an_operation_and_its_input():
    x = vector()
    assert transient_bytes(lambda: x * 2) == N
    assert transient_bytes(lambda: x * 2 + 1) == 2 * N
    assert transient_bytes(lambda: x * 2 + 1 - 3 * x) == 3 * N
    assert transient_bytes(lambda: chain(x)) == 2 * N


def test_what_was_there_before_views_and_work_in_place_take_nothing():
    x = vector()
    assert transient_bytes(lambda: x.view(10, 100)[3:5].t().add_(1)) == 0
    assert transient_bytes(lambda: (x + 1).view(10, 100).t().mul_(2)[1:]) == N


def test_what_is_freed_counts_no_more():
    def one_after_the_other():
        for _ in range(5):
            vector()

    def kept():
        return [vector() for _ in range(5)]

    assert transient_bytes(one_after_the_other) == N
    assert transient_bytes(kept) == 5 * N


def test_numbers_count_by_their_precision():
    x = vector()
    assert transient_bytes(lambda: x.half()) == N // 2
    assert transient_bytes(lambda: x.double()) == 2 * N


def test_a_matrix_product_keeps_its_factors_for_the_backward_pass():
    """In the end there are factors, product and the gradients of all three."""

    def product():
        a, b = matrix(100, 10), matrix(10, 1000)
        (a @ b).backward(torch.empty(100, 1000, device="meta"))

    factors, result = 4 * (100 * 10 + 10 * 1000), 4 * 100 * 1000
    assert transient_bytes(product) == 2 * (factors + result)
    a, b = matrix(100, 10), matrix(10, 1000)
    assert transient_bytes(lambda: a @ b) == result


def test_autograd_keeps_every_activation_and_checkpoints_only_their_inputs():
    x, gradient = vector(requires_grad=True), vector()

    def kept():
        torch.autograd.grad(chain(chain(chain(x))), x, gradient)

    def recomputed():
        y = x
        for _ in range(3):
            y = checkpoint(chain, y, use_reentrant=False)
        torch.autograd.grad(y, x, gradient)

    # Twelve activations and the gradients of the last two.
    assert transient_bytes(kept) == 14 * N
    # Three chains' results, the four of one of them computed again, and the gradient of the last.
    assert transient_bytes(recomputed) == 8 * N


def test_real_tensors_are_followed_as_those_on_the_meta_device():
    def step(device):
        a, b = (torch.ones(50, 50, device=device, requires_grad=True) for _ in range(2))
        ((a @ b).tanh() * b).mean().backward()

    assert transient_bytes(lambda: step("cpu")) == transient_bytes(lambda: step("meta"))


CHILD = """
import torch
from pathlib import Path
from comfyui_stylegan_fusion.training.memory import transient_bytes
from comfyui_stylegan_fusion.stylegan import Draw, Generator, GeneratorConfig, StyleGAN3Config

torch.set_num_threads(1)

def resident(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

def step(config, checkpoint, device):
    with torch.device(device):
        generator = Generator(config).requires_grad_(False)
    for layer in generator.synthesis.layers:
        layer.weight.requires_grad_(True)
    ws = torch.zeros(2, generator.num_ws, generator.w_dim, device=device)
    def body():
        images = generator.synthesis(Draw(ws), recompute=checkpoint)
        images.backward(torch.ones_like(images))
        generator.zero_grad()
    return body

for config in (
    GeneratorConfig(64, 64, 64, 0, 2, 4096, 64), StyleGAN3Config(32, 32, 32, 0, 2, channel_base=512, channel_max=32)
):
    for checkpoint in (False, True):
        body = step(config, checkpoint, "cpu")
        body()  # what the libraries keep for good
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        body()
        print(config.architecture, checkpoint, transient_bytes(step(config, checkpoint, "meta")), resident("VmHWM") - before)
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


def test_held_are_two_copies_and_two_moments_and_gradients_when_they_accumulate():
    generator = large(GeneratorConfig(64))
    sizes = [4 * p.numel() for p in generator.parameters()]
    trained = sum(4 * p.numel() for p in generator.parameters() if p.requires_grad)
    held, peak = training_memory(generator, rows=1)
    accumulating = training_memory(generator, rows=1, accumulate=True)
    assert accumulating == (held + trained, peak)
    waiting = [training_memory(generator, rows=rows)[0] - held for rows in (2, 3)]
    assert waiting[1] == 2 * waiting[0] > 0  # each further image waits with activations of its own
    buffers = sum(4 * b.numel() for b in generator.buffers())
    per_step = held - 2 * (sum(sizes) + buffers) - 2 * trained
    assert per_step >= waiting[0]


def test_images_for_a_look_count_when_they_take_more_than_a_step():
    generator = large(GeneratorConfig(256))
    few, many = (sum(training_memory(generator, samples=samples, recompute=True)) for samples in (1, 16))
    assert many > 2 * few


def test_nothing_of_the_generator_itself_changes(generator):
    before = {name: (tensor.clone(), tensor.requires_grad) for name, tensor in generator.named_parameters()}
    training_memory(generator)
    for name, tensor in generator.named_parameters():
        assert torch.equal(tensor, before[name][0]) and tensor.requires_grad == before[name][1] and tensor.grad is None


def test_work_is_settled_once():
    work = MemoryRequest(4, 512, 512)
    assert (work.resident_bytes, work.peak_bytes) == (0, 0)
    with pytest.raises(FrozenInstanceError):
        work.rows = 2
