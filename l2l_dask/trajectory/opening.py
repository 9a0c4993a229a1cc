"""Opening a store for writing: its arrays are brought up to date from the journal, or made anew from all of it.

What was written before the newest segment of the journal was started is on the disk. Of what was written since, a power
failure may have left anything: a chunk as it was before, which folding the segment puts right, or one that is empty,
torn or zeros, which is noticed by its checksum.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Objectives
from l2l_dask.saving import sync
from l2l_dask.space import Space
from l2l_dask.trajectory import files
from l2l_dask.trajectory.chunks import Chunks
from l2l_dask.trajectory.columns import DamagedError, fill, quiet_zarr, reading, rows_in_use
from l2l_dask.trajectory.facts import Fact, apply
from l2l_dask.trajectory.journal import goes_on, history, newest, payloads, read, whole_bytes
from l2l_dask.trajectory.layout import Layout
from l2l_dask.trajectory.record import Record

_log = logging.getLogger(__name__)

_BATCH = 10_000  # records


@dataclass
class _Reach:
    """How far records, or arrays, lead: so many rows, events up to a number, and so many observations."""

    rows: int = 0
    event: int = -1
    observed: int = 0

    def beyond(self, other: _Reach) -> bool:
        return self.rows > other.rows or self.event > other.event

    def follow(self, records: Iterable[Fact], dim: int) -> Iterator[Fact]:
        """Pass records on, and see how far they lead."""
        for record in records:
            if record["kind"] == "ask":
                self.rows = max(self.rows, record["first"] + len(record["x"]) // (8 * dim))
            self.event = max(self.event, record.get("event", -1))
            self.observed += record["kind"] == "observe"
            yield record


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


class _Opening:
    """What is done once, by a driver that has the store's lease; ``check`` says if that was lost."""

    def __init__(self, layout: Layout, space: Space, objectives: Objectives, check: Callable[[], None]) -> None:
        self.layout, self.space, self.objectives, self.check = layout, space, objectives, check
        latest = newest(layout)
        self.before = (*latest, whole_bytes(layout.journal(*latest))) if latest else None

    def run(self) -> Opened:
        try:
            if self.layout.rebuilding.exists():
                raise DamagedError(
                    f"{self.layout.root} is damaged: its arrays were being made anew when the driver ended"
                )
            chunks, reach = self._folded()
            record = Record(chunks.read_all(chunks.rows_in_use()))
        except DamagedError as error:
            chunks, reach = self._rebuilt(error)
            record = Record(chunks.read_all(reach.rows))
        chunks.sync()
        files.sync_store(self.layout)
        if self.layout.rebuilding.exists():
            self.check()
            self.layout.rebuilding.unlink()
            sync(self.layout.private)
        if reach.observed:
            record = replace(record, observed=self._observations(reach.observed))
        self._remark(record, reach)
        return Opened(chunks, record, self.before)

    def _observations(self, n: int) -> list[bytes]:
        """Gather what the optimizer saw of learning curves from all of the journal; the arrays do not have it."""
        found: list[bytes] = []
        try:
            for path, length in history(self.layout):
                found += payloads(path, length, "observe")
        except StoreError as error:
            _log.warning("%s", error)
        if len(found) < n:
            _log.warning(
                "%s is damaged: %d of %d looks at learning curves are lost", self.layout.root, n - len(found), n
            )
        return found

    def _folded(self) -> tuple[Chunks, _Reach]:
        """Fold the newest segment that was started, as far as it counts: what older ones say is in the arrays."""
        chunks = Chunks(self.layout.root, self.check)
        records = read(self.layout.journal(*self.before[:2]), self.before[2]) if self.before else iter(())
        header: dict[str, Any] = next(records, {"rows": 0, "chunks": {}})
        labels = {"parameter": self.space.labels, "objective": self.objectives.names}
        chunks.check(labels, header["rows"], header["chunks"])
        chunks.even()
        reach = _Reach(header["rows"], observed=header.get("observed", 0))
        _apply(reach.follow(records, self.space.dim), chunks, self.space)
        chunks.flush()
        return chunks, reach

    def _rebuilt(self, damage: DamagedError) -> tuple[Chunks, _Reach]:
        """Make the arrays anew from the journal's first record on, if that has all that they had."""
        segments = history(self.layout)
        if not segments and files.chunks_of(self.layout.root, ["status"]):
            raise StoreError(f"{damage}; and there is no journal to make its arrays anew from") from damage
        reach = self._reproducible(segments, damage)
        _log.warning("%s; its arrays are made anew from the journal", damage)
        _emptied(self.layout, self.space, self.objectives, max(1, reach.rows), self.check)
        chunks = Chunks(self.layout.root, self.check)
        for path, length in segments:
            _apply(islice(read(path, length), 1, None), chunks, self.space)
            chunks.flush()
        if chunks.rows_in_use() != reach.rows:
            raise StoreError(f"{self.layout.root} is damaged: its journal has {reach.rows} rows, the arrays have not")
        return chunks, reach

    def _reproducible(self, segments: list[tuple[Path, int]], damage: DamagedError) -> _Reach:
        """Make sure, before anything is removed, that the journal says how every row came about."""
        reach = _Reach()
        for path, length in segments:
            records = read(path, length)
            if next(records)["rows"] > reach.rows or not _gapless(records, reach, self.space.dim):
                raise StoreError(
                    f"{damage}; and its journal cannot make its arrays anew: up to {path} it does not say "
                    f"how row {reach.rows} was asked for"
                ) from damage
        if _held(self.layout).beyond(reach):
            raise StoreError(
                f"{damage}; and its journal cannot make its arrays anew: it says less than can still be read of them"
            ) from damage
        return reach

    def _remark(self, record: Record, reach: _Reach) -> None:
        """Say so if the newest segment was damaged, and not just torn off by a crash."""
        if self.before is None:
            return
        path, length = self.layout.journal(*self.before[:2]), self.before[2]
        held = _Reach(len(record), record.n_events - 1 if reach.event >= 0 else -1)
        if held.beyond(reach) or goes_on(path, length):
            _log.warning(
                "%s is damaged after %d bytes: what it says from there on is lost, but for what the arrays have; "
                "these cannot be made anew from it",
                path,
                length,
            )


