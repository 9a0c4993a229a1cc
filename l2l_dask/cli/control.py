"""Telling an experiment to pause, go on or stop, whoever drives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from l2l_dask.errors import StoreError
from l2l_dask.service.entries import is_submitted
from l2l_dask.trajectory import look, send


def tell(store: Path, command: Any) -> str:
    """Send a command to who drives a store, or will.

    Returns
    -------
    What came of it, in a line.

    Raises
    ------
    StoreError
        If it does not run, and no service is to drive it.
    """
    _, state = look(store)
    if state in ("queued", "interrupted") and is_submitted(store):
        from l2l_dask.service.client import Submitted

        getattr(Submitted(store), command.partition("-")[0])()
        done = "taken out of the queue" if command.startswith("stop") else f"{command}d once its service drives it"
        return f"{store}: {done}"
    if state not in ("running", "paused"):
        raise StoreError(f"{store} is {state}, not running: there is nothing to {command.partition('-')[0]}")
    send(store, command)
    return f"{store}: told to {command.replace('-', ' ')}"
