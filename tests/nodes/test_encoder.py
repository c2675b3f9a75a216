"""The encoder's copy. It knows nothing of ComfyUI."""

import gc
import weakref

import pytest
import torch
from comfyui_stylegan_fusion.nodes.host.encoder import Encoder, plain_copy
from torch import nn


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


class Stack(nn.Module):
    """An encoder in the host's way: blocks in a list, and layers beside them."""

    def __init__(self):
        super().__init__()
        self.conv_in = nn.Conv2d(3, 3, 3, padding=1)
        self.down = nn.ModuleList([Block() for _ in range(3)])
        self.mix = nn.ModuleList([nn.Conv2d(8, 3, 1) for _ in range(3)])
        self.conv_out = nn.Conv2d(3, 8, 1)

    def forward(self, x):
        x = self.conv_in(x)
        for block, mix in zip(self.down, self.mix, strict=True):
            x = mix(block(x))
        return self.conv_out(x)


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = Stack(), nn.Linear(1000, 1000)

    def encode(self, x):
        return self.encoder(x).chunk(2, dim=1)[0]


class Film(nn.Module):
    """An encoder that notes what it saw for the next frame."""

    def __init__(self):
        super().__init__()
        self.block = Block()

    def forward(self, x, feat_cache=None):
        assert feat_cache is None, "notes are taken"
        return self.block(x[:, :, 0]).unsqueeze(2)


class FilmAutoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = Film()

    def encode(self, x):
        return self.encoder(x, feat_cache=[])


CPU = torch.device("cpu")


@pytest.fixture
def original():
    with torch.inference_mode():  # as weights are that a node loads
        torch.manual_seed(0)
        return nn.Sequential(Block(), nn.Conv2d(8, 8, 1)).half()


@pytest.fixture
def autoencoder():
    with torch.inference_mode():
        torch.manual_seed(0)
        return Autoencoder().half()


def test_it_computes_what_the_original_does_and_gradients_reach_the_images(autoencoder):
    images = torch.rand(2, 3, 8, 12, requires_grad=True)
    latents = Encoder(autoencoder, CPU)(images)
    latents.square().sum().backward()
    reference = images.detach().clone().requires_grad_()
    plain = Autoencoder()
    plain.load_state_dict({name: value.float().clone() for name, value in autoencoder.state_dict().items()})
    expected = plain.encode(reference)
    expected.square().sum().backward()
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(images.grad, reference.grad, rtol=1e-4, atol=1e-5)
    assert latents.dtype == torch.float32


def test_its_weights_are_plain_float32_and_take_no_gradients(autoencoder):
    copy = Encoder(autoencoder, CPU)
    copy(torch.rand(1, 3, 8, 8, requires_grad=True)).sum().backward()
    for value in copy.state_dict().values():
        assert value.dtype == torch.float32 and not value.is_inference()
    assert all(parameter.grad is None for parameter in copy.parameters())
    block, original = copy.autoencoder.encoder.down[0], autoencoder.encoder.down[0]
    assert block.comfy_cast_weights is False and original.comfy_cast_weights is True
    assert next(autoencoder.parameters()).dtype == torch.float16


def test_it_has_no_decoder(autoencoder):
    assert not any("decoder" in name for name in Encoder(autoencoder, CPU).state_dict())


def test_in_bfloat16_latents_and_gradients_stay_close_and_float32(autoencoder):
    images, half = (torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    images.requires_grad_(), half.requires_grad_()
    latents = Encoder(autoencoder, CPU)(images)
    coarse = Encoder(autoencoder, CPU, torch.bfloat16)(half)
    latents.sum().backward(), coarse.sum().backward()
    assert coarse.dtype == half.grad.dtype == torch.float32
    assert (coarse - latents).norm() < 0.03 * latents.norm()
    assert (half.grad - images.grad).norm() < 0.1 * images.grad.norm()


def test_recomputing_changes_no_bit_and_keeps_less(autoencoder):
    copy = Encoder(autoencoder, CPU)
    kept, found = {}, {}
    for recompute in (False, True):
        images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)).requires_grad_()
        storages = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, storages=storages: storages.setdefault(tensor.data_ptr(), tensor), lambda tensor: tensor
        ):
            latents = copy(images, recompute)
        kept[recompute] = sum(tensor.nbytes for tensor in storages.values())
        latents.square().sum().backward()
        found[recompute] = (latents.detach(), images.grad)
    assert all(torch.equal(a, b) for a, b in zip(found[False], found[True], strict=True))
    assert kept[True] < 0.5 * kept[False]


def test_the_copy_goes_with_its_last_reference(autoencoder):
    gc.collect()
    gc.disable()
    try:
        copy = Encoder(autoencoder, CPU)
        weight = weakref.ref(copy.autoencoder.encoder.conv_in.weight)
        copy(torch.rand(1, 3, 8, 8, requires_grad=True), recompute=True).sum().backward()
        del copy
        assert weight() is None
    finally:
        gc.enable()


def test_a_video_encoder_sees_one_frame_and_takes_no_notes():
    images = torch.rand(2, 3, 8, 8)
    original = FilmAutoencoder()
    latents = Encoder(original, CPU, frames=True)(images, recompute=True)
    torch.testing.assert_close(latents, original.encoder.block(images), rtol=1e-4, atol=1e-5)


def test_a_fourth_channel_is_opaque_and_pixels_are_converted_as_the_host_does():
    class Seen(nn.Module):
        def encode(self, x):
            return x

    images = torch.rand(1, 3, 4, 4) * 2 - 1
    seen = Encoder(Seen(), CPU, process_input=lambda pixels: pixels * 10, channels=4)(images)
    torch.testing.assert_close(seen[:, :3], (images + 1) * 5)
    assert (seen[:, 3] == 10).all()


def test_the_hosts_memory_is_not_freed_with_the_copy(original):
    for module in original.modules():
        module._v = module._pin_state = Handle()
    gc.collect()
    before = Handle.freed
    copy = plain_copy(original, CPU)
    del copy
    gc.collect()
    assert Handle.freed == before
    assert all(hasattr(module, "_v") for module in original.modules())


def test_patches_of_weights_that_the_host_applies_itself_do_not_travel(original):
    original[0].weight_function = [lambda weight: weight * 100]
    copy = plain_copy(original, CPU)
    assert copy[0].weight_function == []
