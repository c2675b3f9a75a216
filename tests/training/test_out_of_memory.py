"""When memory runs out: how that is told, and what is tried next."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from comfyui_stylegan_fusion.training.endings import NoMemoryLeft
from comfyui_stylegan_fusion.training.out_of_memory import MemoryPolicy, is_out_of_memory, no_memory_message


def test_what_memory_was_found_to_hold_is_a_policy_of_its_own():
    policy, attempts, released = MemoryPolicy(4, False, "Buy more."), [], []
    policy.release = lambda: released.append(True)

    def body():
        attempts.append((policy.micro_batch, policy.recompute))
        if not policy.recompute:
            raise torch.OutOfMemoryError("no\nmore")
        return "done"

    assert policy.attempt(body, step=0) == "done"
    assert attempts == [(4, False), (2, False), (1, False), (1, True)] and len(released) == 3
    with pytest.raises(NoMemoryLeft, match=r"Out of memory with one image at a time \(no\)\. Buy more\."):
        policy.attempt(lambda: (_ for _ in ()).throw(torch.OutOfMemoryError("no")), step=1)
    other = MemoryPolicy(8, False)
    other.unpack(*policy.pack())()
    assert (other.micro_batch, other.recompute) == (1, True)
    with pytest.raises(ZeroDivisionError):  # what is no lack of memory
        policy.attempt(lambda: 1 / 0, step=1)


def test_other_errors_are_not_taken_for_it():
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"))
    assert is_out_of_memory(RuntimeError("could not create a primitive"))
    assert not is_out_of_memory(RuntimeError("could not create a primitive descriptor for a matmul primitive"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (MPS allocated: 17 GB)"))
    assert "(no more could be had)" in no_memory_message("", "")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
def test_convolutions_are_made_again_after_onednn_ran_out_of_memory():
    """The second line is why it has to be handled: when oneDNN recovers by itself, that can go."""
    script = Path(__file__).with_name("broken_convolutions.py")
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=240)
    for_want_of_memory, with_memory_again, handled = ran.stdout.splitlines()
    if "primitive" not in for_want_of_memory:
        pytest.skip("oneDNN makes no convolutions on this processor")
    assert with_memory_again == "with memory again: could not create a primitive"
    assert handled == "handled: True None", ran.stderr
