"""What our exceptions are called in the host's reports."""

from collections.abc import Iterator

PACKAGE = __name__.rpartition(".nodes.")[0]
"""This package as the host has imported it: the whole path of a folder in custom_nodes."""

NAME = "stylegan_fusion"


def name_exceptions() -> None:
    """Let our exceptions, as far as their modules are loaded, be called stylegan_fusion.CheckpointError and so on: the host
    shows where their class is defined, a path of the user's machine."""
    for kind in _below(BaseException):
        if kind.__module__ == PACKAGE or kind.__module__.startswith(f"{PACKAGE}."):
            kind.__module__ = NAME


def _below(kind: type) -> Iterator[type]:
    for one in type.__subclasses__(kind):
        yield one
        yield from _below(one)
