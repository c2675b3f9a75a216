"""Curves over many steps in few points."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Bin:
    """A Bin sums named values over neighbouring steps."""

    last: int = 0  # the last step in it, counted from 1
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def add(self, step: int, sums: Mapping[str, float], counts: Mapping[str, int]) -> None:
        self.last = max(self.last, step)
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.counts[name] = self.counts.get(name, 0) + counts[name]


class Binned:
    """Binned keeps means of named values over bins of neighbouring steps; the bins widen, so that they stay at most
    `limit`."""

    def __init__(self, limit: int):
        self.limit, self.width = limit, 1
        self._bins: dict[int, Bin] = {}

    def add(self, step: int, values: Mapping[str, float]) -> None:
        """Note the values of a step, counted from 1 (0: before the first). Names may come and go."""
        while step // self.width >= self.limit:
            self._widen()
        self._bins.setdefault(step // self.width, Bin()).add(step, values, dict.fromkeys(values, 1))

    def means(self, name: str) -> tuple[list[int], list[float]]:
        """Return the last steps of the bins that have this value, and its means in them."""
        found = [bin for _, bin in sorted(self._bins.items()) if name in bin.sums]
        return [bin.last for bin in found], [bin.sums[name] / bin.counts[name] for bin in found]

    @property
    def names(self) -> list[str]:
        """The names of all values, in the order in which they came."""
        return list(dict.fromkeys(name for _, bin in sorted(self._bins.items()) for name in bin.sums))

    def _widen(self) -> None:
        self.width *= 2
        merged: dict[int, Bin] = {}
        for index, bin in sorted(self._bins.items()):
            merged.setdefault(index // 2, Bin()).add(bin.last, bin.sums, bin.counts)
        self._bins = merged
