"""What runs just now, beside a store: no fact of the trajectory, so that it may be lost with its driver."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from l2l_dask.errors import StoreError
from l2l_dask.trajectory.layout import Layout, read_json, write_json
from l2l_dask.underway import Underway


class Live:
    """Leaves word of it for who looks on."""

    def __init__(self, layout: Layout) -> None:
        self._path = layout.underway
        self._written: list[Underway] = []
        self.remove()

    def write(self, underway: Sequence[Underway]) -> None:
        """Say what runs, if that has changed; a disk that takes it not is another's to complain of."""
        if list(underway) == self._written:
            return
        with suppress(OSError):
            write_json(self._path, {"underway": [[each.id, each.worker, each.since] for each in underway]})
            self._written = list(underway)

    def remove(self) -> None:
        with suppress(OSError):
            self._path.unlink(missing_ok=True)


def underway(store: str | os.PathLike[str]) -> list[Underway]:
    """Return what the driver of a store last said to be evaluated, of what takes more than a second.

    Where there is no driver any more, it is what ran when it died.
    """
    try:
        told = (read_json(Layout(Path(store)).underway) or {}).get("underway", ())
        return [Underway(int(id), str(worker), float(since)) for id, worker, since in told]
    except (OSError, StoreError, TypeError, ValueError):
        return []
