"""The copies of encoders compute what the autoencoders of ComfyUI do, and gradients pass through them."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

KINDS = ("kl", "bare", "packed", "hunyuan image", "tiny 4", "tiny 16", "wan", "wan 2.2", "films", "cascade")
ALL = (*KINDS, "cascade pixels", "pixels")


@pytest.fixture(scope="module")
def given():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 64, 96, generator=generator) * 2 - 1
    return {"images": images}


@pytest.fixture(scope="module")
def in_host(given, tmp_path_factory, run_in_host):
    place = tmp_path_factory.mktemp("encoders")
    save_file(given, place / "given.safetensors")
    run_in_host("encoders_in_host.py", place / "given.safetensors", place / "found.safetensors")
    with safe_open(place / "found.safetensors", "pt") as file:
        return load_file(place / "found.safetensors") | {"notes": file.metadata()}


@pytest.fixture(autouse=True)
def known_to_the_host(request, in_host):
    kind = request.node.callspec.params["kind"]
    if f"{kind} latents" not in in_host:
        pytest.skip(f"This ComfyUI has no autoencoder of the kind {kind}.")


@pytest.mark.parametrize("kind", ALL)
def test_latents_are_those_of_the_host_also_of_images_that_are_not_square(in_host, kind):
    expected = in_host[f"{kind} expected"]
    torch.testing.assert_close(in_host[f"{kind} latents"], expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())


@pytest.mark.parametrize("kind", ALL)
def test_their_size_is_the_images_divided_by_the_ratio(in_host, kind):
    ratio = int(in_host["notes"][f"{kind} ratio"])
    assert in_host[f"{kind} latents"].shape[-2:] == (64 // ratio, 96 // ratio)


@pytest.mark.parametrize("kind", ALL)
def test_gradients_follow_the_slope(in_host, kind):
    """Along itself a gradient is as steep as it is long: a part of it that is wrong would only make it longer."""
    assert in_host[f"{kind} gradient"].norm().item() == pytest.approx(in_host[f"{kind} slope"].item(), rel=0.02)


@pytest.mark.parametrize("kind", ALL)
def test_recomputing_changes_no_bit(in_host, kind):
    for name in ("latents", "gradient"):
        assert torch.equal(in_host[f"{kind} {name} recomputed"], in_host[f"{kind} {name}"]), name


@pytest.mark.parametrize("kind", KINDS)
def test_recomputing_saves_memory(in_host, kind):
    kept, recomputed = (int(in_host["notes"][f"{kind} {name}"]) for name in ("kept", "recomputed"))
    assert recomputed < 0.9 * kept
