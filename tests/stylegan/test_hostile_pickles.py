"""Pickles that would run something: refused, and nothing happens."""

import pickle

import pytest
import torch
from comfyui_stylegan_fusion.stylegan import CheckpointError, load_generator
from foreign_files import dump, nvlabs_generator, rosinality_generator, rosinality_state, small
from hostile_files import LEGACY_START, Call, pickled, torch_archive

# (what would be called, with what): each leaves a file named "executed" in the current folder if it ever runs.
CALLS = {
    "posix.system": ("touch executed",),
    "os.system": ("touch executed",),
    "nt.system": ("touch executed",),
    "subprocess.Popen": (["touch", "executed"],),
    "subprocess.check_output": (["touch", "executed"],),
    "builtins.eval": ("open('executed', 'w')",),
    "builtins.exec": ("open('executed', 'w')",),
    "__builtin__.eval": ("open('executed', 'w')",),
    "builtins.open": ("executed", "w"),
    "io.open": ("executed", "w"),
    "pathlib.Path.touch": ("executed",),
    "builtins.__import__": ("antigravity",),
    "importlib.import_module": ("antigravity",),
    "builtins.getattr": ("os", "system"),
    "builtins.compile": ("open('executed', 'w')", "x", "exec"),
    "runpy.run_path": ("executed.py",),
    "shutil.copyfile": ("executed.py", "executed"),
    "pickle.loads": (b"cos\nsystem\n(S'touch executed'\ntR.",),
    "torch.load": ("executed.pt",),
    "torch.hub.load": ("evil/repository", "model"),
    "torch.utils.cpp_extension.load_inline": ("x", "void f(){}"),
    "torch.storage.UntypedStorage": (10**12,),
    "numpy.load": ("executed.npy",),
    "functools.partial": (print, "executed"),
    "operator.methodcaller": ("system", "touch executed"),
    "webbrowser.open": ("http://localhost/",),
    "socket.create_connection": (("localhost", 80),),
    "types.FunctionType": (),
    "dnnlib.util.open_url": ("http://localhost/",),
    "dnnlib.util.call_func_by_name": ("open",),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_pickle_that_would_call_something_is_refused_and_nothing_happens(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    call = Call(name, *CALLS[name])
    data = pickled(call)
    files = {
        "alone.pkl": data,
        "beside.pkl": pickled({"G_ema": {}, "extra": call}),
        "legacy.pt": LEGACY_START + data + pickle.dumps([], 2),
        "first.pt": data + LEGACY_START,
    }
    for file, content in files.items():
        (tmp_path / file).write_bytes(content)
    torch_archive(tmp_path / "zip.pt", pickled({"g_ema": {}, "extra": call}))
    for file in (*files, "zip.pt"):
        with pytest.raises(
            CheckpointError, match=r"is refused: it names|is no generator|damaged|is not a torch file"
        ) as caught:
            load_generator(tmp_path / file)
        assert file == "first.pt" or f"names {name}" in str(caught.value)
    assert not (tmp_path / "executed").exists()
    assert {path.name for path in tmp_path.iterdir()} == {*files, "zip.pt"}


def test_a_whole_generator_with_something_to_call_beside_it_is_refused(tmp_path):
    """What loads here may be opened by another program tomorrow."""
    content = {"G_ema": nvlabs_generator(small()), "extra": print}
    with pytest.raises(CheckpointError, match=r"it names builtins\.print, which no generator needs"):
        load_generator(dump(content, tmp_path / "network.pkl"))
    torch.save({"g_ema": rosinality_state(rosinality_generator()), "extra": print}, tmp_path / "network.pt")
    with pytest.raises(CheckpointError, match=r"it names __builtin__\.print, which no generator needs"):
        load_generator(tmp_path / "network.pt")
