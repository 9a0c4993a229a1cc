"""The drivers of a service, seen from there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2l_dask.service.channel import Channel
from l2l_dask.service.place import Place
from l2l_dask.service.plan import End

_GRACE = 10.0  # seconds that drivers may take to leave


@dataclass(frozen=True)
class Ended:
    """How a driver ended."""

    name: str
    how: End
    reason: str
    progressed: bool


@dataclass
class Driver:
    """A driver's process, and what it said last.

    Attributes
    ----------
    progress
        As :mod:`l2l_dask.service.driving` sends it; empty at first.
    quota
        What it was granted.
    """

    process: subprocess.Popen[bytes]
    log: Path
    progress: Mapping[str, Any] = field(default_factory=dict)
    quota: int = 0
    first: int | None = None
    how: End = "lost"
    reason: str = ""
    channel: Channel = field(init=False)

    def hear(self, message: dict[str, Any] | None) -> None:
        """Take what the driver says, on the channel's thread."""
        if message is None:
            return
        if "demand" in message:
            self.progress = message
            self.first = message["ended"] if self.first is None else self.first
        elif "ended" in message:
            self.how, self.reason = message["ended"], message["reason"]

    @property
    def in_flight(self) -> int:
        return int(self.progress.get("in_flight", 0))


class Drivers:
    """Starts drivers, and hears of their ends.

    Parameters
    ----------
    place, epoch
        Of the service.
    """

    def __init__(self, place: Place, epoch: int) -> None:
        self._place, self._epoch = place, epoch
        self.running: dict[str, Driver] = {}

    def start(self, name: str) -> None:
        """Start the driver of an experiment."""
        ours, theirs = socket.socketpair()
        words = [str(theirs.fileno()), str(self._epoch), str(self._place.root), name]
        log = self._place.logs / f"{name}.log"
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "l2l_dask.service.driving", *words],
                cwd=self._place.root,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C is the service's business
            )
        theirs.close()
        driver = Driver(process, log)
        self.running[name] = driver
        driver.channel = Channel(ours, driver.hear)

    def grant(self, quotas: Mapping[str, int]) -> None:
        """Tell drivers how many evaluations they may have running."""
        for name, quota in quotas.items():
            driver = self.running.get(name)
            if driver is not None and driver.quota != quota:
                driver.quota = quota
                driver.channel.send({"quota": quota})

    def ended(self) -> list[Ended]:
        """Return those that ended since the last time."""
        found = []
        for name, driver in list(self.running.items()):
            code = driver.process.poll()
            if code is None:
                continue
            driver.channel.wait(1.0)
            driver.channel.close()
            del self.running[name]
            reason = driver.reason or f"its driver {_ending(code)}: {driver.log} may say why"
            progressed = driver.first is not None and driver.progress["ended"] > driver.first
            found.append(Ended(name, driver.how, reason, progressed))
        return found

    def leave(self, reason: str, *, idle_only: bool) -> None:
        """Let drivers leave, all of them or those without an evaluation under way."""
        for driver in self.running.values():
            if not (idle_only and driver.in_flight):
                driver.channel.send({"leave": reason})

    def close(self, reason: str) -> list[Ended]:
        """Let all leave, and kill those that take too long, which costs nothing that was told."""
        self.leave(reason, idle_only=False)
        ended, until = self.ended(), time.monotonic() + _GRACE
        while self.running and time.monotonic() < until:
            threading.Event().wait(0.05)
            ended += self.ended()
        for driver in self.running.values():
            with suppress(ProcessLookupError):
                os.killpg(driver.process.pid, signal.SIGKILL)
            driver.process.wait()
        return ended + self.ended()


def _ending(code: int) -> str:
    return f"was killed ({signal.Signals(-code).name})" if code < 0 else f"ended with status {code}"
