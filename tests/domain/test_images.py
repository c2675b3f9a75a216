"""From pictures of any shape to what is learned."""

import pytest
import torch
from comfyui_stylegan_fusion.domain.images import learnable


def halved(image):
    return torch.nn.functional.avg_pool2d(image, 2)


def picture(height, width, seed=0):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def many(*sizes):
    return [(f"{n}.png", picture(*size, seed=n)) for n, size in enumerate(sizes)]


def test_pictures_of_one_shape_are_learned_together_and_keep_it():
    sizes = (64, 64), (70, 66), (96, 64), (64, 96), (300, 60)
    pictures, _ = learnable(many(*sizes), 64, 8, "buckets", False, halved)
    shapes = {tuple(bucket.shape[-2:]): len(bucket) for bucket in pictures.buckets}
    assert shapes == {(32, 32): 2, (40, 28): 1, (28, 40): 1, (48, 24): 1}
    assert len(pictures) == 5 and pictures.longest_side == 96


def test_squares_are_the_middle():
    image = torch.zeros(1, 3, 64, 128)
    image[..., 32:96] = 1
    pictures, _ = learnable([(str(n), image) for n in range(3)], 64, 8, "square", False, halved)
    assert pictures.buckets[0].shape == (3, 1, 3, 32, 32) and pictures.buckets[0].mean() == 1


def test_mirrored_ones_are_drawn_half_of_the_time():
    image = torch.zeros(1, 3, 64, 64)
    image[..., :32] = 1
    pictures, _ = learnable([(str(n), image) for n in range(3)], 64, 8, "square", True, halved)
    batch = pictures.batch(torch.Generator().manual_seed(0), 400)
    assert 150 < (batch[:, 0, 0, 0] == 1).sum() < 250


def test_each_shape_is_drawn_as_often_as_it_has_pictures():
    pictures, _ = learnable(many(*[(64, 64)] * 9, (128, 64)), 64, 8, "buckets", False, halved)
    random = torch.Generator().manual_seed(0)
    tall = sum(pictures.batch(random, 2).shape[-1] != 32 for _ in range(500))
    assert 25 < tall < 90


@pytest.mark.parametrize(
    "images, sentence",
    [
        ([], "There are 0 pictures"),
        (many((64, 64)), "There is 1 picture; a domain takes 3 or more"),
        (many((64, 64), (20, 64), (64, 64)), "1.png is 64 x 20 pixels, and the model learns 64"),
        ([("a.png", torch.full([1, 3, 64, 64], float("nan")))], "a.png has pixels that are no numbers"),
    ],
)
def test_pictures_that_nothing_can_be_learned_from_get_a_sentence(images, sentence):
    with pytest.raises(ValueError, match=sentence):
        learnable(images, 64, 8, "buckets", True, halved)


def test_grey_among_coloured_ones_and_enlarged_ones_are_told():
    grey = picture(64, 64)[:, :1].expand(1, 3, 64, 64)
    _, warnings = learnable([("grey.png", grey), *many((64, 64), (40, 64))], 64, 8, "square", True, halved)
    assert warnings[0].startswith("grey.png is grey") and "had to be enlarged" in warnings[1]
    _, warnings = learnable([(str(n), grey) for n in range(3)], 64, 8, "square", True, halved)
    assert not warnings


def test_other_pictures_have_another_digest():
    one, other = (learnable(many(*[(64, 64)] * n), 64, 8, "square", True, halved)[0] for n in (3, 4))
    assert (
        one.digest != other.digest
        and one.digest == learnable(many(*[(64, 64)] * 3), 64, 8, "square", True, halved)[0].digest
    )
