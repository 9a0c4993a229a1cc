"""Following a store while it is written: its columns are kept in memory, and what changed of them is read anew.

Chunks are files that are replaced whole: one whose inode, time and size are as before holds what it held before. So an
update looks at the files of all chunks and reads those that changed, ``status`` first, as :func:`.load` does; and where
none of the folders changed that they are in, it does not even look at them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import UNUSED, Ids, Objectives, Status
from l2l_dask.space import Space
from l2l_dask.trajectory.columns import LABELS, quiet_zarr, reading, rows_in_use
from l2l_dask.trajectory.layout import Layout, State, open_layout
from l2l_dask.trajectory.reader import UNTOLD_FILL, Trajectory, standing, which
from l2l_dask.trajectory.record import Record

# A file that changed so short a time ago may change again with its time the same: nanoseconds.
_TICK = 50_000_000
_SKEW = 2_000_000_000  # of a folder, which keeps its inode, and which another machine's clock may have dated
_SLACK = 4  # a part of so many more rows than are in use is made room for

_Stamp: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Change:
    """What an update changed.

    Attributes
    ----------
    version
        Grows with each change, of rows or of the state.
    first
        Rows from this one on are new; 0 where the store was read from scratch.
    ids
        The older rows that changed, ascending.
    """

    version: int
    first: int
    ids: Ids


@dataclass(frozen=True)
class _Opened:
    """A store's metadata, as its file was at one time."""

    stamp: _Stamp
    layout: Layout
    uuid: str
    experiment: Mapping[str, Any]
    space: Space
    objectives: Objectives
    arrays: Mapping[str, zarr.Array[Any]]


@dataclass
class _Column:
    """What was read of an array, at least the rows in use; and the stamps of its chunks' files then."""

    array: zarr.Array[Any]
    values: NDArray[Any]
    stamps: list[_Stamp]


@dataclass(frozen=True)
class _Read:
    """What an update read of an array: parts from rows on, or one that has all if it is ``whole``."""

    array: zarr.Array[Any]
    stamps: list[_Stamp]
    parts: list[tuple[int, NDArray[Any]]]
    whole: bool


@dataclass(frozen=True)
class News:
    """What :meth:`Following.read` found, for :meth:`Following.apply`: no ``reads`` where no folder changed."""

    opened: _Opened
    state: State
    details: Mapping[str, Any]
    folders: tuple[_Stamp, ...]
    rows: int
    reads: Mapping[str, _Read]
    afresh: bool


