"""Errors as sentences."""


def sentence(error: BaseException) -> str:
    """Return what an error says, with a full stop."""
    said = str(error).strip() or type(error).__name__
    return said if said.endswith((".", "!", "?")) else f"{said}."
