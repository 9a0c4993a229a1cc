"""Opening a store for writing: its arrays are brought up to date from the journal, or made anew from all of it.

What was written before the newest segment of the journal was started is on the disk. Of what was written since, a power
failure may have left anything: a chunk as it was before, which folding the segment puts right, or one that is empty,
torn or zeros, which is noticed by its checksum.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import zarr

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Objectives
from l2l_dask.saving import sync
from l2l_dask.space import Space
from l2l_dask.trajectory import files
from l2l_dask.trajectory.chunks import Chunks
from l2l_dask.trajectory.columns import DamagedError, fill, quiet_zarr, reading
from l2l_dask.trajectory.facts import apply
from l2l_dask.trajectory.journal import history, newest, read, whole_bytes
from l2l_dask.trajectory.layout import Layout
from l2l_dask.trajectory.record import Record

_log = logging.getLogger(__name__)

_BATCH = 10_000  # records


@dataclass(frozen=True)
class Opened:
    """A store that is up to date.

    Attributes
    ----------
    chunks
        Its arrays.
    record
        What they hold.
    before
        Epoch, number and length of the newest segment that was started; None if there is none.
    """

    chunks: Chunks
    record: Record
    before: tuple[int, int, int] | None


def open_arrays(layout: Layout, space: Space, objectives: Objectives) -> Opened:
    """Bring the arrays up to date, and to the disk.

    Raises
    ------
    StoreError
        If they are damaged and cannot be made anew.
    """
    files.clean(layout)
    latest = newest(layout)
    before = (*latest, whole_bytes(layout.journal(*latest))) if latest else None
    try:
        if layout.rebuilding.exists():
            raise DamagedError(f"{layout.root} is damaged: its arrays were being made anew when the driver ended")
        chunks, rows = _folded(layout, space, objectives, latest)
        record = Record(chunks.read_all(rows))
    except DamagedError as error:
        chunks, rows = _rebuilt(layout, space, objectives, error)
        record = Record(chunks.read_all(rows))
    try:
        chunks.sync()
        files.sync_store(layout)
        if layout.rebuilding.exists():
            layout.rebuilding.unlink()
            sync(layout.private)
    except OSError as error:
        raise StoreError(f"{layout.root} cannot be written: {error.strerror}") from error
    return Opened(chunks, record, before)


def _folded(layout: Layout, space: Space, objectives: Objectives, latest: tuple[int, int] | None) -> tuple[Chunks, int]:
    """Fold the newest segment that was started: what older ones say is in the arrays."""
    chunks = Chunks(layout.root)
    records = read(layout.journal(*latest)) if latest else iter(())
    header: dict[str, Any] = next(records, {"rows": 0, "chunks": {}})
    labels = {"parameter": space.labels, "objective": objectives.names}
    chunks.check(labels, header["rows"], header["chunks"])
    rows = max(chunks.rows_in_use(), _apply(records, chunks, space))
    chunks.flush()
    return chunks, rows


def _rebuilt(layout: Layout, space: Space, objectives: Objectives, damage: DamagedError) -> tuple[Chunks, int]:
    """Make the arrays anew from the journal's first record on."""
    segments = history(layout)
    headers = [next(read(path)) for path, _ in segments]
    if (not headers or headers[0]["rows"]) and files.chunks_of(layout.root, ["status"]):
        raise StoreError(f"{damage}; and there is no journal to make its arrays anew from") from damage
    _log.warning("%s; its arrays are made anew from the journal", damage)
    _emptied(layout, space, objectives, max([1, *(header["rows"] for header in headers)]))
    chunks, rows = Chunks(layout.root), 0
    for path, length in segments:
        records = read(path, length)
        next(records)
        rows = max(rows, _apply(records, chunks, space))
        chunks.flush()
    return chunks, rows


def _emptied(layout: Layout, space: Space, objectives: Objectives, capacity: int) -> None:
    """Make all arrays anew, empty."""
    with reading(layout.root, remedy=""), quiet_zarr():
        group = zarr.open_group(files.Files(layout.root), mode="r+", use_consolidated=False)
        layout.rebuilding.touch()  # a driver that is killed from here on leaves arrays that are no good
        sync(layout.private)
        # Without the status no row is in use, whatever else there still is.
        arrays = [path for path in layout.root.iterdir() if (path / "zarr.json").exists() or (path / "c").exists()]
        for path in sorted(arrays, key=lambda path: path.name != "status"):
            shutil.rmtree(path)
        fill(group, space, objectives, capacity)


def _apply(records: Iterable[dict[str, Any]], chunks: Chunks, space: Space) -> int:
    rows, records = 0, iter(records)
    while batch := list(islice(records, _BATCH)):
        rows = max(rows, apply(batch, chunks, space))
    return rows
