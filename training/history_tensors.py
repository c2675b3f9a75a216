"""A history as tensors and notes in JSON's types, and back."""

import math

import torch
from torch import Tensor

from .history import History, StepRecord
from .phases import Note


def _note_kinds(history: History) -> dict[str, str]:
    """Of each note, whether it is a number or indices."""
    found = {name: value for record in history.records for name, value in record.notes.items()}
    return {name: "indices" if isinstance(value, tuple) else "number" for name, value in found.items()}


def describe_history(history: History) -> dict:
    """This describes in JSON what the tensors of `pack_history` leave out: names, kinds, skipped steps, measurements."""
    skipped = {index: record.skipped for index, record in enumerate(history.records) if record.skipped}
    return {
        "losses": history.terms,
        "notes": _note_kinds(history),
        "skipped": skipped,
        "measured": history.measured,
    }


def pack_history(history: History) -> dict[str, Tensor]:
    """This packs the losses and notes of a history as columns of one value per step; NaN stands for no loss."""
    records, terms = history.records, history.terms
    losses = [[record.losses.get(term, math.nan) for term in terms] for record in records]
    tensors = {"history.losses": torch.tensor(losses, dtype=torch.float64).reshape(len(records), len(terms))}
    for name, kind in _note_kinds(history).items():
        if kind == "indices":  # as bits
            column = [sum(1 << i for i in record.notes.get(name, ())) for record in records]
            tensors[f"history.notes.{name}"] = torch.tensor(column, dtype=torch.int64)
        else:
            column = [record.notes.get(name, math.nan) for record in records]
            tensors[f"history.notes.{name}"] = torch.tensor(column, dtype=torch.float64)
    return tensors


def unpack_history(tensors: dict[str, Tensor], described: dict) -> History:
    """This rebuilds a history from its columns and its description; ValueError where the two disagree."""
    terms, kinds, skipped = described["losses"], described["notes"], described["skipped"]
    losses = tensors["history.losses"].tolist()
    columns = {name: tensors[f"history.notes.{name}"].tolist() for name in kinds}
    if any(len(column) != len(losses) for column in columns.values()):
        raise ValueError("columns of different lengths")
    records = []
    for index, row in enumerate(losses):
        notes = {name: _note(kinds[name], column[index]) for name, column in columns.items()}
        # A loss that a step did not have.
        known = {name: value for name, value in zip(terms, row, strict=True) if not math.isnan(value)}
        records.append(
            StepRecord(index + 1, known, {k: v for k, v in notes.items() if v is not None}, skipped.get(str(index)))
        )
    measured = {
        name: {int(step): float(value) for step, value in values.items()}
        for name, values in described["measured"].items()
    }
    return History(records, measured)


def _note(kind: str, value: float | int) -> Note | None:
    """None where a record had no such note."""
    if kind == "number":
        return None if math.isnan(value) else float(value)
    if value < 0:
        raise ValueError("indices that there are not")
    return tuple(i for i in range(value.bit_length()) if value >> i & 1) or None
