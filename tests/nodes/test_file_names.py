"""File names of graphs: the same ones are refused on every system. The file knows nothing of ComfyUI, so it is loaded
by itself."""

import importlib.util
import ntpath
from pathlib import Path, PureWindowsPath

import pytest

PATH = Path(__file__).resolve().parents[2] / "nodes" / "file_names.py"
FOLDER = Path("models") / "stylegan"
GOOD = ["fox.pkl", "animals/fox.pkl", "animals\\red\\fox.pkl", "./fox.pkl", "a//b.pkl", "Füchse/狐.pkl", "console.pkl"]
ELSEWHERE = ["", "/etc/passwd", "\\\\server\\share\\fox", "../fox", "a/../../fox", "a\\..\\..\\fox", "C:fox", "C:\\fox"]
ELSEWHERE += ["fox.pkl:stream", "a/... /fox", ".. /fox", "fox\0.pkl", "\ud83e.pkl"]
DEVICES = ["con", "NUL", "aux.pkl", "animals/Com1.pkl", "lpt9.tar.gz", "prn .pkl", "com²", "CONIN$"]
NOT_STORED = [
    "what?",
    "a<b",
    "a|b",
    'say "fox"',
    "fox*",
    "tab\there",
    "animals./fox",
    "animals /fox",
    "f" * 151,
    "狐" * 51,
]


@pytest.fixture(scope="module")
def names():
    spec = importlib.util.spec_from_file_location("file_names_of_nodes", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", GOOD)
def test_plain_names_stay_within_the_folder(names, name):
    assert names.within(FOLDER, name) == FOLDER.joinpath(*name.replace("\\", "/").split("/"))
    assert names.new_within(FOLDER, name) == names.within(FOLDER, name)
    # As Windows would read the same path.
    whole = ntpath.normpath(PureWindowsPath("C:/models/stylegan") / name)
    assert whole.startswith("C:\\models\\stylegan\\")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere_on_any_system_are_refused(names, name):
    with pytest.raises(ValueError, match="leads out of the folder stylegan; use a plain name"):
        names.within(FOLDER, name)


@pytest.mark.parametrize("name", DEVICES)
def test_devices_of_windows_are_refused_everywhere(names, name):
    with pytest.raises(ValueError, match="a device on Windows; use another name"):
        names.within(FOLDER, name)


@pytest.mark.parametrize("name", NOT_STORED)
def test_new_names_are_those_that_every_system_can_store(names, name):
    assert names.within(FOLDER, name)  # a file that is there may be read
    with pytest.raises(ValueError, match=r"Windows cannot store|ends with a dot or a space|is too long"):
        names.new_within(FOLDER, name)


@pytest.mark.parametrize("name", ["animals/", "animals\\", ".", "./"])
def test_a_new_name_is_no_folder(names, name):
    with pytest.raises(ValueError, match="names a folder"):
        names.new_within(FOLDER, name)
