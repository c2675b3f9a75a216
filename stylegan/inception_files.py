"""Reading Inception v3, the network of FID and KID, from a file of the user."""

import io
from pathlib import Path

import torch
from torch import Tensor, nn

from ..training.packages import import_advice
from .checkpoint import CheckpointError, reading
from .formats.state_dicts import read_tensors

WHERE_FROM = (
    "It is weights-inception-2015-12-05-6726825d.pth of torch-fidelity "
    "(https://github.com/toshas/torch-fidelity/releases/tag/v0.2.0)"
)
"""Where the file comes from, for messages and help."""

FEATURES = 2048


class Inception(nn.Module):
    """Inception takes images [B, 3, H, W] in [-1, 1] to the features [B, 2048] of FID (arXiv 1706.08500): of 8 bits, and
    resized as the first implementation did."""

    name = "Inception v3"

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        pixels = ((images.clamp(-1, 1) + 1) * 127.5).round().byte()
        return self.network(pixels.to(next(self.network.parameters()).device))[0].cpu()


def load_inception(path: str | Path) -> Inception:
    """Load Inception v3 on the CPU from torch-fidelity's file, or a safetensors file with the same names. No pickle is
    executed. Raises ImportError with a sentence without torch-fidelity, CheckpointError."""
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            import_advice(
                "FID or KID by Inception",
                "the package torch-fidelity",
                'install it with "pip install torch-fidelity" (the extra evaluate)',
                error,
            )
        ) from error

    class Untrained(FeatureExtractorInceptionV3):
        """Untrained is the network without its weights, which its own way to load would unpickle."""

        def load_state_dict(self, *_):
            pass

    nothing = io.BytesIO()
    torch.save({}, nothing)
    nothing.seek(0)
    network = Untrained("inception", [str(FEATURES)], nothing)
    shapes = {name: list(value.shape) for name, value in network.state_dict().items() if value.is_floating_point()}
    path = Path(path)
    with reading(path):
        found = read_tensors(path, shapes)
    if missing := shapes.keys() - found.keys():
        raise CheckpointError(f"{path} is not Inception v3: it lacks the weight {min(missing)!r}. {WHERE_FROM}.")
    nn.Module.load_state_dict(network, found, strict=False)
    return Inception(network.eval().requires_grad_(False))
