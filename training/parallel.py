"""One training in several processes, each of which computes its share of a step's batches. With one process nothing is
sent and nothing changes."""

import contextlib
import datetime
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .endings import PeerEnded, PeerOutOfMemory, PeerSkipped
from .out_of_memory import is_out_of_memory
from .phases import Note, Outcome

PATIENCE = datetime.timedelta(days=1)
"""For which processes wait for one that prepares something; one that is gone is noticed at once."""

_AT_ONCE = 32_000_000  # bytes that are summed up together
_FINE, _SKIPS, _NO_MEMORY, _ENDED = range(4)  # what a process says of itself before anything is exchanged
_SAID = 600  # bytes of what is said of an ending


class Alone:
    """Alone is a training in one process, and what others are in the place of it.

    All processes ask for the same things in the same order. Before anything is exchanged each says that it is fine: one
    that is not makes the others leave what they were doing, too, at the same place."""

    rank, world = 0, 1

    @property
    def first(self) -> bool:
        """Tell whether this is the process that writes and talks."""
        return self.rank == 0

    def share(self, count: int) -> range:
        """Return which of `count` batches are this process's."""
        return range(count * self.rank // self.world, count * (self.rank + 1) // self.world)

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the sums over all processes of tensors that have the same shapes in each."""
        return list(tensors)

    def gathered(self, rows: Tensor, start: int, count: int) -> Tensor:
        """Return `count` rows [count, ...] of which each process has some, this one `rows` from the place `start` on."""
        return rows

    def wait(self) -> None:
        """Wait until all processes are here."""

    def require_same(self, what: str, value: str) -> None:
        """Raise ValueError when processes disagree about a value."""

    def failed(self, error: BaseException) -> None:
        """Tell the other processes of an error, if they have not heard of it."""

    def skipping(self, what: str) -> None:
        """Tell the other processes, in the place of something that they wait to exchange, that the step is skipped because
        of what was not finite."""

    def agreed(self, outcome: Outcome, parameters: Sequence[nn.Parameter], batches: int) -> Outcome:
        """Return the mean of what all processes computed, this one of `batches`; skipped where one skips."""
        return outcome


ALONE = Alone()
"""A training in one process."""


@dataclass(frozen=True)
class TorchDistributed(Alone):
    """TorchDistributed are processes that torch.distributed connects. Its methods raise PeerEnded and PeerOutOfMemory
    where another process says so, or is gone."""

    rank: int
    world: int

    def summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        self._say(_FINE)
        return self._summed(tensors)

    def gathered(self, rows: Tensor, start: int, count: int) -> Tensor:
        whole = rows.new_zeros(count, *rows.shape[1:])
        whole[start : start + len(rows)] = rows
        return self.summed([whole])[0]

    def wait(self) -> None:
        self._say(_FINE)

    def require_same(self, what: str, value: str) -> None:
        self._say(_FINE)
        if len(set(self._texts(value))) > 1:
            raise ValueError(
                f"The processes of this training do not have the same {what}; start all with the same command, files and "
                "folder."
            )

    def failed(self, error: BaseException) -> None:
        if isinstance(error, PeerEnded | PeerOutOfMemory):
            return
        with contextlib.suppress(PeerEnded, PeerOutOfMemory):
            self._say(_NO_MEMORY if is_out_of_memory(error) else _ENDED, f"{error}".strip() or type(error).__name__)

    def skipping(self, what: str) -> None:
        with contextlib.suppress(PeerSkipped):
            self._say(_SKIPS, what)

    def agreed(self, outcome: Outcome, parameters: Sequence[nn.Parameter], batches: int) -> Outcome:
        here = torch.tensor([outcome.skipped is not None, *(one in outcome.gradients for one in parameters)])
        counts = torch.tensor([batches if outcome.gradients or outcome.losses else 0.0], dtype=torch.float64)
        (marks, total) = self.summed([here.double(), counts])
        if marks[0] > 0:
            said = next(text for text in self._texts(outcome.skipped or "") if text)
            return Outcome({}, outcome.losses, outcome.notes, said)
        part = counts.item() / max(total.item(), 1.0)
        moved = [one for one, mark in zip(parameters, marks[1:].tolist(), strict=True) if mark]
        gradients = [
            outcome.gradients[one] * part if one in outcome.gradients else torch.zeros_like(one) for one in moved
        ]
        losses, notes = self._mean(outcome.losses, part), self._mean_notes(outcome.notes, batches)
        return Outcome(dict(zip(moved, self._summed(gradients), strict=True)), losses, notes)

    def _mean(self, values: dict[str, float], part: float) -> dict[str, float]:
        """The mean of numbers by name, which every process has that computed something."""
        names = max(self._texts("\n".join(values)), key=len)
        if not names:
            return dict(values)
        keys = names.split("\n")
        (found,) = self._summed([torch.tensor([values.get(key, 0.0) * part for key in keys], dtype=torch.float64)])
        return dict(zip(keys, found.tolist(), strict=True))

    def _mean_notes(self, notes: dict[str, Note], batches: int) -> dict[str, Note]:
        """Numbers are means over the batches; what was chosen is the same everywhere."""
        numbers = {name: value for name, value in notes.items() if isinstance(value, float)}
        (total,) = self._summed([torch.tensor([float(batches)], dtype=torch.float64)])
        return {**notes, **self._mean(numbers, batches / total.item())}

    def _summed(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Add up, some tensors at a time: one by one would take a message each, all at once as much memory again."""
        found: list[Tensor] = []
        for group in _groups(tensors):
            flat = torch.cat([one.reshape(-1) for one in group])
            with _gone_is_ended():
                torch.distributed.all_reduce(flat)
            parts = flat.split([one.numel() for one in group])
            found += [part.view(one.shape) for part, one in zip(parts, group, strict=True)]
        return found

    def _say(self, state: int, said: str = "") -> None:
        """Exchange how all are. Raises PeerSkipped, PeerOutOfMemory or PeerEnded where one is not fine."""
        found = torch.tensor([state])
        with _gone_is_ended():
            torch.distributed.all_reduce(found, op=torch.distributed.ReduceOp.MAX)
        if found.item() == _SKIPS:
            raise PeerSkipped(next(text for text in self._texts(said) if text))
        if found.item() == _NO_MEMORY:
            raise PeerOutOfMemory("out of memory in another process")
        if found.item() == _ENDED:
            texts = [text for rank, text in enumerate(self._texts(said)) if text and rank != self.rank]
            raise PeerEnded(f"another process of the training ended it ({texts[0] if texts else 'stopped'})")

    def _texts(self, text: str) -> list[str]:
        """What each process says."""
        own = text.encode()[:_SAID]
        table = torch.zeros(self.world, _SAID, dtype=torch.uint8)
        table[self.rank, : len(own)] = torch.frombuffer(bytearray(own), dtype=torch.uint8) if own else 0
        with _gone_is_ended():
            torch.distributed.all_reduce(table)
        return [bytes(row.tolist()).rstrip(b"\0").decode(errors="replace") for row in table]


def _groups(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Neighbours of one kind on one device, together of about _AT_ONCE bytes."""
    group: list[Tensor] = []
    for one in tensors:
        full = group and sum(other.nbytes for other in group) + one.nbytes > _AT_ONCE
        if group and (full or (one.dtype, one.device) != (group[0].dtype, group[0].device)):
            yield group
            group = []
        group.append(one)
    if group:
        yield group


@contextlib.contextmanager
def _gone_is_ended() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # torch has no exception of its own for a connection that was closed
        if is_out_of_memory(error):
            raise
        raise PeerEnded("another process of the training is gone") from error


@contextlib.contextmanager
def joined(device: torch.device) -> Iterator[Alone]:
    """Join the other processes that torchrun or accelerate has started, in the body; alone where there are none."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield ALONE
        return
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(device)
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield TorchDistributed(torch.distributed.get_rank(), torch.distributed.get_world_size())
    finally:
        torch.distributed.destroy_process_group()
