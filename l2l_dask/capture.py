"""Keeping off the terminal what an evaluation prints in this very process, be it from Python or from C++ below it."""

from __future__ import annotations

import ctypes
import fcntl
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

_C = ctypes.CDLL(None)
_TAIL = 4000  # bytes kept of what a failed evaluation printed


class Capture:
    """Takes what is printed within its block, by the main thread's evaluations and whatever they start.

    On another thread nothing is taken: what the main thread prints meanwhile is its user's own. ``breakpoint()`` gives
    the terminal back for the rest of the block, so that a debugger can be talked to.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("w+b", buffering=0)  # noqa: SIM115
        fcntl.fcntl(self._file, fcntl.F_SETFL, fcntl.fcntl(self._file, fcntl.F_GETFL) | os.O_APPEND)
        self._streams: list[TextIO] = []
        self._kept: tuple[int, int, Any, Any, Any] | None = None

    @contextmanager
    def __call__(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._file.truncate(0)
        self._take()
        try:
            yield
        finally:
            self._give_back()

    def tail(self) -> str:
        """Quote the end of what was printed in the last block, as an evaluation's error does."""
        size = os.fstat(self._file.fileno()).st_size
        self._file.seek(max(0, size - _TAIL))
        printed = self._file.read().decode(errors="replace").strip("\n")
        return f"\nprinted:\n{printed}" if printed else ""

    def close(self) -> None:
        self._file.close()

    def _take(self) -> None:
        _flush()
        self._kept = os.dup(1), os.dup(2), sys.stdout, sys.stderr, sys.breakpointhook
        for descriptor in (1, 2):
            os.dup2(self._file.fileno(), descriptor)
        if not self._streams:  # who keeps one of them, a logger perhaps, goes on to print wherever 1 and 2 lead
            self._streams = [open(n, "w", buffering=1, errors="replace", closefd=False) for n in (1, 2)]  # noqa: SIM115
        sys.stdout, sys.stderr = self._streams
        sys.breakpointhook = self._debug

    def _give_back(self) -> None:
        if self._kept is None:
            return
        _flush()
        *descriptors, sys.stdout, sys.stderr, sys.breakpointhook = self._kept
        self._kept = None
        for original, descriptor in zip(descriptors, (1, 2), strict=True):
            os.dup2(original, descriptor)
            os.close(original)

    def _debug(self, *arguments: Any, **options: Any) -> Any:
        self._give_back()
        return sys.breakpointhook(*arguments, **options)


def _flush() -> None:
    """Flush Python's streams and C's: what they still hold belongs to whom the descriptors point to now."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # none, closed, or its window is
            stream.flush()
    _C.fflush(None)
