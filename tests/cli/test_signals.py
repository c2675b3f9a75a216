"""What ends a command from outside, and displays that break: what was made stays, and the run is called what it was."""

import errno
import os
import signal
import subprocess
import sys

import pytest
from comfyui_stylegan_fusion import sds
from comfyui_stylegan_fusion.cli import main
from comfyui_stylegan_fusion.stylegan import read_metadata

ADAPT = ["adapt", "--generator", "miniature", "--model", "miniature", "--prompt", "a robot", "--targets", "0"]
ADAPT += ["--batch-size", "1", "--samples", "2"]
UNFINISHED = {"generator.safetensors", "best.safetensors", "before_after.png", "loss.png", "history.json", "run.json"}
UNFINISHED |= {"training.safetensors"}

posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has these signals for consoles only")


def names(folder):
    return {path.name for path in folder.iterdir()}


def raising(monkeypatch, number, step, times=1):
    """Let the process get a signal after a step of its training."""
    train = sds.train_generator

    def watched(generator, prior, settings, terms, layers, progress, *others):
        def report(done):
            for _ in range(times if done.step == step else 0):
                os.kill(os.getpid(), number)
            progress(done)

        return train(generator, prior, settings, terms, layers, report, *others)

    monkeypatch.setattr(sds, "train_generator", watched)


@pytest.fixture
def heard():
    """Lets the process hear SIGHUP even when the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@posix
@pytest.mark.parametrize("name, times, status", [("SIGTERM", 2, 143), ("SIGHUP", 1, 129)])
def test_a_signal_saves_as_ctrl_c_does_even_when_it_comes_twice(
    tmp_path, capsys, monkeypatch, heard, name, times, status
):
    out = tmp_path / "out"
    raising(monkeypatch, getattr(signal, name), step=2, times=times)
    before = signal.getsignal(getattr(signal, name))
    assert main([*ADAPT, "--steps", "9", "--output", str(out)]) == status
    assert names(out) == UNFINISHED
    assert read_metadata(out / "generator.safetensors")["steps_done"] == "2"
    assert "Stopped. What was trained for 2 of 9 steps is kept" in capsys.readouterr().out
    assert signal.getsignal(getattr(signal, name)) is before


@posix
def test_a_closed_terminal_that_nohup_ignores_ends_nothing(tmp_path, monkeypatch):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        raising(monkeypatch, signal.SIGHUP, step=1)
        assert main([*ADAPT, "--steps", "2", "--output", str(tmp_path / "out")]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert names(tmp_path / "out") == UNFINISHED - {"training.safetensors"}


class Broken:
    """A stream that nothing can be written to."""

    encoding = "utf-8"

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    flush = isatty = fileno = lambda self: (_ for _ in ()).throw(OSError(errno.EPIPE, "Broken pipe"))


def test_a_display_that_breaks_ends_and_relabels_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", Broken())
    monkeypatch.setattr(sys, "stderr", Broken())
    assert main([*ADAPT, "--steps", "2", "--output", str(tmp_path / "out")]) == 0
    assert isinstance(sys.stdout, Broken)
    assert names(tmp_path / "out") == UNFINISHED - {"training.safetensors"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the device that is always full is Linux's")
def test_a_full_device_and_a_closed_pipe_are_survived_to_the_end_of_the_process(tmp_path):
    command = [sys.executable, "-m", "comfyui_stylegan_fusion", "convert", "miniature", "--output"]
    reading, writing = os.pipe()
    os.close(reading)
    with open("/dev/full", "wb") as full, os.fdopen(writing, "wb") as pipe:
        processes = [
            subprocess.Popen([*command, str(tmp_path / f"{index}.safetensors")], stdout=stream, stderr=subprocess.PIPE)
            for index, stream in enumerate((full, pipe))
        ]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0] and said == [b"", b""]
    assert names(tmp_path) == {"0.safetensors", "1.safetensors"}
