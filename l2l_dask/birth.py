"""When processes began: their ids are given anew, and this tells one from another."""

from __future__ import annotations

import psutil

_CLOCK_STEP = 2.0  # seconds


def started(process: psutil.Process) -> float:
    """Tell when a process started, in seconds since boot: the clock may be set, which moves the boot's own time too."""
    return process.create_time() - psutil.boot_time()


def is_same(process: psutil.Process, began: float) -> bool:
    """Tell whether it is the process that had started then."""
    return abs(started(process) - began) <= _CLOCK_STEP
