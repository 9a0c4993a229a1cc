"""How much memory a process and what it started use."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

import psutil

from l2l_dask.family import descendants


def family(pid: int) -> list[psutil.Process]:
    """List a process and its descendants, those that still run."""
    found: list[psutil.Process] = []
    for member in (pid, *descendants(pid)):
        with suppress(psutil.Error):
            found.append(psutil.Process(member))
    return found


def resident(processes: Iterable[psutil.Process]) -> int:
    """Sum up the bytes in memory: quick, but a page that several share is counted for each."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total


def proportional(processes: Iterable[psutil.Process]) -> int:
    """Sum up the bytes in memory, a shared page divided among those that share it."""
    total = 0
    for process in processes:
        with suppress(psutil.Error):
            used = process.memory_full_info()
            total += getattr(used, "pss", used.uss)
    return total
