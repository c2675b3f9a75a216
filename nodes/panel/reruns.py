"""How a node runs again although none of its inputs has changed: the host compares fingerprints, too."""

import secrets
from collections.abc import Mapping
from typing import Any


class Reruns:
    """Reruns are the runs that were asked for on panels, for each panel and the inputs that its node had.

    They are kept for longer than a panel: with one gone, the host would run its node once more for nothing."""

    def __init__(self):
        self._inputs: dict[str, str] = {}  # by panel, of the latest run of its node
        self._marks: dict[tuple[str, str], str] = {}  # by panel and inputs, random

    def fingerprint(self, key: str, inputs: Mapping[str, Any]) -> str:
        """Return what differs whenever a node with these inputs must run again for what was asked on its panel. To be
        called before each run of the node."""
        described = repr(sorted(inputs.items()))
        self._inputs[key] = described
        return self.mark(key, described)

    def inputs(self, key: str) -> str:
        """Describe the inputs of the latest run of the node with this panel."""
        return self._inputs.get(key, "")

    def mark(self, key: str, inputs: str) -> str:
        """Return the mark of the run that was asked for last; "" for none."""
        return self._marks.get((key, inputs), "")

    def ask(self, key: str, inputs: str) -> None:
        """Let the node run again that has this panel and these inputs."""
        self.put_back(key, inputs, secrets.token_hex(4))

    def put_back(self, key: str, inputs: str, mark: str) -> None:
        """Let the node run, or not, as it was with an earlier mark."""
        self._marks[key, inputs] = mark
