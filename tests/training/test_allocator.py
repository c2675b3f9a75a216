"""Memory that is freed and taken again without the system."""

import resource

import pytest
import torch
from comfyui_stylegan_fusion.training import allocator
from comfyui_stylegan_fusion.training.allocator import free_bytes, keeping_freed_memory

CPU = torch.device("cpu")


def faults(times=5):
    """Pages that the system had to find for tensors of 64 MB, made and forgotten."""
    torch.ones(16_000_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(times):
        torch.ones(16_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(allocator._glibc() is None, reason="needs glibc, with its usual settings")
def test_what_is_freed_is_taken_again_within_and_goes_back_to_the_system_after(monkeypatch):
    monkeypatch.setattr(allocator, "AMPLE", 0)
    usual = faults()
    with keeping_freed_memory(CPU):
        with keeping_freed_memory(CPU):  # of a training within another
            assert faults() < 0.3 * usual
        assert faults() < 0.3 * usual
    assert faults() > 0.5 * usual


def test_without_plenty_of_memory_and_on_other_devices_nothing_changes(monkeypatch):
    monkeypatch.setattr(allocator, "_entered", lambda libc: pytest.fail("it was changed"))
    with keeping_freed_memory(torch.device("meta")):
        pass
    monkeypatch.setattr(allocator, "free_bytes", lambda device: allocator.AMPLE - 1)
    with keeping_freed_memory(CPU):
        pass


def test_free_memory_is_known_of_the_processor_and_of_no_device_that_is_not_there():
    assert 100_000_000 < free_bytes(CPU) < 10**14
    assert free_bytes(torch.device("meta")) == 0
