"""What the latents and the noise of a seed depend on."""

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import Draw, LatentStream, noise_seeds, parse_seeds, render_samples, sample_z
from foreign_files import small


@pytest.mark.parametrize("z_dim", [1, 3, 16, 64, 100, 500, 512])
def test_latents_do_not_depend_on_how_many_there_are(z_dim):
    stream = LatentStream(z_dim, 5)
    assert torch.equal(torch.cat([stream.take(count) for count in (1, 0, 2, 7, 27)]), sample_z(z_dim, 37, 5))
    assert torch.equal(sample_z(z_dim, 37, 5)[:4], sample_z(z_dim, 4, 5))


@pytest.mark.parametrize("z_dim", [16, 64, 512])
def test_latents_are_what_they_were_where_that_depended_on_no_count(z_dim):
    for count in (1, 5, 16):
        drawn = torch.randn(count, z_dim, generator=torch.Generator().manual_seed(7))
        assert torch.equal(sample_z(z_dim, count, 7), drawn)


def test_random_noise_is_of_the_seed_and_the_number_of_a_picture():
    generator = small()
    z = sample_z(generator.z_dim, 3, 0)
    drawn = render_samples(generator, z, noise="random", seed=4)
    torch.testing.assert_close(render_samples(generator, z[:1], noise="random", seed=4), drawn[:1], rtol=0, atol=1e-4)
    assert (render_samples(generator, z, noise="random", seed=5) - drawn).abs().max() > 1e-2
    assert (
        noise_seeds(4, 1, 2) == noise_seeds(4, 0, 3)[1:] and len({*noise_seeds(4, 0, 9), *noise_seeds(5, 0, 9)}) == 18
    )


def test_noise_is_the_same_when_activations_are_computed_again():
    generator = small().requires_grad_(True)
    draw = Draw(generator.mapping(sample_z(generator.z_dim, 2, 0)).detach(), noise_seeds(3, 0, 2))
    weight = generator.synthesis.layers[1].weight
    found = [
        torch.autograd.grad(generator.synthesis(draw, noise="random", recompute=recompute).square().sum(), weight)[0]
        for recompute in (False, True)
    ]
    assert torch.equal(*found)


def test_lists_of_seeds_are_read_in_their_order_each_once():
    assert parse_seeds("1-3, 100 2 7") == (1, 2, 3, 100, 7) and parse_seeds(str(2**64 - 1)) == (2**64 - 1,)
    for text in ("", "a", "3-1", "-4", str(2**64), "0-99999999"):
        with pytest.raises(ValueError, match=r"write for example 1-64,100|give 1 to"):
            parse_seeds(text)
