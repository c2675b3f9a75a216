"""What happened in a training: a record of each step."""

from dataclasses import dataclass, field

from .phases import Note


@dataclass(frozen=True)
class StepRecord:
    """A StepRecord says what happened in one step."""

    step: int  # counted from 1
    losses: dict[str, float] = field(default_factory=dict)  # of each term or part, by name; none of what was skipped
    notes: dict[str, Note] = field(default_factory=dict)
    skipped: str | None = None  # what was not finite, when the step was skipped

    @property
    def t(self) -> float:
        """Return the timestep, as a fraction of the schedule; 0 where a training has none."""
        return self.notes.get("t", 0.0)

    @property
    def layers(self) -> tuple[int, ...]:
        """Return the indices of the layers that were updated; none where the step was skipped, or
        a training has no choice."""
        return self.notes.get("layers", ())


@dataclass
class History:
    """A History holds the records of all steps, and what was measured from time to time."""

    records: list[StepRecord] = field(default_factory=list)
    measured: dict[str, dict[int, float]] = field(default_factory=dict)  # by name and step; 0: before training

    @property
    def diversity(self) -> dict[int, float]:
        """Return the diversity of samples at the steps where it was measured."""
        return self.measured.get("diversity", {})

    @property
    def skipped(self) -> int:
        """Return how many steps were skipped because of a non-finite gradient."""
        return sum(record.skipped is not None for record in self.records)

    @property
    def skipped_in_a_row(self) -> int:
        """Return how many steps were skipped since the last one that was not."""
        count = 0
        for record in reversed(self.records):
            if not record.skipped:
                break
            count += 1
        return count

    @property
    def terms(self) -> list[str]:
        """Return the names of the losses, in the order of the objective."""
        return list(dict.fromkeys(name for record in self.records for name in record.losses))

    def measure(self, name: str, step: int, value: float) -> None:
        """Note what was measured after so many steps."""
        self.measured.setdefault(name, {})[step] = value

    def until(self, step: int) -> "History":
        """Return the history as it was after this many steps."""
        measured = {name: {at: v for at, v in values.items() if at <= step} for name, values in self.measured.items()}
        return History(self.records[:step], measured)

    def series(self, term: str) -> tuple[list[int], list[float]]:
        """Return the steps and losses of one term, without the skipped steps."""
        kept = [record for record in self.records if term in record.losses]
        return [record.step for record in kept], [record.losses[term] for record in kept]
