"""Memory that is freed and taken again without the system."""

import subprocess
import sys

import pytest
import torch
from comfyui_stylegan_fusion.training import allocator
from comfyui_stylegan_fusion.training.allocator import free_bytes, keeping_freed_memory

CPU = torch.device("cpu")


CHILD = """
import torch
from comfyui_stylegan_fusion.training import allocator

allocator.AMPLE, cpu = 0, torch.device("cpu")

def resident():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmRSS"))

def used():
    tensors = [torch.ones(16_000_000) for _ in range(4)]
    del tensors
    return resident()

found = [used()]
with allocator.keeping_freed_memory(cpu):
    with allocator.keeping_freed_memory(cpu):  # of a training within another
        found.append(used())
    found.append(resident())
print(*found, resident())
"""
"""MiB that the process holds once tensors of 64 MB have been made and forgotten: before, within twice, and after. In a process
of its own, whose memory no other test has cut into pieces."""


@pytest.mark.skipif(allocator._glibc() is None, reason="needs glibc, with its usual settings")
def test_what_is_freed_is_kept_within_and_goes_back_to_the_system_after():
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    usual, inner, within, after = map(int, done.stdout.split())
    assert min(inner, within) > usual + 200 and after < usual + 50


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
