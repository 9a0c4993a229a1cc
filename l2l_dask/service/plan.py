"""What a service does next: decisions alone, without clock or I/O."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

End: TypeAlias = Literal["ended", "refused", "lost", "left", "locked"]

_FIRST_DELAY, _LONGEST_DELAY = 1.0, 60.0
_TRIES = 6  # of a driver that gets nowhere
_SHORT_LIFE = 60.0
_SHORT_LIVES = 3


@dataclass
class _Tries:
    failures: int = 0
    not_before: float = -math.inf


@dataclass
class Rota:
    """Says whose driver is started, and when again after it failed.

    Attributes
    ----------
    at_once
        How many drivers may run.
    given_up : dict
        Why experiments are not driven any more, by name.
    """

    at_once: int
    given_up: dict[str, str] = field(default_factory=dict)
    _tries: dict[str, _Tries] = field(default_factory=dict)

    def start(self, submitted: Mapping[str, float], running: int, now: float) -> list[str]:
        """Say which of those that wait for a driver get one now, by when they were: first come, first served."""
        ready = [
            name
            for name in sorted(submitted, key=lambda name: (submitted[name], name))
            if name not in self.given_up and now >= self._tries.get(name, _Tries()).not_before
        ]
        return ready[: max(0, self.at_once - running)]

    def ended(self, name: str, how: End, reason: str, *, progressed: bool, now: float) -> None:
        """Note how a driver ended.

        Parameters
        ----------
        how
            ``"ended"``: its experiment did; ``"left"``: it was told to; ``"locked"``: another one is at work;
            ``"refused"``: the experiment cannot go on as it is; ``"lost"``: anything else, a kill included.
        progressed
            Whether evaluations ended meanwhile: then it starts with a clean sheet.
        """
        tries = self._tries.setdefault(name, _Tries())
        if how == "refused":
            self.given_up[name] = reason
        if how in ("ended", "left") or progressed:
            tries.failures = 0
        if how == "lost":
            tries.failures += 1
            if tries.failures >= _TRIES:
                self.given_up[name] = f"its driver ended {tries.failures} times without progress: {reason}"
        if how in ("lost", "locked"):
            tries.not_before = now + min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** max(0, tries.failures - 1))

    def forgive(self, name: str) -> None:
        """Begin anew with an experiment that was submitted again."""
        self.given_up.pop(name, None)
        self._tries.pop(name, None)


@dataclass
class Scale:
    """Says how many worker jobs to have: up at once, down only when so many were not needed for a while.

    Attributes
    ----------
    fewest, most
        The bounds.
    slots
        Of a job.
    idle
        Seconds that a job may be of no use.
    """

    fewest: int
    most: int
    slots: int
    idle: float
    _wanted: deque[tuple[float, int]] = field(default_factory=deque)

    def jobs(self, slots: float, now: float) -> int:
        """Decide, for as many slots as could be used now."""
        needed = min(self.most, max(self.fewest, math.ceil(slots / self.slots)))
        while self._wanted and self._wanted[-1][1] <= needed:
            self._wanted.pop()
        self._wanted.append((now, needed))
        while self._wanted[0][0] < now - self.idle:
            self._wanted.popleft()
        return self._wanted[0][1]


def margin(walltime: float) -> float:
    """Say how long before its walltime a service starts to leave: evaluations that run may end meanwhile."""
    return min(60.0, max(20.0, 0.05 * walltime))


def is_worth_following(lives: list[float]) -> bool:
    """Tell whether a successor makes sense: not where one start after the other ended at once.

    Parameters
    ----------
    lives
        Seconds that the predecessors lived, the latest last.
    """
    return len(lives) < _SHORT_LIVES or any(life > _SHORT_LIFE for life in lives[-_SHORT_LIVES:])
