"""What a trajectory holds, as arrays in memory, and as the sequence of events that led to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Ids, Status

OPTIMIZER, INITIAL, RETRY, FINAL = 0, 1, 2, 3  # the column ``origin``: who proposed an individual

# The columns of every store, but for ``fitness_sd``, which comes with the first spread; the others hold what the
# optimizer named.
_FACTS = ("x", "params", "fitness", "status", "asked", "told", "origin", "retry_of", "attempt", "error", "saved")
_TIMES = ("submitted", "started", "finished", "worker", "host")
CORE = frozenset((*_FACTS, *_TIMES, "fitness_sd"))


@dataclass(frozen=True, slots=True)
class Event:
    """One call of the optimizer.

    Attributes
    ----------
    number : int
    tell : bool
        An ask otherwise.
    ids : (k,) array
        The rows asked or told, ascending.
    """

    number: int
    tell: bool
    ids: Ids


@dataclass(frozen=True)
class Record:
    """The rows of a trajectory, column by column."""

    columns: Mapping[str, NDArray[Any]]

    def __len__(self) -> int:
        return len(self.columns["status"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def events(self) -> Iterator[Event]:
        """Yield the asks and tells in their order."""
        asks, tells = _groups(self["asked"]), _groups(self["told"])
        numbers = np.concatenate([asks.numbers, tells.numbers])
        order = np.argsort(numbers, kind="stable")
        starts = np.concatenate([asks.starts, tells.starts])[order].tolist()
        ends = np.concatenate([asks.ends, tells.ends])[order].tolist()
        is_tell = (order >= len(asks.numbers)).tolist()
        for number, tell, start, end in zip(numbers[order].tolist(), is_tell, starts, ends, strict=True):
            yield Event(number, tell, (tells if tell else asks).rows[start:end])

    def info(self, id: int) -> dict[str, Any]:
        """Return what the optimizer named for a row that it proposed."""
        if self["origin"][id] != OPTIMIZER:
            return {}
        return {name: values[id] for name, values in self.columns.items() if name not in CORE}

    @property
    def n_events(self) -> int:
        return int(max(self["asked"].max(initial=-1), self["told"].max(initial=-1))) + 1

    @property
    def untold(self) -> Ids:
        """The rows that have a result which the optimizer was not told."""
        return np.flatnonzero((self["status"] != Status.PENDING) & (self["told"] < 0))

    @property
    def pending(self) -> Ids:
        """The rows without a result."""
        return np.flatnonzero(self["status"] == Status.PENDING)


@dataclass(frozen=True)
class _Groups:
    """Rows with the same number: ``rows[starts[i]:ends[i]]`` have ``numbers[i]``, which ascend."""

    numbers: Ids
    rows: Ids
    starts: Ids
    ends: Ids


def _groups(numbers: NDArray[Any]) -> _Groups:
    rows = np.argsort(numbers, kind="stable")
    ordered = numbers[rows]
    rows, ordered = rows[ordered >= 0], ordered[ordered >= 0]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))
    return _Groups(ordered[starts], rows, starts, np.append(starts, len(rows))[1:])
