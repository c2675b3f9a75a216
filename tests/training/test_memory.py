"""Memory that is told from sizes alone."""

from dataclasses import FrozenInstanceError

import pytest
import torch
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


def test_a_request_is_settled_once():
    request = MemoryRequest(4, 512, 512)
    assert (request.resident_bytes, request.peak_bytes) == (0, 0)
    with pytest.raises(FrozenInstanceError):
        request.rows = 2
