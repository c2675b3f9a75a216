"""Names of files as graphs carry them: one graph shall run on Windows, Linux and macOS. Knows nothing of ComfyUI."""

from pathlib import Path

DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"} | {
    f"{p}{n}" for p in ("COM", "LPT") for n in "0123456789¹²³"
}
"""What Windows takes for a device, in capitals or not and whatever follows after a dot."""

NOT_ON_WINDOWS = frozenset('<>"|?*') | {chr(code) for code in range(32)}

LONGEST = 150
"""Bytes of a new name: a number and an ending are added, and Windows counts the folders before it among 260 characters."""


def within(folder: Path, relative: str) -> Path:
    """Return folder/relative, with / or \\ between its parts. Raises ValueError for a name that leads elsewhere, on any
    system; links that the user put there are followed."""
    parts = _parts(relative)
    if not relative:
        raise ValueError("The file name is empty; give one.")
    if not _is_text(relative):
        raise ValueError(f"The file name {relative!r} contains a character that no file name may have; leave it out.")
    # Windows drops dots and spaces at the end of a part: ".. " may be "..".
    upwards = any(not part.strip(". ") and part not in ("", ".") for part in parts)
    if parts[0] == "" or upwards or parts[0][1:2] == ":":  # from the root of a disk, or of a share
        raise ValueError(f"The file name {relative!r} leads out of the folder {folder.name}; use a plain name.")
    if ":" in relative:
        raise ValueError(f"The file name {relative!r} contains ':', which Windows cannot store; leave it out.")
    device = next((part for part in parts if part.partition(".")[0].strip().upper() in DEVICES), None)
    if device is not None:
        raise ValueError(f"The file name {relative!r} contains {device!r}, a device on Windows; use another name.")
    return folder.joinpath(*parts)


def new_within(folder: Path, relative: str) -> Path:
    """Do as `within` for a file that shall be made. Raises ValueError also for names that Windows cannot store."""
    path = within(folder, relative)
    if path == folder or relative.endswith(("/", "\\")):
        raise ValueError(f"The file name {relative!r} names a folder; give it a name such as fox or animals/fox.")
    wrong = sorted(NOT_ON_WINDOWS.intersection(relative))
    if wrong:
        raise ValueError(f"The file name {relative!r} contains {wrong[0]!r}, which Windows cannot store; leave it out.")
    if any(part != part.rstrip(". ") for part in _parts(relative)[:-1] if part != "."):
        raise ValueError(f"A folder in the file name {relative!r} ends with a dot or a space; leave it out.")
    if len(relative.encode()) > LONGEST:
        raise ValueError(f"The file name {relative[:20]!r}... is too long; use at most {LONGEST} letters.")
    return path


def _parts(relative: str) -> list[str]:
    return relative.replace("\\", "/").split("/")


def _is_text(part: str) -> bool:
    try:
        return "\0" not in part and bool(part.encode() or True)
    except UnicodeEncodeError:  # half a character
        return False
