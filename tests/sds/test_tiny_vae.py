"""TAESD in the place of a model's VAE: read from every layout, on Stable Diffusion's latents as they are scaled already."""

import dataclasses

import pytest
import torch
from comfyui_stylegan_fusion.sds.priors.vaes import read_vae
from safetensors.torch import save_file
from tiny_diffusion import make_vae


@pytest.fixture(scope="module")
def own():
    """An autoencoder with the latents of Stable Diffusion."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=8,
        scaling_factor=0.18215,
    )


@pytest.fixture(scope="module")
def tiny():
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    return AutoencoderTiny().eval()


def of_its_authors(tiny, part: str) -> dict:
    """The names in their file of a part: numbers alone, and the decoder's begin after a clamp."""
    found = {}
    for name, value in getattr(tiny, part).layers.state_dict().items():
        number, rest = name.split(".", 1)
        found[f"{int(number) + (part == 'decoder')}.{rest}"] = value
    return found


def layouts(tiny, folder):
    """The place of each layout by its name."""
    tiny.save_pretrained(folder / "taesd")
    save_file(tiny.state_dict(), folder / "diffusers.safetensors")
    for part in ("encoder", "decoder"):
        save_file(of_its_authors(tiny, part), folder / f"taesd_{part}.safetensors")
    both = {f"taesd_{part}.{n}": v for part in ("encoder", "decoder") for n, v in of_its_authors(tiny, part).items()}
    save_file(both, folder / "one_file.safetensors")
    names = ("diffusers.safetensors", "taesd_encoder.safetensors", "one_file.safetensors")
    return {"folder": folder / "taesd", **{name: folder / name for name in names}}


def test_it_is_read_from_every_layout(tiny, own, tmp_path):
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    latents = tiny.encode(images).latents
    decoded = tiny.decode(latents).sample
    for name, place in layouts(tiny, tmp_path).items():
        vae = read_vae(place, own)
        torch.testing.assert_close(vae.encode(images).latents, latents, msg=name)
        torch.testing.assert_close(vae.decode(latents).sample, decoded, msg=name)
        assert vae.config.scaling_factor == 1, name


def test_a_missing_half_is_named(tiny, own, tmp_path):
    places = layouts(tiny, tmp_path)
    (tmp_path / "taesd_decoder.safetensors").rename(tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="put taesd_decoder beside it"):
        read_vae(places["taesd_encoder.safetensors"], own)
    (tmp_path / "other.safetensors").rename(tmp_path / "taesd_decoder.safetensors")
    with pytest.raises(ValueError, match="incomplete"):
        read_vae(tmp_path / "taesd_decoder.safetensors", own)


def test_it_does_not_take_the_place_of_other_latents(tiny, tmp_path):
    with pytest.raises(ValueError, match="8 times smaller than the image"):
        read_vae(layouts(tiny, tmp_path)["folder"], make_vae(16, 8))


def test_a_generator_is_adapted_with_it(tiny, tmp_path):
    """Encoding records gradients, with and without computing activations again, and decodes where that is asked for."""
    from comfyui_stylegan_fusion.sds.priors.diffusers import DiffusersPrior, StableDiffusion
    from tiny_diffusion import write_folder

    folder = tmp_path / "model"
    folder.mkdir()
    write_folder(folder)
    wide = read_vae(layouts(tiny, tmp_path)["folder"], tiny)
    model = dataclasses.replace(StableDiffusion.load(folder, decoder=True), vae=wide)
    prior = DiffusersPrior(model, "a fox")
    images = torch.rand(2, 3, 64, 64, requires_grad=True)
    gradients = []
    for recompute in (False, True):
        latents = prior.encode(images, recompute)
        assert latents.shape == (2, 4, 8, 8)
        gradients.append(torch.autograd.grad(latents.square().sum(), images)[0])
    torch.testing.assert_close(*gradients)
    assert gradients[0].abs().max() > 0
    assert prior.decode(latents).shape == images.shape
