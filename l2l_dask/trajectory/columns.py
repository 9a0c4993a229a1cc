"""The Zarr arrays of a store: their schema, and writing them in whole chunks.

Rows are individuals. The driver holds the chunks that may still change in memory and writes them whole, the ``status``
column last and in ascending order, so that a reader who loads ``status`` first never sees a row that is not complete.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import UNUSED, Objectives, Status
from l2l_dask.space import Categorical, Space
from l2l_dask.trajectory.record import CORE

_MIN_ROWS = 1024
_MAX_ROWS = 16384  # of a chunk: a million rows in less than a thousand files
_MAX_BYTES = 4 << 20


# What an optimizer must not name: our own arrays, and our folders.
RESERVED = CORE | {"evaluation", "dimension", "parameter", "objective"}


@dataclass(frozen=True)
class Column:
    """One array: a value, or a row of ``width`` values, for each individual."""

    name: str
    dtype: DTypeLike
    fill: Any
    dimension: str | None = None
    width: int = 1

    def empty(self, rows: int) -> NDArray[Any]:
        shape = (rows,) if self.dimension is None else (rows, self.width)
        return np.full(shape, self.fill, dtype=object if self.dtype is str else self.dtype)


def core_columns(space: Space, objectives: Objectives) -> tuple[Column, ...]:
    """Name the arrays that every store has; ``status`` comes last."""
    nan = float("nan")
    return (
        Column("x", "f8", nan, "dimension", space.dim),
        Column("params", "f8", nan, "parameter", space.dim),
        Column("fitness", "f8", nan, "objective", len(objectives)),
        Column("asked", "i8", -1),
        Column("told", "i8", -1),
        Column("origin", "i1", 0),
        Column("retry_of", "i8", -1),
        Column("attempt", "i4", 0),
        Column("submitted", "f8", nan),
        Column("started", "f8", nan),
        Column("finished", "f8", nan),
        Column("worker", str, ""),
        Column("host", str, ""),
        Column("error", str, ""),
        Column("saved", str, ""),
        Column("status", "i1", UNUSED),
    )


def as_stored(values: NDArray[Any]) -> NDArray[Any]:
    """Convert what an optimizer names to a type that the store has: 64-bit integers or reals."""
    if values.dtype.kind not in "iubf":
        return values
    return np.ascontiguousarray(values, dtype="<i8" if values.dtype.kind in "iub" else "<f8")


def info_column(name: str, values: NDArray[Any]) -> Column:
    """Describe the array for something that an optimizer names: integers (missing: -1) or reals (missing: NaN)."""
    integer = values.dtype.kind in "iub"
    dtype, fill = ("i8", -1) if integer else ("f8", float("nan"))
    return (
        Column(name, dtype, fill, f"{name}_column", values.shape[1]) if values.ndim == 2 else Column(name, dtype, fill)
    )


class Columns:
    """The arrays of one store, opened for writing.

    Parameters
    ----------
    root
        The store's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        with quiet_zarr():
            self._group = zarr.open_group(root, mode="r+")
            self._arrays: dict[str, zarr.Array[Any]] = {
                name: array for name, array in self._group.arrays() if name not in ("parameter", "objective")
            }
        self._schema = {name: _described(name, array) for name, array in self._arrays.items()}
        self._chunks: dict[int, dict[str, NDArray[Any]]] = {}
        self._dirty: dict[int, set[str]] = {}
        status = self._arrays["status"]
        self.rows_per_chunk: int = status.chunks[0]
        self.capacity: int = status.shape[0]

    def width(self, name: str) -> int | None:
        """Return how many values an array has for each row, None if one or if there is none of that name."""
        column = self._schema.get(name)
        return column.width if column is not None and column.dimension else None

    @property
    def names(self) -> set[str]:
        return set(self._schema)

    def add(self, column: Column) -> None:
        """Create a further array."""
        with quiet_zarr():
            # A driver that was killed in here leaves an array that the consolidated metadata do not know, and empty.
            self._arrays[column.name] = _create(self._group, column, self.capacity, self.rows_per_chunk, overwrite=True)
            zarr.consolidate_metadata(self._group.store)
        self._schema[column.name] = column
        for chunk in self._chunks.values():
            chunk[column.name] = column.empty(self.rows_per_chunk)

    def resize(self, capacity: int) -> None:
        """Change the number of rows; a reader sees the longest ``status`` last, and the shorter first."""
        if capacity == self.capacity:
            return
        last = capacity > self.capacity
        names = sorted(self._arrays, key=lambda name: (name == "status") == last)
        with quiet_zarr():
            for name in names:
                self._arrays[name].resize((capacity, *self._arrays[name].shape[1:]))
            zarr.consolidate_metadata(self._group.store)
        self.capacity = capacity

    def put(self, first: int, values: Mapping[str, NDArray[Any]]) -> None:
        """Set consecutive rows from ``first`` on, in memory."""
        n = len(next(iter(values.values())))
        done = 0
        while done < n:
            index, offset = divmod(first + done, self.rows_per_chunk)
            take = min(n - done, self.rows_per_chunk - offset)
            chunk = self._chunk(index)
            for name, column in values.items():
                chunk[name][offset : offset + take] = column[done : done + take]
            self._dirty.setdefault(index, set()).update(values)
            done += take

    def set(self, row: int, values: Mapping[str, Any]) -> None:
        """Set some columns of one row, in memory."""
        index, offset = divmod(row, self.rows_per_chunk)
        chunk = self._chunk(index)
        for name, value in values.items():
            chunk[name][offset] = value
        self._dirty.setdefault(index, set()).update(values)

    def flush(self) -> None:
        """Write what changed, in whole chunks, ``status`` last; forget the chunks in which nothing is pending.

        Raises
        ------
        StoreError
            If it cannot be written; nothing is forgotten then.
        """
        try:
            for index in sorted(self._dirty):
                for name in self._dirty[index] - {"status"}:
                    self._write(index, name)
            for index in sorted(self._dirty):
                self._write(index, "status")
        except OSError as error:
            raise StoreError(f"{self.root} cannot be written: {error.strerror}") from error
        self._dirty.clear()
        for index in [i for i, chunk in self._chunks.items() if self._settled(i, chunk["status"])]:
            del self._chunks[index]

    def _write(self, index: int, name: str) -> None:
        start = index * self.rows_per_chunk
        array, part = self._arrays[name], self._chunks[index][name][: self.capacity - start]
        array[start : start + len(part)] = part.astype("T") if part.dtype == object else part

    def _settled(self, index: int, status: NDArray[Any]) -> bool:
        used = status[: self.capacity - index * self.rows_per_chunk]
        return bool((used != UNUSED).all() and (used != Status.PENDING).all())

    def _chunk(self, index: int) -> dict[str, NDArray[Any]]:
        """Return a chunk at its full length, also where the arrays end before it does."""
        if index not in self._chunks:
            self._chunks[index] = {name: column.empty(self.rows_per_chunk) for name, column in self._schema.items()}
            for name, part in self._chunks[index].items():
                if self._exists(name, index):
                    found = self._load(name, index * self.rows_per_chunk)
                    part[: len(found)] = found
        return self._chunks[index]

    def _exists(self, name: str, index: int) -> bool:
        tail = "/0" if self._schema[name].dimension else ""
        return (self.root / name / "c" / f"{index}{tail}").exists()

    def _load(self, name: str, start: int) -> NDArray[Any]:
        part = np.asarray(self._arrays[name][start : start + self.rows_per_chunk])
        return part.astype(object) if self._schema[name].dtype is str else part

    def rows_in_use(self) -> int:
        return rows_in_use(np.asarray(self._arrays["status"][:]))

    def read_all(self, rows: int) -> dict[str, NDArray[Any]]:
        """Read the first rows of every array."""
        return {name: np.asarray(array[:rows]) for name, array in self._arrays.items()}


