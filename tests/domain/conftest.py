"""Tiny Stable Diffusions and pictures to learn."""

import pytest
import torch
from comfyui_stylegan_fusion.domain.images import learnable
from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
from tiny_diffusion import write_folder, write_scheduler

pytest.importorskip("diffusers", reason="the extra 'headless' is not installed")


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Models of the three kinds: noise, velocity, and SDXL's two texts."""
    noise, velocity, xl = (tmp_path_factory.mktemp(name) for name in ("noise", "velocity", "xl"))
    write_folder(noise)
    write_folder(velocity)
    write_scheduler(velocity, prediction_type="v_prediction")
    write_folder(xl, two=True)
    return {"noise": noise, "velocity": velocity, "xl": xl}


@pytest.fixture(scope="session", params=["noise", "velocity", "xl"])
def model(request, folders):
    return StableDiffusion.load(folders[request.param], decoder=True)


@pytest.fixture(scope="session")
def noise_model(folders):
    return StableDiffusion.load(folders["noise"], decoder=True)


@pytest.fixture
def pictures(noise_model):
    """Six pictures of smooth colour gradients, in two shapes."""
    prior = DiffusersPrior(noise_model, "", "", 1.0)
    rows = torch.linspace(-1, 1, 16)[:, None]
    images = [(str(n), (rows * normal(1, 3, 1, 1, seed=n)).expand(1, 3, 16, 16).clamp(-1, 1)) for n in range(5)]
    images.append(("wide", torch.zeros(1, 3, 16, 28)))
    with torch.no_grad():
        return learnable(images, 16, 4, "buckets", True, prior.encode)[0]
