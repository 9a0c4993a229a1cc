"""Evaluations side by side, or one by itself."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping


class Gate:
    """What evaluates on a worker passes it: any number at once, or one that has the worker for itself."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._inside = self._waiting = 0  # the latter: those that want to be alone
        self._alone = self._closed = False

    def enter(self, *, alone: bool = False) -> bool:
        """Wait until one may evaluate, and tell whether it may: it may not any more once this is closed.

        Others wait while one waits to be alone: it would never be, where they come without rest.
        """
        with self._changed:
            self._waiting += alone
            self._changed.wait_for(lambda: self._closed or self._may_enter(alone))
            self._waiting -= alone
            self._changed.notify_all()
            if self._closed:
                return False
            self._inside += 1
            self._alone = alone
            return True

    def _may_enter(self, alone: bool) -> bool:
        return self._inside == 0 if alone else not self._alone and not self._waiting

    def leave(self) -> None:
        """Let others take this one's place."""
        with self._changed:
            self._inside -= 1
            self._alone = False
            self._changed.notify_all()

    def close(self) -> None:
        """Let no other enter; who is inside is not disturbed."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Places:
    """What evaluations of several experiments use side by side."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._used: Counter[str] = Counter()

    def take(self, choices: Mapping[int, Collection[str]]) -> int:
        """Use what is used least, the first of several: return the name of that choice."""
        with self._lock:
            best = min(choices, key=lambda name: sum(self._used[place] for place in choices[name]))
            self._used.update(choices[best])
        return best

    def leave(self, places: Collection[str]) -> None:
        with self._lock:
            self._used.subtract(places)