def create(root: Path, attributes: dict[str, Any], space: Space, objectives: Objectives, capacity: int) -> None:
    """Create the group and its empty arrays."""
    columns = core_columns(space, objectives)
    widest = max(column.width for column in columns)
    rows = min(_MAX_ROWS, max(_MIN_ROWS, capacity), max(_MIN_ROWS, _MAX_BYTES // (8 * widest)))
    with quiet_zarr():
        group = zarr.create_group(root, attributes=attributes)
        for column in columns:
            _create(group, column, capacity, rows)
        for name, labels in (("parameter", space.labels), ("objective", objectives.names)):
            array = group.create_array(
                name, shape=(len(labels),), chunks=(len(labels),), dtype=str, dimension_names=(name,)
            )
            array[:] = np.array(labels, dtype="T")
        choices = {name: list(p.choices) for name, p in space.items() if isinstance(p, Categorical)}
        group["params"].attrs["choices"] = choices
        group["status"].attrs["flag_values"] = [UNUSED, *(int(s) for s in Status)]
        group["status"].attrs["flag_meanings"] = " ".join(["unused", *(s.label for s in Status)])
        zarr.consolidate_metadata(group.store)


def rows_in_use(status: NDArray[Any]) -> int:
    """Count the rows before the first unused one; a reader may load a later chunk after its rows came into use."""
    unused = np.flatnonzero(status == UNUSED)
    return int(unused[0]) if len(unused) else len(status)


def _create(group: zarr.Group, column: Column, capacity: int, rows: int, *, overwrite: bool = False) -> zarr.Array[Any]:
    wide = column.dimension is not None
    return group.create_array(
        column.name,
        shape=(capacity, column.width) if wide else (capacity,),
        chunks=(rows, column.width) if wide else (rows,),
        dtype=column.dtype,
        fill_value=column.fill,
        dimension_names=("evaluation", column.dimension) if wide else ("evaluation",),
        overwrite=overwrite,
    )


def _described(name: str, array: zarr.Array[Any]) -> Column:
    dtype: DTypeLike = str if array.dtype.kind in "TOU" else array.dtype
    names: Any = array.metadata.to_dict().get("dimension_names")
    dimension = names[1] if array.ndim == 2 else None
    return Column(name, dtype, array.fill_value, dimension, array.shape[1] if array.ndim == 2 else 1)


@contextmanager
def reading(root: Path) -> Iterator[None]:
    """Turn what zarr raises over a damaged store into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StoreError(f"{root} cannot be read, is it damaged? {reason}") from error


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence zarr's remarks on our private folder and on consolidated metadata."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        yield
