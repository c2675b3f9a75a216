"""Muon: orthogonal steps for matrices, Adam for everything else, saved and gone on with."""

import pytest
import torch
from comfyui_stylegan_fusion.training.loop import Training, fit, train_step
from comfyui_stylegan_fusion.training.muon import Muon, orthogonalized
from comfyui_stylegan_fusion.training.phases import Average, Outcome, Phase, gradients_of
from comfyui_stylegan_fusion.training.saving import SavedTraining, SavedTrainingError
from torch import nn


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(8, 8), (6, 40), (40, 6)])
def test_orthogonalizing_brings_every_singular_value_near_one_and_keeps_the_directions(shape):
    matrix = normal(*shape)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    found = torch.linalg.svdvals(orthogonalized(matrix))
    assert found.min() > 0.5 and found.max() < 1.3
    near = (u @ v - orthogonalized(matrix)).norm() / (u @ v).norm()
    assert near < 0.35 and (u @ v - matrix / s.mean()).norm() / (u @ v).norm() > near
    assert orthogonalized(torch.zeros(shape)).equal(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(16, 16), (8, 32), (8, 4, 3, 3)])
def test_a_step_has_the_size_of_the_learning_rate_whatever_the_shape_and_the_gradient(shape):
    for size in (1e-6, 1e3):
        weight = nn.Parameter(torch.zeros(shape))
        weight.grad = size * normal(*shape)
        Muon([weight], lr=0.02).step()
        assert 0.6 < weight.detach().square().mean().sqrt() / 0.02 < 1.25


def test_vectors_and_numbers_move_as_adam_moves_them():
    ours, theirs = ([nn.Parameter(normal(5, seed=1)), nn.Parameter(torch.tensor(0.5))] for _ in range(2))
    muon = Muon(ours, lr=0.01, betas=(0.5, 0.99))
    adam = torch.optim.Adam(theirs, lr=0.01, betas=(0.5, 0.99))
    for step in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad, b.grad = (normal(*a.shape, seed=step) for _ in range(2))
        muon.step()
        adam.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


def test_what_has_no_gradient_stays_and_nothing_is_remembered_of_it():
    moved, still = nn.Parameter(normal(3, 3)), nn.Parameter(normal(3, 3, seed=1))
    before, optimizer = still.clone(), Muon([moved, still])
    moved.grad = normal(3, 3, seed=2)
    optimizer.step()
    assert torch.equal(still, before) and still not in optimizer.state


def small_training(steps=6):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 3))

    def compute(micro_steps):
        x = torch.randn(5, 2, 4, 4, generator=micro_steps[0].rng("latents"))
        loss = (network(x) - x.flatten(1)[:, :3]).square().mean()
        return Outcome(gradients_of(loss, network.parameters()), {"distance": loss.item()})

    average = Average.of(network, lambda step: 0.9)
    optimizer = Muon(network.parameters())
    return Training([Phase("network", network, optimizer, compute, lambda step: 0.02, average=average)], steps)


def test_a_training_goes_on_to_the_same_weights_and_average(tmp_path):
    whole, first, second = small_training(), small_training(), small_training()
    fit(whole)
    for _ in range(3):
        train_step(first)
    saved = SavedTraining(tmp_path / "training.safetensors")
    saved.save(first)
    assert saved.restore(second)
    fit(second)
    for ours, theirs in zip(second.phases, whole.phases, strict=True):
        for module, other in ((ours.module, theirs.module), (ours.average.module, theirs.average.module)):
            assert all(torch.equal(a, b) for a, b in zip(module.parameters(), other.parameters(), strict=True))


def test_what_adam_remembered_is_refused(tmp_path):
    training, other = small_training(), small_training()
    (phase,) = other.phases
    phase.optimizer = torch.optim.Adam(phase.module.parameters())
    train_step(other)
    saved = SavedTraining(tmp_path / "training.safetensors")
    saved.save(other)
    with pytest.raises(SavedTrainingError, match="its optimizer remembers something else"):
        saved.restore(training)
