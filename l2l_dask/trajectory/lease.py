"""One writer: the lease of a store.

The holder rewrites ``lease.json`` with a growing beat. Whoever wants the store must have seen the same beat for
:data:`PATIENCE` seconds of its own monotonic clock, or know that the holder's process on this very machine is gone;
then it claims the next epoch by creating that epoch's journal, which only one process can. Clocks of machines are
never compared.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil

from l2l_dask.birth import is_same, started
from l2l_dask.errors import LockedError, StoreError
from l2l_dask.trajectory.journal import claim
from l2l_dask.trajectory.layout import Layout, read_lease, write_json

_log = logging.getLogger(__name__)

BEAT = 2.0
PATIENCE = 75.0  # of holders on other machines: longer than an NFS client may keep a folder's old content
_CLAIM_PATIENCE = 3.0


@cache
def _machine() -> str:
    """Name this machine's present boot and process namespace: process ids mean nothing outside."""
    name = socket.gethostname()
    with suppress(OSError):
        name += " " + Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        name += " " + os.readlink("/proc/self/ns/pid")
    return name


def me() -> dict[str, Any]:
    """Name this process, so that :func:`holder_is_gone` can tell later whether it lives."""
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": os.getpid(),
        "started": started(psutil.Process()),
    }


def holder_is_gone(lease: dict[str, Any]) -> bool | None:
    """Tell whether a lease's holder has ended; None if that cannot be known from here."""
    if lease.get("released"):
        return True
    if lease["machine"] != _machine():
        return None
    try:
        process = psutil.Process(lease["pid"])
        return not is_same(process, lease["started"]) or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def release_of_the_dead(stores: Iterable[Path], machine: str) -> None:
    """Release leases of drivers on another machine that is known to be gone: nobody need wait for them any more.

    Parameters
    ----------
    machine
        As :func:`me` names it. A lease that is kept alive nevertheless is left alone.
    """
    if machine == _machine():
        return  # whether they live is seen right away
    held = []
    for store in stores:
        layout = Layout(store)
        lease = read_lease(layout)
        if lease is not None and not lease.get("released") and lease["machine"] == machine:
            held.append((layout, lease))
    if held:
        time.sleep(2.5 * BEAT)
    for layout, lease in held:
        if read_lease(layout) == lease:
            write_json(layout.lease, {**lease, "released": True})


class Lease:
    """The right to write a store, kept alive by a thread until :meth:`release`.

    Attributes
    ----------
    epoch : int
        Grows with every holder.
    """

    def __init__(self, layout: Layout, epoch: int) -> None:
        self.epoch = epoch
        self._layout = layout
        self._content = {"epoch": epoch, "beat": 0, "released": False, **me()}
        self._lost = False
        self._over = threading.Event()
        self._check_claims()
        write_json(layout.lease, self._content, durable=True)
        self._thread = threading.Thread(target=self._keep, name="l2l-lease", daemon=True)
        self._thread.start()

    def _keep(self) -> None:
        while not self._over.wait(BEAT):
            try:
                self.check()
                self._content["beat"] += 1
                write_json(self._layout.lease, self._content)
            except LockedError:
                return
            except (OSError, StoreError):
                continue  # a file system that comes back; the driver's own writes say so if it does not

    def check(self) -> None:
        """Make sure that the store is still ours.

        Raises
        ------
        LockedError
            If another driver took it over.
        StoreError
            If it is not there any more, or that cannot be known.
        """
        try:
            lease = read_lease(self._layout)
            if lease is None:
                raise StoreError(f"{self._layout.root} is gone: somebody moved or removed it")
            self._lost |= lease["epoch"] > self.epoch
            self._check_claims()
            if lease["epoch"] < self.epoch:  # written late, by one whom this one replaced
                write_json(self._layout.lease, self._content)
        except OSError as error:
            raise StoreError(f"{self._layout.lease} cannot be read or written: {error.strerror}") from error

    def _check_claims(self) -> None:
        if self._lost or max(self._layout.epochs(), default=0) > self.epoch:
            self._lost = True
            raise LockedError(
                f"{self._layout.root} was taken over by another driver: this one stops; nothing told is lost"
            )

    def release(self) -> None:
        """Give the store back, once: after that it may be another's."""
        if self._over.is_set():
            return
        self._over.set()
        self._thread.join()
        with suppress(LockedError, OSError, StoreError):
            self.check()
            write_json(self._layout.lease, {**self._content, "released": True})


def acquire(layout: Layout, *, patience: float = PATIENCE) -> Lease:
    """Become the one writer of a store.

    Raises
    ------
    LockedError
        If another driver is alive.
    StoreError
        If the store cannot be written.
    """
    try:
        while True:
            lease = read_lease(layout)
            if lease is not None:
                _wait_for(layout, lease, patience)
            held = lease["epoch"] if lease else 0
            epoch = max([held, *layout.epochs()]) + 1
            if epoch > held + 1 and _somebody_claims(layout, held):
                continue
            if claim(layout.journal(epoch)):
                return Lease(layout, epoch)
    except OSError as error:
        raise StoreError(f"{layout.root} cannot be written: {error.strerror}; check its permissions") from error


def _wait_for(layout: Layout, lease: dict[str, Any], patience: float) -> None:
    """Return once the holder is known, or seen, to be gone."""
    gone = holder_is_gone(lease)
    if gone is None:
        _log.warning("%s: waiting %g s to see whether its driver on %s is alive", layout.root, patience, lease["host"])
        until = time.monotonic() + patience
        while time.monotonic() < until:
            time.sleep(min(0.5, patience))
            seen = read_lease(layout) or lease
            if seen.get("released"):
                return
            gone = (seen["epoch"], seen["beat"]) == (lease["epoch"], lease["beat"])
            if not gone:
                break
    if not gone:
        raise LockedError(
            f"{layout.root} is being written by process {lease['pid']} on {lease['host']}: "
            "stop that first (l2l stop), or wait until it ends"
        )


def _somebody_claims(layout: Layout, held: int) -> bool:
    """Give a driver that claimed an epoch the time to write its lease, in case it did not die in between."""
    until = time.monotonic() + _CLAIM_PATIENCE
    while time.monotonic() < until:
        if (read_lease(layout) or {}).get("epoch", 0) != held:
            return True
        time.sleep(0.1)
    return False