class Following:
    """Keeps a store's columns in memory, and renews them by what changed.

    Parameters
    ----------
    store
        It need not exist yet.
    without
        Columns that are not wanted.

    Attributes
    ----------
    version : int
        That of the last change; 0 before the first.
    """

    def __init__(self, store: str | os.PathLike[str], *, without: Collection[str] = ()) -> None:
        self._store, self._without = store, frozenset(without)
        self._opened: _Opened | None = None
        self._columns: dict[str, _Column] = {}
        self._folders: tuple[_Stamp, ...] = ()
        self._trajectory: Trajectory | None = None
        self.version = 0

    @property
    def trajectory(self) -> Trajectory:
        """The store as of the last update, as :func:`.load` gives it, but for arrays that cannot be written.

        An update changes the rows of earlier ones too: they share the arrays.

        Raises
        ------
        StoreError
            If it was never read.
        """
        if self._trajectory is None:
            raise StoreError(f"{self._store} has not been read yet")
        return self._trajectory

    def update(self) -> Change:
        """Read what changed.

        Raises
        ------
        StoreError
            If there is no such store, or it is damaged or of another version; what was read of it before stays.
        """
        return self.apply(self.read())

    def read(self) -> News:
        """Read what changed without showing it yet: slow where there is much, and fit for another thread.

        Raises
        ------
        StoreError
            As :meth:`update`.
        """
        while True:
            opened = self._open()
            with reading(opened.layout.root):
                before = which(opened.layout)
                rows, reads, folders, afresh = self._look(opened)
                if which(opened.layout) != before:
                    continue  # its arrays were made anew, or longer
            return News(opened, *standing(opened.layout), folders, rows, reads, afresh)

    def apply(self, news: News) -> Change:
        """Show what was read: quick, and to be done where nobody is looking at the arrays."""
        held = self._trajectory
        first = len(held) if held is not None and not news.afresh else 0
        changed = [np.empty(0, dtype=np.int64)]
        if news.afresh:
            self._columns = {}
        for name, read in news.reads.items():
            changed.append(_apply(self._columns, name, read, first))
        ids = np.unique(np.concatenate(changed))
        self._opened, self._folders = news.opened, news.folders
        views = {name: column.values[: news.rows] for name, column in self._columns.items()}
        for view in views.values():
            view.flags.writeable = False
        o = news.opened
        shown = Trajectory(o.layout, o.experiment, o.space, o.objectives, Record(views), news.state, news.details)
        if held is None or news.afresh or len(ids) or _told(shown) != _told(held):
            self.version += 1
            self._trajectory = shown
        return Change(self.version, first, ids)

    def _open(self) -> _Opened:
        """Read the store's metadata, if their file changed."""
        layout = Layout(Path(self._store).absolute())
        stamp = _stamp(layout.metadata)
        if self._opened is not None and stamp == self._opened.stamp and stamp:
            return self._opened
        layout, described = open_layout(self._store)
        with reading(layout.root), quiet_zarr():
            experiment = described["experiment"]
            space, objectives = Space.from_dict(experiment["space"]), Objectives(experiment["objectives"])
            unwanted = self._without.union(LABELS)
            group = zarr.open_group(layout.root, mode="r")
            arrays = {name: array for name, array in group.arrays() if name not in unwanted}
            return _Opened(stamp, layout, str(described["uuid"]), experiment, space, objectives, arrays)

    def _look(self, opened: _Opened) -> tuple[int, dict[str, _Read], tuple[_Stamp, ...], bool]:
        """Return the number of rows, what was read, the stamps of the folders, and whether all was read afresh."""
        root, held = opened.layout.root, self._columns
        folders = tuple(_stamp(root / name / "c", _SKEW) for name in opened.arrays)
        before = self._opened
        if before is opened and folders == self._folders and self._trajectory is not None:
            return len(self._trajectory), {}, folders, False
        afresh = before is None or before.uuid != opened.uuid or bool(held.keys() - opened.arrays.keys())
        if not afresh:
            status = _status(root, opened.arrays["status"], held["status"])
            afresh = status is None
        if afresh:
            held = {}
            status = _status(root, opened.arrays["status"], None)
        assert status is not None
        values = status.parts[0][1]
        rows = rows_in_use(values)
        reads = {
            name: _masked(name, _read(root / name, array, held.get(name), rows), values)
            for name, array in opened.arrays.items()
            if name != "status"
        }
        return rows, reads | {"status": status}, folders, afresh


def _told(trajectory: Trajectory) -> tuple[Any, ...]:
    """Return what an update may change beside rows."""
    return len(trajectory), trajectory.state, trajectory.details, trajectory.record.columns.keys()


def _stamp(path: Path | str, tick: int = _TICK) -> _Stamp:
    """Return what changes when a file is replaced; never the same twice where it was, a moment ago."""
    try:
        found = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return ()
    stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
    now = time.time_ns()
    return stamp if found.st_mtime_ns < now - tick else (*stamp, now)


