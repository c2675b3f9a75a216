"""Short trainings, and which weights they moved."""

import torch
from comfyui_stylegan_fusion.sds import TrainSettings
from comfyui_stylegan_fusion.stylegan import Generator, GeneratorConfig


def settings(**changes):
    return TrainSettings(**{"steps": 3, "batch_size": 2, "t_max": 0.8, "diversity_samples": 2, **changes})


def assert_same_weights(a, b):
    for (name, x), y in zip(a.state_dict().items(), b.state_dict().values(), strict=True):
        assert torch.equal(x, y), name


def moved(before, after):
    """Names of the tensors that differ."""
    after = after.state_dict()
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after[name])}


def trained_names(generator, modules):
    """Names of the parameters of these modules that the method trains: all but biases."""
    wanted = {id(p) for module in modules for name, p in module.named_parameters() if not name.endswith("bias")}
    return {name for name, p in generator.named_parameters() if id(p) in wanted}


def small_generator(seed=1):
    """A generator of 32 pixels with random weights: 7 synthesis convolutions."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GeneratorConfig(resolution=32, z_dim=16, w_dim=16, mapping_layers=2, channel_base=256, channel_max=16)
        return Generator(config).eval()
