import pytest
import torch
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig


def build(c_dim=0, conv_clamp=256.0, seed=0):
    """A small generator in which every weight matters: noise, biases and w_avg are not left at their initial zeros."""
    torch.manual_seed(seed)
    generator = Generator(GeneratorConfig(32, 12, 16, c_dim, 2, 512, 16, conv_clamp=conv_clamp))
    for name, value in generator.state_dict().items():
        if name.endswith(("bias", "noise_strength")):
            value.add_(0.3 * torch.randn_like(value))
    generator.mapping.w_avg.normal_()
    return generator.eval().requires_grad_(False)


@pytest.fixture
def generator():
    return build()


@pytest.fixture
def labelled():
    return build(c_dim=3)
