"""Work on a thread of its own that cannot keep the interpreter from ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeAlias

_Task: TypeAlias = tuple[Callable[[], Any], Future[Any]]


class Aside:
    """One thread that does one thing after the other.

    Unlike those of :class:`concurrent.futures.ThreadPoolExecutor` it is not waited for when the program ends.
    """

    def __init__(self, name: str) -> None:
        self._tasks: SimpleQueue[_Task | None] = SimpleQueue()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while (task := self._tasks.get()) is not None:
            function, future = task
            try:
                future.set_result(function())
            except BaseException as error:
                future.set_exception(error)

    def do(self, function: Callable[[], Any]) -> Future[Any]:
        """Do this after what was given before."""
        future: Future[Any] = Future()
        self._tasks.put((function, future))
        return future

    def end(self) -> None:
        """Let the thread end after what it does."""
        self._tasks.put(None)
