"""All that a process started, whatever sessions of their own they are in."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

_ROUNDS = 50
_LOOK = 0.02  # seconds
GRACE = 1.0  # seconds that what an evaluation started has to end by itself


def descendants(pid: int) -> list[int]:
    """List the processes that a process and its descendants started, those that still run.

    Linux names the children of each thread; elsewhere, and where its kernel does not, all processes are looked at.
    """
    if not Path(f"/proc/{pid}/task/{pid}/children").exists():
        return _looked_up(pid)
    found: list[int] = []
    for child in _children(pid):
        found += [child, *descendants(child)]
    return found


def _children(pid: int) -> list[int]:
    children = []
    with suppress(OSError):  # it ended
        for thread in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                children += [int(child) for child in (thread / "children").read_text().split()]
    return children


def _looked_up(pid: int) -> list[int]:
    import psutil

    with suppress(psutil.Error):
        return [child.pid for child in psutil.Process(pid).children(recursive=True)]
    return []


def ask(pid: int, patience: float) -> None:
    """Let what a guard's evaluation started end by itself: SIGTERM, and some time to obey it.

    A launcher (``srun``, ``mpirun``) ends with that what it started elsewhere, of which nothing can be known here.

    Parameters
    ----------
    pid
        The guard: its first child is what evaluates, and is not asked.
    patience
        Seconds to wait until they are gone.
    """
    evaluates, asked = _children(pid)[:1], set[int]()
    until = time.monotonic() + patience
    if any(found not in evaluates for found in descendants(pid)):
        for found in evaluates:  # it must not take their end for an answer, and start what comes next
            with suppress(ProcessLookupError, PermissionError):
                os.kill(found, signal.SIGSTOP)
    while left := [found for found in descendants(pid) if found not in evaluates and _runs(found)]:
        for found in set(left) - asked:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(found, signal.SIGTERM)
        asked.update(left)
        if time.monotonic() > until:
            return
        time.sleep(_LOOK)


def _runs(pid: int) -> bool:
    """Tell whether a process is more than a zombie, as far as is known."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def end(pid: int, spare: Collection[int] = ()) -> None:
    """Kill all descendants of a process, also what they start meanwhile.

    What is orphaned stays in the family if ``pid`` is the process that the kernel gives orphans to.
    """
    killed, quiet = set(spare), 0
    for _ in range(_ROUNDS):
        new = [found for found in descendants(pid) if found not in killed]
        for found in new:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(found, signal.SIGKILL)
        killed.update(new)
        quiet = 0 if new else quiet + 1
        if quiet == 2:  # one that changes its parent while it is looked for can be overlooked once
            return
