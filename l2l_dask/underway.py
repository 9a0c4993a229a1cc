"""What is evaluated just now: of what takes a while, workers tell that it has begun."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LONG = 1.0  # seconds: of what is shorter, the result tells soon enough


@dataclass(frozen=True)
class Underway:
    """An evaluation that has begun and not ended.

    Attributes
    ----------
    id
        The individual's.
    worker
        The name of the worker that evaluates it.
    since
        When that began, in seconds since the epoch.
    """

    id: int
    worker: str
    since: float


class Runs:
    """What runs on a worker: each future is told of once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._untold: dict[str, tuple[Sequence[int], float]] = {}

    def begin(self, key: str, ids: Sequence[int], now: float) -> None:
        with self._lock:
            self._untold[key] = ids, now

    def end(self, key: str) -> None:
        with self._lock:
            self._untold.pop(key, None)

    def news(self, now: float) -> list[tuple[str, Sequence[int], float]]:
        """Return what is to be told: key, individuals and begin of each future that has run for a while."""
        with self._lock:
            news = [(key, ids, begun) for key, (ids, begun) in self._untold.items() if now - begun >= LONG]
            for key, _, _ in news:
                del self._untold[key]
        return news


class Board:
    """What workers told of futures that have not ended: one may come later than the result that makes it void."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, list[Underway]]] = {}
        self._expected: set[str] = set()

    def expect(self, keys: Iterable[str]) -> None:
        """Know futures that were submitted."""
        with self._lock:
            self._expected.update(keys)

    def gone(self, key: str) -> None:
        """Forget a future."""
        with self._lock:
            self._expected.discard(key)
            self._known.pop(key, None)

    def hear(self, message: Mapping[str, Any]) -> None:
        """Take what a worker tells."""
        with self._lock:
            for key, ids, begun in message["begun"]:
                if key in self._expected:
                    self._known[key] = message["worker"], [Underway(id, message["name"], begun) for id in ids]

    def lost(self, worker: str) -> None:
        """Forget what ran on a worker that is gone."""
        with self._lock:
            self._known = {key: told for key, told in self._known.items() if told[0] != worker}

    def all(self) -> list[Underway]:
        with self._lock:
            return [each for _, told in self._known.values() for each in told]