def open_arrays(layout: Layout, space: Space, objectives: Objectives, check: Callable[[], None]) -> Opened:
    """Bring the arrays up to date, and to the disk.

    Parameters
    ----------
    check
        Called before anything is changed: raises an error if the store is no longer ours.

    Raises
    ------
    StoreError
        If they are damaged and cannot be made anew, or the disk fails.
    LockedError
        If the store was taken over.
    """
    with _on_disk(layout):
        check()
        files.clean(layout)
        return _Opening(layout, space, objectives, check).run()


@contextmanager
def _on_disk(layout: Layout) -> Iterator[None]:
    """Turn what the disk refuses into one line."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error.filename or layout.root} cannot be read or written: {error.strerror}") from error


def _gapless(records: Iterable[Fact], reach: _Reach, dim: int) -> bool:
    """Follow records as long as each speaks of rows that were asked for before, or asks for the next."""
    for record in records:
        kind = record["kind"]
        first = record["first"] if kind == "ask" else max(record["id" if kind == "results" else "ids"], default=-1) + 1
        if first > reach.rows:
            return False
        for _ in reach.follow([record], dim):
            pass
    return True


def _held(layout: Layout) -> _Reach:
    """See how far the arrays lead, as far as they can be read: never beyond a journal that is whole."""
    held = _Reach()
    for name in ("status", "asked", "told"):
        with suppress(StoreError), reading(layout.root), quiet_zarr():
            array: Any = zarr.open_group(layout.root, mode="r", use_consolidated=False)[name]
            values = np.asarray(array[:])
            if name == "status":
                held.rows = rows_in_use(values)
            else:
                held.event = max(held.event, int(values.max(initial=-1)))
    return held


def _emptied(layout: Layout, space: Space, objectives: Objectives, capacity: int, check: Callable[[], None]) -> None:
    """Make all arrays anew, empty."""
    check()
    with reading(layout.root, remedy=""), quiet_zarr():
        group = zarr.open_group(files.Files(layout.root), mode="r+", use_consolidated=False)
        layout.rebuilding.touch()  # a driver that is killed from here on leaves arrays that are no good
        sync(layout.private)
        # Without the status no row is in use, whatever else there still is.
        arrays = [path for path in layout.root.iterdir() if (path / "zarr.json").exists() or (path / "c").exists()]
        for path in sorted(arrays, key=lambda path: path.name != "status"):
            check()
            shutil.rmtree(path)
        check()
        fill(group, space, objectives, capacity)


def _apply(records: Iterable[Fact], chunks: Chunks, space: Space) -> None:
    records = iter(records)
    while batch := list(islice(records, _BATCH)):
        apply(batch, chunks, space)
