"""SeFa against numpy's singular value decomposition."""

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.stylegan import move_codes, sefa_directions
from foreign_files import STYLEGAN3_T, build, small


def affine_weights(generator, codes):
    """By the names of the weights, as they are written to files."""
    weights, stylegan3 = generator.state_dict(), hasattr(generator.synthesis, "input")
    for code in codes:
        if stylegan3:
            last = generator.num_ws - 1
            name = "input" if code == 0 else "to_rgb" if code == last else f"convs.{code - 1}"
        else:
            block = (code + 1) // 2
            name = f"blocks.{block}.convs.{0 if code == 0 else (code + 1) % 2}"
            name = name if code < generator.num_ws - 1 else f"blocks.{block - 1}.to_rgb"
        yield weights[f"synthesis.{name}.affine.weight"].numpy().astype(np.float64)


@pytest.mark.parametrize("make", [small, lambda: build(STYLEGAN3_T)], ids=["stylegan2", "stylegan3"])
@pytest.mark.parametrize("codes", [(0, 1, 2), (3, 5), (6, 7)])
def test_directions_are_the_right_singular_vectors(make, codes):
    generator = make()
    if codes == (6, 7) and generator.num_ws != 8:
        codes = (generator.num_ws - 2, generator.num_ws - 1)  # with the last ToRGB
    found = sefa_directions(generator, codes).numpy()
    _, sizes, vectors = np.linalg.svd(np.concatenate(list(affine_weights(generator, codes))))
    clear = [
        i for i in range(len(sizes)) if all(abs(sizes[i] - other) > 1e-3 for j, other in enumerate(sizes) if j != i)
    ]
    assert len(clear) >= 10
    for i in clear:
        assert abs(found[i] @ vectors[i]) == pytest.approx(1, abs=1e-5)
    np.testing.assert_allclose(found @ found.T, np.eye(16), atol=1e-6)


def test_directions_are_the_same_every_time_with_the_largest_entry_positive():
    found = sefa_directions(small(), range(8))
    assert torch.equal(found, sefa_directions(small(), range(8)))
    largest = found.gather(1, found.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()


def test_the_first_direction_changes_the_styles_most():
    generator, codes = small(), (1, 2, 3)
    affines = np.concatenate(list(affine_weights(generator, codes)))
    changes = np.linalg.norm(affines @ sefa_directions(generator, codes).numpy().T, axis=0)
    assert (np.diff(changes) <= 1e-5).all()


def test_codes_move_in_the_chosen_layers_only():
    ws = torch.arange(2 * 4 * 3.0).view(2, 4, 3)
    moved = move_codes(ws, torch.tensor([0.0, 1.0, 0.0]), (1, 3), [-2.0, 0.0, 5.0]).view(2, 3, 4, 3)
    expected = ws[:, None].repeat(1, 3, 1, 1)
    for i, strength in enumerate((-2.0, 0.0, 5.0)):
        for code in (1, 3):
            expected[:, i, code, 1] += strength
    assert torch.equal(moved, expected)
