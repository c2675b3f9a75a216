"""Libraries that only some of the work needs, and what to say where one cannot be imported."""


def import_advice(purpose: str, packages: str, install: str, error: BaseException) -> str:
    """Return one sentence on an import that failed: `purpose` needs `packages`, which `install` brings.

    A torchvision of another build than torch (for another CUDA, most often) breaks every library that looks at it,
    with an error that names an operator; installing those libraries again would change nothing."""
    while (deeper := error.__cause__) is not None:
        error = deeper
    said = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    if "torchvision" in said and not isinstance(error, ModuleNotFoundError):
        return (
            f"{purpose} needs {packages}, and the torchvision beside it does not fit torch ({said}); install the "
            "torchvision that belongs to your torch, or uninstall torchvision."
        )
    return f"{purpose} needs {packages}, which cannot be imported ({said}); {install}."
