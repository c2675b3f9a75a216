"""Generators' files that another program holds, and folders that cannot be written."""

import sys

import pytest
from comfyui_stylegan_fusion.miniature import GENERATOR
from comfyui_stylegan_fusion.stylegan import CheckpointError, load_generator, save_generator, save_or_rescue


def test_where_nothing_can_be_written_that_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"where the folder should be")

    def full(**options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.mkdtemp", full)
    with pytest.raises(CheckpointError, match=r"temporary files \(.*No space left on device\)\. Free some space"):
        save_or_rescue(load_generator(GENERATOR), tmp_path / "file" / "g.safetensors")
    assert (tmp_path / "file").read_bytes() == b"where the folder should be"


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@on_linux
def test_a_generator_that_was_loaded_from_a_file_can_be_saved_there(tmp_path, windows):
    path = tmp_path / "g.safetensors"
    path.write_bytes(GENERATOR.read_bytes())
    generator = load_generator(path)
    save_generator(generator, path)
    assert not windows and generator is not None


@on_linux
def test_a_file_that_another_program_holds_is_waited_for_and_then_left_alone(tmp_path, windows):
    import mmap

    path, generator = tmp_path / "g.safetensors", load_generator(GENERATOR)
    save_generator(generator, path)
    before = path.read_bytes()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        written = save_or_rescue(generator, path)
        assert len(windows) > 1  # it was tried again for a while
    assert written.parent == tmp_path and written != path and load_generator(written) is not None
    assert path.read_bytes() == before
    assert {p.name for p in tmp_path.iterdir()} == {path.name, written.name}
    assert save_or_rescue(generator, path) == path  # now that it is free
