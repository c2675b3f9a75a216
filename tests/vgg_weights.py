"""Random weights for the network of the perceptual regularizer, at the true shapes and names."""

import torch

# torchvision's numbers of the convolutions, and their channels; LPIPS looks behind those that end a block.
CONVOLUTIONS = {0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256), 14: (256, 256),
                17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512), 28: (512, 512)}  # fmt: skip
ENDS = (2, 7, 14, 21, 28)


def random_vgg(seed=0) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(seed)
    state = {}
    for number, (before, after) in CONVOLUTIONS.items():
        scale = (2 / (9 * before)) ** 0.5
        state[f"features.{number}.weight"] = scale * torch.randn(after, before, 3, 3, generator=random)
        state[f"features.{number}.bias"] = 0.1 * torch.randn(after, generator=random)
    return state


def random_linear(seed=1) -> dict[str, torch.Tensor]:
    """The metric's linear layers, under the names of the lpips project."""
    random = torch.Generator().manual_seed(seed)
    channels = (CONVOLUTIONS[end][1] for end in ENDS)
    return {f"lin{i}.model.1.weight": torch.rand(1, c, 1, 1, generator=random) for i, c in enumerate(channels)}
