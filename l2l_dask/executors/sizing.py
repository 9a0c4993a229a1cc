"""How many individuals share a future, and how many futures are under way: from how long evaluations take."""

from __future__ import annotations

import math
from collections.abc import Sequence

from l2l_dask.evaluation import Candidate, Evaluation

_DEEPEST_RESERVE = 8  # futures waiting per slot, at most
_LATENCY = 0.05  # seconds of work to keep waiting at a slot
_LASTING = 0.2  # seconds that a bundle should take
_MOST = 10_000  # individuals in a bundle
_SLACK = 0.25  # a size that is not off by more stays: futures of one size leave no slivers
_WEIGHT = 0.3  # of the newest duration in the mean


class Sizing:
    """Sizes futures.

    Parameters
    ----------
    batch_size
        How many individuals the optimizee takes at once: a future holds a multiple of it.
    bundle
        Whether a future may hold more than that, so that short evaluations are worth the way to a worker.

    Attributes
    ----------
    batch_size : int
        As above.
    per_future : int
        How many individuals share a future.
    """

    def __init__(self, batch_size: int, *, bundle: bool) -> None:
        self.batch_size, self._bundle = batch_size, bundle
        self._seconds = math.nan  # of one individual
        self.per_future = batch_size

    def note(self, ended: Sequence[Evaluation]) -> None:
        """Take into account how long the individuals of one future took."""
        took = (max(e.finished for e in ended) - min(e.started for e in ended)) / len(ended)
        if math.isnan(took) or took < 0:
            return
        known = not math.isnan(self._seconds)
        self._seconds = (1 - _WEIGHT) * self._seconds + _WEIGHT * took if known else took
        if self._bundle:
            wanted = min(_LASTING / max(self._seconds, 1e-9), 2 * self.per_future, _MOST)
            size = self.batch_size * max(1, int(wanted / self.batch_size))
            if size == self.batch_size or abs(size - self.per_future) > _SLACK * self.per_future:
                self.per_future = size

    def futures(self, slots: int) -> int:
        """Tell how many futures to have under way: a reserve hides the way to the workers, none when they are long."""
        if math.isnan(self._seconds):
            return slots
        reserve = min(_DEEPEST_RESERVE, _LATENCY / max(self._seconds * self.per_future, 1e-9))
        if self.per_future > self.batch_size:
            reserve = max(1.0, reserve)
        return slots + int(slots * reserve)

    def capacity(self, slots: int) -> int:
        """Tell how many individuals to have under way."""
        return self.futures(slots) * self.per_future

    def pieces(self, candidates: Sequence[Candidate], slots: int, under_way: int) -> list[list[Candidate]]:
        """Share candidates out among futures, so that none of the slots is idle while others have several to do."""
        size = self.per_future
        if size > self.batch_size:
            free = max(1, self.futures(slots) - under_way)
            even = math.ceil(len(candidates) / free)
            size = self.batch_size * max(1, math.ceil(min(size, even) / self.batch_size))
        return [list(candidates[i : i + size]) for i in range(0, len(candidates), size)]
