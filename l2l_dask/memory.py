"""How much memory a process and what it started use."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import psutil


def family(pid: int) -> list[psutil.Process]:
    """List a process and its descendants, those that still run.

    Linux names the children of each thread; elsewhere, and where its kernel does not, all processes are looked at.
    """
    found: list[psutil.Process] = []
    with suppress(psutil.Error):
        found.append(psutil.Process(pid))
        if not Path(f"/proc/{pid}/task/{pid}/children").exists():
            return found + found[0].children(recursive=True)
        for child in _children(pid):
            found += family(child)
    return found


def _children(pid: int) -> list[int]:
    children = []
    with suppress(OSError):  # it ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                children += [int(child) for child in (thread / "children").read_text().split()]
    return children


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
