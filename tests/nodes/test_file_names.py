"""File names of graphs: the same ones are refused on every system."""

import ntpath
from pathlib import Path, PureWindowsPath

import pytest
from comfyui_stylegan_fusion.nodes.file_names import new_within, within

FOLDER = Path("models") / "stylegan"
GOOD = ["fox.pkl", "animals/fox.pkl", "animals\\red\\fox.pkl", "./fox.pkl", "a//b.pkl", "Füchse/狐.pkl", "console.pkl"]
ELSEWHERE = ["/etc/passwd", "\\\\server\\share\\fox", "../fox", "a/../../fox", "a\\..\\..\\fox", "C:fox", "C:\\fox"]
ELSEWHERE += ["a/... /fox", ".. /fox"]
NEVER_NAMES = {
    "": "is empty",
    "fox.pkl:stream": "contains ':'",
    "14:30 fox": "contains ':'",
    "fox\0.pkl": "a character that no file name may have",
    "\ud83e.pkl": "a character that no file name may have",
}
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


@pytest.mark.parametrize("name", GOOD)
def test_plain_names_stay_within_the_folder(name):
    assert within(FOLDER, name) == FOLDER.joinpath(*name.replace("\\", "/").split("/"))
    assert new_within(FOLDER, name) == within(FOLDER, name)
    # As Windows would read the same path.
    whole = ntpath.normpath(PureWindowsPath("C:/models/stylegan") / name)
    assert whole.startswith("C:\\models\\stylegan\\")


@pytest.mark.parametrize("name", ELSEWHERE)
def test_names_that_lead_elsewhere_on_any_system_are_refused(name):
    with pytest.raises(ValueError, match="leads out of the folder stylegan; use a plain name"):
        within(FOLDER, name)


@pytest.mark.parametrize("name", NEVER_NAMES)
def test_what_is_no_name_is_refused_for_what_is_wrong_with_it(name):
    with pytest.raises(ValueError, match=NEVER_NAMES[name]) as raised:
        within(FOLDER, name)
    assert "leads out" not in str(raised.value)


@pytest.mark.parametrize("name", DEVICES)
def test_devices_of_windows_are_refused_everywhere(name):
    with pytest.raises(ValueError, match="a device on Windows; use another name"):
        within(FOLDER, name)


@pytest.mark.parametrize("name", NOT_STORED)
def test_new_names_are_those_that_every_system_can_store(name):
    assert within(FOLDER, name)  # a file that is there may be read
    with pytest.raises(ValueError, match=r"Windows cannot store|ends with a dot or a space|is too long"):
        new_within(FOLDER, name)


@pytest.mark.parametrize("name", ["animals/", "animals\\", ".", "./"])
def test_a_new_name_is_no_folder(name):
    with pytest.raises(ValueError, match="names a folder"):
        new_within(FOLDER, name)
