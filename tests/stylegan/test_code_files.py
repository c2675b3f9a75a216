"""Codes in files."""

import numpy as np
import pytest
import torch
from comfyui_stylegan_fusion.stylegan import CheckpointError
from comfyui_stylegan_fusion.stylegan.code_files import Codes, joined, load_codes, save_codes

WS = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


def test_codes_come_back_as_they_were(tmp_path):
    path = tmp_path / "new" / "codes.safetensors"
    save_codes(path, Codes(WS, "a mapping", "three of seed 0"))
    found = load_codes(path)
    assert torch.equal(found.ws, WS) and (found.mapping, found.description) == ("a mapping", "three of seed 0")


def test_arrays_of_other_programs_are_read(tmp_path):
    np.save(tmp_path / "latents.npy", WS[0].numpy())
    np.savez(tmp_path / "projected_w.npz", w=WS[:1].double().numpy())
    for name in ("latents.npy", "projected_w.npz"):
        assert torch.equal(load_codes(tmp_path / name).ws, WS[:1])


def test_joined_codes_keep_their_mapping_only_where_it_is_one():
    one, other = Codes(WS, "a"), Codes(WS[:1], "b")
    assert joined([one, one]).mapping == "a" and joined([one, other]).mapping == ""
    assert torch.equal(joined([one, other]).ws, torch.cat([WS, WS[:1]]))
    with pytest.raises(ValueError, match="different sizes"):
        joined([one, Codes(WS[:, :2])])


@pytest.mark.parametrize("name", ["a.safetensors", "a.npy", "a.npz"])
@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 no archive", b"\x93NUMPY", b"\x80\x04]."])
def test_what_holds_no_codes_gets_a_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=str(name)):
        load_codes(tmp_path / name)


@pytest.mark.parametrize("array", [np.zeros(3), np.full((2, 3), np.nan), np.array(["a"]), np.zeros((0, 4, 4))])
def test_numbers_that_are_no_codes_get_a_sentence(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(CheckpointError, match=r"a\.npy"):
        load_codes(tmp_path / "a.npy")


def test_no_pickle_is_executed(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(CheckpointError):
        load_codes(tmp_path / "a.npy")
