"""The encoder's copy. The file knows nothing of ComfyUI, so it is loaded by itself."""

import gc
import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

PATH = Path(__file__).resolve().parents[2] / "nodes" / "encoder.py"


@pytest.fixture(scope="module")
def encoder():
    spec = importlib.util.spec_from_file_location("encoder_of_nodes", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Handle:
    """Stands for memory that the host manages: an object that frees it when it goes."""

    freed = 0

    def __deepcopy__(self, memo):
        return Handle()

    def __del__(self):
        Handle.freed += 1


class Block(nn.Module):
    """A module with attributes of its own, as the host's blocks have."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.GroupNorm(2, 8)
        self.register_buffer("offset", torch.full([8, 1, 1], 0.5))
        self.factor, self.activation, self.comfy_cast_weights = 2.0, nn.functional.silu, True

    def forward(self, x):
        return self.activation(self.norm(self.conv(x))) * self.factor + self.offset


@pytest.fixture
def original():
    with torch.inference_mode():  # as weights are that a node loads
        torch.manual_seed(0)
        return nn.Sequential(Block(), nn.Conv2d(8, 8, 1)).half()


def test_it_computes_the_posterior_mode_and_gradients_reach_the_images(encoder, original):
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    quant = nn.Conv2d(8, 8, 1)
    latents = encoder.Encoder(original, quant, torch.device("cpu"))(images)
    latents.square().sum().backward()
    reference = images.detach().clone().requires_grad_()
    plain = nn.Sequential(Block(), nn.Conv2d(8, 8, 1))
    plain.load_state_dict({name: value.float().clone() for name, value in original.state_dict().items()})
    expected = quant(plain(reference)).chunk(2, dim=1)[0]
    expected.square().sum().backward()
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(images.grad, reference.grad)
    assert latents.dtype == torch.float32


def test_its_weights_are_plain_float32_and_take_no_gradients(encoder, original):
    copy = encoder.Encoder(original, None, torch.device("cpu"))
    copy(torch.rand(1, 3, 8, 8, requires_grad=True)).sum().backward()
    for value in copy.state_dict().values():
        assert value.dtype == torch.float32 and not value.is_inference()
    assert all(parameter.grad is None for parameter in copy.parameters())
    assert copy.encoder[0].comfy_cast_weights is False and original[0].comfy_cast_weights is True
    assert next(original.parameters()).dtype == torch.float16


def test_the_hosts_memory_is_not_freed_with_the_copy(encoder, original):
    for module in original.modules():
        module._v = module._pin_state = Handle()
    gc.collect()
    before = Handle.freed
    copy = encoder.Encoder(original, None, torch.device("cpu"))
    del copy
    gc.collect()
    assert Handle.freed == before
    assert all(hasattr(module, "_v") for module in original.modules())


def test_patches_of_weights_that_the_host_applies_itself_do_not_travel(encoder, original):
    original[0].weight_function = [lambda weight: weight * 100]
    copy = encoder.plain_copy(original, torch.device("cpu"))
    assert copy[0].weight_function == []