def _status(root: Path, array: zarr.Array[Any], held: _Column | None) -> _Read | None:
    """Read which rows are in use and what became of them: None if any of that was taken back."""
    read = _read(root / "status", array, held, array.shape[0])
    if held is None or read.whole:
        return read
    values = np.full(array.shape[0], UNUSED, dtype=array.dtype)
    known = min(len(values), len(held.values))
    values[:known] = held.values[:known]
    for start, part in read.parts:
        values[start : start + len(part)] = part
    back = (held.values[:known] > values[:known]) & (values[:known] <= Status.PENDING)
    if back.any() or rows_in_use(held.values) > rows_in_use(values):
        return None
    return _Read(array, read.stamps, [(0, values)], True)


def _read(folder: Path, array: zarr.Array[Any], held: _Column | None, rows: int) -> _Read:
    """Read the chunks that changed of an array's first rows."""
    if array.shape[0] < rows:
        raise ValueError(f"{folder.name} has {array.shape[0]} rows, expected {rows}")
    size, tail = array.chunks[0], "/0" * (array.ndim - 1)
    stamps = [_stamp(f"{folder}/c/{i}{tail}") for i in range(-(-rows // size))]
    if held is None or (held.array.dtype, held.array.chunks) != (array.dtype, array.chunks):
        room = size * (len(stamps) + len(stamps) // _SLACK)  # whole chunks: of those with a stamp, all must be there
        return _Read(array, stamps, [(0, np.asarray(array[:room]))], True)
    known = len(held.stamps)
    if held.array.shape != array.shape:  # a chunk at the end has more rows now
        known = min(known, held.array.shape[0] // size, array.shape[0] // size)
    changed = [i for i, stamp in enumerate(stamps) if i >= known or stamp != held.stamps[i]]
    runs = np.split(changed, np.flatnonzero(np.diff(changed) > 1) + 1) if changed else []
    parts = [(int(run[0]) * size, np.asarray(array[run[0] * size : (run[-1] + 1) * size])) for run in runs]
    end = max((start + len(part) for start, part in parts), default=0)
    if end > len(held.values):
        held.values = _longer(held.values, end)  # what is shown are still the ones before
    return _Read(array, stamps, parts, False)


def _masked(name: str, read: _Read, status: NDArray[Any]) -> _Read:
    """Mask what belongs to results that the status does not know yet; the chunks that have such are read again."""
    if name not in UNTOLD_FILL:
        return read
    size = read.array.chunks[0]
    for start, values in read.parts:
        rows = np.flatnonzero(status[start : start + len(values)] <= Status.PENDING)
        early = values[rows]
        values[rows] = UNTOLD_FILL[name]
        for i in np.unique((start + rows[_differ(early, values[rows])]) // size).tolist():
            if i < len(read.stamps):
                read.stamps[i] = ()
    return read


def _apply(columns: dict[str, _Column], name: str, read: _Read, first: int) -> Ids:
    """Renew a column, and return the rows before ``first`` that changed."""
    held = columns.get(name)
    if read.whole:
        (_, values), *_ = read.parts
        columns[name] = _Column(read.array, values, read.stamps)
        old = held.values[:first] if held else np.full_like(values[:first], read.array.fill_value)
        return np.flatnonzero(_differ(old, values[:first]))
    assert held is not None
    changed = [np.empty(0, dtype=np.int64)]
    for start, part in read.parts:
        end = start + len(part)
        rows = start + np.flatnonzero(_differ(held.values[start:end], part))
        held.values[rows] = part[rows - start]
        changed.append(rows[rows < first])
    held.array, held.stamps = read.array, read.stamps
    return np.concatenate(changed)


def _longer(values: NDArray[Any], rows: int) -> NDArray[Any]:
    """Copy a column into one with room for so many rows, and more."""
    longer = np.empty((rows + rows // _SLACK, *values.shape[1:]), dtype=values.dtype)
    longer[: len(values)] = values
    return longer


def _differ(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.bool_]:
    """Tell which rows differ; a NaN does not from a NaN."""
    different: NDArray[np.bool_] = a != b
    if a.dtype.kind == "f":
        different &= ~(np.isnan(a) & np.isnan(b))
    return np.asarray(different.any(axis=1)) if different.ndim == 2 else different
