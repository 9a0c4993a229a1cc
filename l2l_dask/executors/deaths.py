"""Whose fault the loss of a worker is; decisions alone, no I/O and no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from l2l_dask.underway import Board
from l2l_dask.walltime import LEAVING


class Ends:
    """When workers come to the ends of their jobs, all by the scheduler's clock."""

    def __init__(self) -> None:
        self._ends: dict[str, float] = {}

    def told(self, worker: str, now: float, left: float) -> None:
        """Take a worker's word for how long the batch system lets it live."""
        self._ends[worker] = now + left

    def lost(self, worker: str, now: float) -> bool:
        """Forget a worker that was lost, and tell whether its time was over: then nobody is to blame."""
        return now >= self._ends.pop(worker, float("inf")) - LEAVING


@dataclass(frozen=True)
class Verdict:
    """What is to become of those that a worker was lost with.

    Attributes
    ----------
    apart
        By the key of a future: its individuals, shared out among futures that are to have a worker for themselves.
    condemned
        By the key of a future whose individual is set aside: the workers that were lost with it.
    """

    apart: Mapping[str, list[Sequence[int]]] = field(default_factory=dict)
    condemned: Mapping[str, Sequence[str]] = field(default_factory=dict)


class Suspects:
    """Counts for each individual how many workers were lost while they evaluated it.

    Its neighbours may be innocent, and so may it be itself: the losses of one that shared its workers prove nothing. So
    it is first evaluated again as any other; then, when one more would be too many, on a worker that it has for itself
    meanwhile. Only what is lost with such a worker is set aside.

    Parameters
    ----------
    most
        So many losses are too many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._losses: dict[int, list[str]] = {}
        self._apart: set[str] = set()

    def put_apart(self, keys: Iterable[str]) -> None:
        """Know futures that are to have a worker for themselves."""
        self._apart.update(keys)

    def is_apart(self, key: str) -> bool:
        """Tell whether a future is to have a worker for itself."""
        return key in self._apart

    def gone(self, key: str) -> None:
        """Forget a future."""
        self._apart.discard(key)

    def ended(self, ids: Iterable[int]) -> None:
        """Forget individuals that have ended."""
        for id in ids:
            self._losses.pop(id, None)

    def lost(self, worker: str, processed: Mapping[str, Sequence[int]], others: int, alone: str | None) -> Verdict:
        """Decide on the loss of a worker.

        Parameters
        ----------
        processed
            Our futures that were with it, by their keys: the individuals in each, in the order of evaluation.
        others
            How many futures of other experiments were.
        alone
            The key of the future for which it said that nothing else ran there.
        """
        if alone not in processed:
            alone = next(iter(processed)) if len(processed) == 1 and not others else None
        suspects = processed if alone is None else {alone: processed[alone]}
        apart, condemned = {}, {}
        for key, ids in suspects.items():
            for id in ids:
                self._losses.setdefault(id, []).append(worker)
            most = max(len(self._losses[id]) for id in ids)
            if alone is not None and len(ids) > 1:
                apart[key] = [ids[: len(ids) // 2], ids[len(ids) // 2 :]]
            elif alone is not None and most >= self._most:
                condemned[key] = self._losses[ids[0]]
            elif most >= self._most - 1 and key not in self._apart:
                apart[key] = [ids]
        return Verdict(apart, condemned)


class Accounts:
    """Keeps account of what is heard of workers and their losses.

    Parameters
    ----------
    most
        So many losses of workers are too many for an individual.

    Attributes
    ----------
    suspects : Suspects
    underway : Board
    """

    def __init__(self, most: int) -> None:
        self.suspects, self.underway = Suspects(most), Board()
        self._ends = Ends()
        self._alone: dict[str, str] = {}

    def hear(self, now: float, message: Mapping[str, Any]) -> None:
        """Take what a worker tells: how long it is left, what it has begun, what it evaluates alone."""
        if "begun" in message:
            self.underway.hear(message)
        if "left" in message:
            self._ends.told(message["worker"], now, message["left"])
        if "alone" in message:
            self._alone[message["worker"]] = message["alone"]

    def gone(self, key: str) -> None:
        """Forget a future."""
        self.suspects.gone(key)
        self.underway.gone(key)

    def lost(self, now: float, message: Mapping[str, Any], ours: Mapping[str, Sequence[int]]) -> Verdict:
        """Decide on the loss of a worker.

        Parameters
        ----------
        now
            By the scheduler's clock.
        message
            The scheduler's word of it.
        ours
            Those of our futures that were with it, by their keys: the individuals in each.
        """
        worker = message["worker"]
        self.underway.lost(worker)
        alone = self._alone.pop(worker, None)
        if self._ends.lost(worker, now) or message["expected"]:
            return Verdict()
        return self.suspects.lost(worker, ours, len(message["processing-tasks"]) - len(ours), alone)
