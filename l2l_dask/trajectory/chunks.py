"""The arrays of a store, opened for writing: changed in memory, written in whole chunks.

The driver holds the chunks that may still change and writes them whole, the ``status`` column last and in ascending
order, so that a reader who loads ``status`` first never sees a row that is not complete. What it holds is bounded: of a
chunk that is full it lets go what was asked, which changes no more, and beyond a limit it lets go the oldest chunks,
where a few individuals that take long may be pending for ever so long.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import zarr
from numpy.typing import NDArray

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import UNUSED, Ids, Status
from l2l_dask.trajectory.columns import LABELS, Column, create_array, described, quiet_zarr, reading, rows_in_use
from l2l_dask.trajectory.files import Files, chunks_of
from l2l_dask.trajectory.record import CORE

_HELD_BYTES = 24 << 20
_SET_WHEN_IT_ENDS = frozenset(
    ("fitness", "fitness_sd", "attempt", "submitted", "started", "finished", "worker", "host", "error", "saved")
)


class Chunks:
    """The arrays of one store, opened for writing.

    Parameters
    ----------
    root
        The store's folder.
    check
        Called before the arrays are changed: raises an error if the store is no longer ours.
    """

    def __init__(self, root: Path, check: Callable[[], None]) -> None:
        self.root = root
        self._check = check
        self._files = Files(root)
        with reading(root, remedy=""), quiet_zarr():
            # Not what the consolidated metadata say: a kill may have left them behind what each array says.
            self._group = zarr.open_group(self._files, mode="r+", use_consolidated=False)
            self._consolidated = _consolidated(root)
            self._arrays: dict[str, zarr.Array[Any]] = {
                name: cast("zarr.Array[Any]", self._group[name])  # one by one: zarr's listing logs an error's traceback
                for name in sorted(self._consolidated.keys() - set(LABELS))
                if (root / name / "zarr.json").exists()
            }
            self._schema = {name: described(name, array) for name, array in self._arrays.items()}
            status = self._arrays["status"]
        self._parts: dict[int, dict[str, NDArray[Any]]] = {}
        self._dirty: dict[int, set[str]] = {}
        self.rows_per_chunk: int = status.chunks[0]
        self.capacity: int = status.shape[0]

    def is_integer(self, name: str) -> bool:
        """Tell whether an array holds integers."""
        return np.dtype(self._schema[name].dtype).kind == "i"

    def width(self, name: str) -> int | None:
        """Return how many values an array has for each row, None if one or if there is none of that name."""
        column = self._schema.get(name)
        return column.width if column is not None and column.dimension else None

    @property
    def names(self) -> set[str]:
        return set(self._schema)

    def add(self, column: Column) -> None:
        """Create a further array.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        with self._writing(), quiet_zarr():
            # A driver that was killed in here leaves an array that the consolidated metadata do not know, and empty.
            self._arrays[column.name] = create_array(self._group, column, self.capacity, self.rows_per_chunk)
            zarr.consolidate_metadata(self._group.store)
        self._schema[column.name] = column

    def resize(self, capacity: int) -> None:
        """Change the number of rows; a reader sees the longest ``status`` last, and the shorter first.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        if capacity != self.capacity:
            self._resize(capacity)

    def even(self) -> None:
        """Make all arrays as long as the longest, where a driver was killed while it resized them.

        Raises
        ------
        StoreError
            If they cannot be written.
        """
        lengths = {array.shape[0] for array in self._arrays.values()}
        told = {self._consolidated[name] for name in self._arrays}
        if lengths != told or len(lengths) > 1:
            self._resize(max(lengths))

    def _resize(self, capacity: int) -> None:
        last = capacity > self.capacity
        names = sorted(self._arrays, key=lambda name: (name == "status") == last)
        with self._writing(), quiet_zarr():
            for name in names:
                self._arrays[name].resize((capacity, *self._arrays[name].shape[1:]))
            zarr.consolidate_metadata(self._group.store)
        self.capacity = capacity

    def set(self, rows: Ids, values: Mapping[str, NDArray[Any]]) -> None:
        """Set some columns of some rows, in memory; of a row that comes twice the last holds."""
        for index, at, chosen in self._by_chunk(rows):
            for name, column in values.items():
                self._part(index, name)[at] = column[chosen]
            self._dirty.setdefault(index, set()).update(values)

    def begin(self, rows: Ids) -> None:
        """Set rows pending, in memory, but for those that are in use: what became of one is never taken back."""
        for index, at, _ in self._by_chunk(rows):
            status = self._part(index, "status")
            status[at] = np.where(status[at] == UNUSED, int(Status.PENDING), status[at])
            self._dirty.setdefault(index, set()).add("status")

    def _by_chunk(self, rows: Ids) -> Iterator[tuple[int, Any, Any]]:
        """Yield for each chunk concerned its index, the places in it, and which of ``rows`` they are."""
        if not len(rows):
            return
        if rows[-1] - rows[0] == len(rows) - 1 and bool((np.diff(rows) == 1).all()):
            first, end = int(rows[0]), int(rows[-1]) + 1
            for index in range(first // self.rows_per_chunk, (end - 1) // self.rows_per_chunk + 1):
                start = index * self.rows_per_chunk
                low, high = max(first, start), min(end, start + self.rows_per_chunk)
                yield index, slice(low - start, high - start), slice(low - first, high - first)
            return
        indices = rows // self.rows_per_chunk
        for index in np.unique(indices).tolist():
            chosen = np.flatnonzero(indices == index)
            yield index, rows[chosen] - index * self.rows_per_chunk, chosen

    def flush(self) -> None:
        """Write what changed, in whole chunks, ``status`` last; let go what need not be held.

        Raises
        ------
        StoreError
            If it cannot be written; nothing is let go then.
        """
        with self._writing():
            for index in sorted(self._dirty):
                for name in sorted(self._dirty[index] - {"status"}):
                    self._write(index, name)
            for index in sorted(self._dirty):
                if "status" in self._dirty[index]:
                    self._write(index, "status")
        self._dirty.clear()
        self._let_go()

    def sync(self) -> None:
        """Bring what was written to the disk."""
        with self._writing():
            self._files.sync()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Make sure that the store is ours, and turn what the disk refuses into one line."""
        self._check()
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.root} cannot be written: {error.strerror}") from error

    def _write(self, index: int, name: str) -> None:
        start = index * self.rows_per_chunk
        part = self._parts[index][name][: self.capacity - start]
        self._arrays[name][start : start + len(part)] = part

    def _let_go(self) -> None:
        for index, parts in self._parts.items():
            if "status" in parts:
                used = parts["status"][: self.capacity - index * self.rows_per_chunk]
                if (used != UNUSED).all():
                    kept = {"status", "told", *_SET_WHEN_IT_ENDS} if (used == Status.PENDING).any() else {"told"}
                    for name in parts.keys() - kept:
                        del parts[name]
            if "told" in parts and "status" not in parts and (parts["told"] >= 0).all():
                del parts["told"]
        held = {index: sum(self._bytes(name) for name in parts) for index, parts in self._parts.items()}
        excess = sum(held.values()) - _HELD_BYTES
        newest = max(held, default=0)
        for index in sorted(held):
            if not held[index] or (excess > 0 and index < newest):
                excess -= held[index]
                del self._parts[index]

    def _bytes(self, name: str) -> int:
        return self._schema[name].row_bytes * self.rows_per_chunk

    def _part(self, index: int, name: str) -> NDArray[Any]:
        """Return a column of a chunk at its full length, also where the arrays end before it does."""
        parts = self._parts.setdefault(index, {})
        if name not in parts:
            parts[name] = self._schema[name].empty(self.rows_per_chunk)
            if self._exists(name, index):
                start = index * self.rows_per_chunk
                with reading(self.root, remedy=""):
                    found = np.asarray(self._arrays[name][start : start + self.rows_per_chunk])
                parts[name][: len(found)] = found
        return parts[name]

    def _exists(self, name: str, index: int) -> bool:
        tail = "/0" if self._schema[name].dimension else ""
        return (self.root / name / "c" / f"{index}{tail}").exists()

    def rows_in_use(self) -> int:
        with reading(self.root, remedy=""):
            return rows_in_use(np.asarray(self._arrays["status"][:]))

    def read_all(self, rows: int) -> dict[str, NDArray[Any]]:
        """Read the first rows of every array."""
        with reading(self.root, remedy=""):
            return {name: np.asarray(array[:rows]) for name, array in self._arrays.items()}

    def check(self, labels: Mapping[str, tuple[str, ...]], rows: int, chunks: Mapping[str, list[int]]) -> None:
        """Make sure that what must be there is: the labels, each array's own metadata, so many rows and chunks.

        Raises
        ------
        DamagedError
            If something is not.
        """
        with reading(self.root, remedy=""):
            for name in (*self._arrays, *LABELS):
                if "shape" not in json.loads((self.root / name / "zarr.json").read_bytes()):
                    raise ValueError(f"{name}/zarr.json describes no array")
            for name, expected in labels.items():
                found: Any = self._group[name]
                if tuple(found[:].tolist()) != expected:
                    raise ValueError(f"{name} does not hold the names")
            there = chunks_of(self.root, chunks)
            lacking = [name for name, indices in chunks.items() if set(indices) - set(there.get(name, ()))]
            expected_names = (CORE - {"fitness_sd"}) | self._consolidated.keys() - set(LABELS) | chunks.keys()
            missing = sorted(expected_names - self.names) + lacking
            if missing or self.rows_in_use() < rows:
                raise ValueError(f"chunks of {', '.join(missing) or 'status'} are missing")


def _consolidated(root: Path) -> dict[str, int]:
    """Read the arrays' lengths from the consolidated metadata: one that is not there was not made to its end."""
    listed = json.loads((root / "zarr.json").read_bytes())["consolidated_metadata"]["metadata"]
    return {name: array["shape"][0] for name, array in listed.items() if array["node_type"] == "array"}
