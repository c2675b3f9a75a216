"""Files that are written whole or not at all, and held by one process at a time."""

import sys

import pytest
import torch
from comfyui_stylegan_fusion.training import files
from comfyui_stylegan_fusion.training.files import (
    locked,
    remove_leftovers,
    replacing,
    write_atomically,
    write_tensors,
)
from safetensors import safe_open


class Stop(Exception):
    pass


def test_leftovers_of_one_file_are_not_those_of_another(tmp_path):
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        with pytest.raises(OSError), replacing(path) as temporary:
            temporary.with_name(temporary.name[:-5] + "x.tmp").write_bytes(b"left")
            raise OSError
    remove_leftovers(one)
    assert len(list(tmp_path.iterdir())) == 1
    remove_leftovers(other)
    assert not list(tmp_path.iterdir())
    remove_leftovers(tmp_path / "absent" / "file")


def test_a_file_is_held_by_one_process_at_a_time(tmp_path):
    with locked(tmp_path / ".lock") as one:
        with locked(tmp_path / ".lock") as other:
            assert (one, other) == (True, False)
        with locked(tmp_path / ".lock") as other:  # whom it was refused does not let go of it
            assert not other
    assert not (tmp_path / ".lock").exists()
    with pytest.raises(Stop), locked(tmp_path / ".lock"):
        raise Stop
    with locked(tmp_path / ".lock") as again:
        assert again


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_file_that_is_let_go_of_in_time_is_replaced(tmp_path, windows, monkeypatch):
    import mmap

    path = tmp_path / "file"
    path.write_bytes(b"before")
    file = path.open("rb")
    held = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    monkeypatch.setattr(files.time, "sleep", lambda seconds: held.close())
    write_atomically(path, b"after")
    file.close()
    assert path.read_bytes() == b"after" and len(windows) == 1


def test_halves_of_characters_leave_the_header_valid(tmp_path):
    """As a file name that is no UTF-8 on Linux, or half an emoji on Windows."""
    path, metadata = tmp_path / "a.safetensors", {"prompt": "a \udcff fox \ud83d", "name\ud800": "\ud83d\ude00 ä"}
    write_tensors(path, {"one": torch.ones(2)}, metadata)
    with safe_open(path, framework="pt") as file:  # which refuses what is not valid
        assert file.metadata() == {"prompt": "a \ufffd fox \ufffd", "name\ufffd": "\U0001f600 ä"}
        assert file.get_tensor("one").tolist() == [1, 1]
