"""What a trajectory holds, as arrays in memory, and as the sequence of events that led to it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Ids, Status
from l2l_dask.reports import Point

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
        An ask otherwise, or an observation if there are reports.
    ids : (k,) array
        The rows asked, told or reported, ascending.
    reports
        In an observation, the points of learning curves that the optimizer looked at, by row.
    stop
        The rows that it then wanted to be stopped, ascending.
    """

    number: int
    tell: bool
    ids: Ids
    reports: Mapping[int, list[Point]] | None = None
    stop: tuple[int, ...] = ()


@dataclass(frozen=True)
class Record:
    """The rows of a trajectory, column by column.

    Attributes
    ----------
    columns
        By name.
    observed
        Where an optimizer looks at learning curves, the journal's records of that, for who goes on with the search:
        they are not in the arrays, and so a mere reader has none.
    """

    columns: Mapping[str, NDArray[Any]]
    observed: Sequence[bytes] = ()

    def __len__(self) -> int:
        return len(self.columns["status"])

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self.columns[name]

    def events(self) -> Iterator[Event]:
        """Yield the asks, tells and observations in their order."""
        return heapq.merge(self._asks_and_tells(), self.observations(), key=lambda event: event.number)

    def observations(self) -> Iterator[Event]:
        """Yield what was reported while evaluations ran, and what the optimizer decided on it, in their order."""
        for payload in self.observed:
            fact = msgpack.unpackb(payload)
            points = np.frombuffer(fact["points"], dtype="<f8").reshape(-1, 2).tolist()
            reports, at = {}, 0
            for id, n in zip(fact["ids"], fact.get("counts") or [1] * len(points), strict=True):
                reports[id] = [(step, value) for step, value in points[at : at + n]]
                at += n
            yield Event(fact["event"], False, np.array(fact["ids"]), reports, tuple(fact.get("stop", ())))

    def _asks_and_tells(self) -> Iterator[Event]:
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
        observed = msgpack.unpackb(self.observed[-1])["event"] if self.observed else -1
        return int(max(self["asked"].max(initial=-1), self["told"].max(initial=-1), observed)) + 1

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
