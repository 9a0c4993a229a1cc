"""The Zarr arrays of a store: which there are, and making them.

Rows are individuals. Chunks are compressed with a checksum inside, so that whoever reads one notices if a power failure
spoilt it.
"""

from __future__ import annotations

import atexit
import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import DTypeLike, NDArray
from zarr.codecs import ZstdCodec
from zarr.core import sync

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import UNUSED, Objectives, Status
from l2l_dask.space import Categorical, Space
from l2l_dask.trajectory.files import Files
from l2l_dask.trajectory.record import CORE

LABELS = ("parameter", "objective")  # the arrays that have no row for each individual
_MIN_ROWS = 1024
_MAX_ROWS = 16384  # of a chunk: a million rows in less than a thousand files
_MAX_BYTES = 4 << 20
_DAMAGE = (None, errno.EIO, errno.ENOENT, errno.ENOTDIR)  # what zarr says itself has no number
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)

# What an optimizer must not name: our own arrays, and our folders.
RESERVED = CORE | {"evaluation", "dimension", *LABELS}


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
        return np.full(shape, self.fill, dtype="T" if self.dtype is str else self.dtype)

    @property
    def row_bytes(self) -> int:
        return 32 if self.dtype is str else np.dtype(self.dtype).itemsize * self.width


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


def spread_column(width: int) -> Column:
    """Describe the array for how far repeats of an evaluation lie apart; it is made when the first such comes."""
    return Column("fitness_sd", "f8", float("nan"), "objective", width)


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


def create(root: Path, attributes: dict[str, Any], space: Space, objectives: Objectives, capacity: int) -> None:
    """Create the group and its empty arrays."""
    with quiet_zarr():
        fill(zarr.create_group(Files(root), attributes=attributes), space, objectives, capacity)


def fill(group: zarr.Group, space: Space, objectives: Objectives, capacity: int) -> None:
    """Create the arrays of a group, empty."""
    columns = core_columns(space, objectives)
    widest = max(column.width for column in columns)
    rows = min(_MAX_ROWS, max(_MIN_ROWS, capacity), max(_MIN_ROWS, _MAX_BYTES // (8 * widest)))
    for column in columns:
        create_array(group, column, capacity, rows)
    for name, labels in zip(LABELS, (space.labels, objectives.names), strict=True):
        array = group.create_array(
            name,
            shape=(len(labels),),
            chunks=(len(labels),),
            dtype=str,
            compressors=_compressor(),
            dimension_names=(name,),
            overwrite=True,
        )
        array[:] = np.array(labels, dtype="T")
    choices = {name: list(p.choices) for name, p in space.items() if isinstance(p, Categorical)}
    group["params"].attrs["choices"] = choices
    group["status"].attrs["flag_values"] = [UNUSED, *(int(s) for s in Status)]
    group["status"].attrs["flag_meanings"] = " ".join(["unused", *(s.label for s in Status)])
    zarr.consolidate_metadata(group.store)


def _compressor() -> ZstdCodec:
    return ZstdCodec(level=0, checksum=True)


def create_array(group: zarr.Group, column: Column, capacity: int, rows: int) -> zarr.Array[Any]:
    """Create the array of a column, in chunks of so many rows; one that is there is replaced."""
    wide = column.dimension is not None
    return group.create_array(
        column.name,
        shape=(capacity, column.width) if wide else (capacity,),
        chunks=(rows, column.width) if wide else (rows,),
        dtype=column.dtype,
        fill_value=column.fill,
        compressors=_compressor(),
        dimension_names=("evaluation", column.dimension) if wide else ("evaluation",),
        overwrite=True,
    )


def described(name: str, array: zarr.Array[Any]) -> Column:
    """Read a column's description from its array."""
    dtype: DTypeLike = str if array.dtype.kind in "TOU" else array.dtype
    names: Any = array.metadata.to_dict().get("dimension_names")
    dimension = names[1] if array.ndim == 2 else None
    return Column(name, dtype, array.fill_value, dimension, array.shape[1] if array.ndim == 2 else 1)


def rows_in_use(status: NDArray[Any]) -> int:
    """Count the rows before the first unused one; a reader may load a later chunk after its rows came into use."""
    unused = np.flatnonzero(status == UNUSED)
    return int(unused[0]) if len(unused) else len(status)


class DamagedError(StoreError):
    """Arrays that cannot be read."""


@contextmanager
def reading(root: Path, remedy: str = "; `l2l resume STORE` makes its arrays anew from its journal") -> Iterator[None]:
    """Turn what zarr raises over a damaged store into one line."""
    try:
        yield
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        if isinstance(error, OSError) and error.errno not in _DAMAGE:
            done = "written" if error.errno in _UNWRITABLE else "read"
            raise StoreError(f"{root} cannot be {done}: {error.strerror}") from error
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DamagedError(f"{root} cannot be read, is it damaged? {reason}{remedy}") from error


@contextmanager
def quiet_zarr() -> Iterator[None]:
    """Silence zarr's remarks on our private folder and on consolidated metadata, and those at the end."""
    _end_quietly()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", zarr.errors.ZarrUserWarning)
        yield


@cache
def _end_quietly() -> None:
    """See that zarr's thread has ended before zarr waits for it: for 0.2 s, and then with a traceback."""
    atexit.register(_end_thread)  # what was registered last goes first


def _end_thread() -> None:
    loop, thread = sync.loop[0], sync.iothread[0]
    if loop is not None and thread is not None and thread.is_alive():
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10.0)
        if not thread.is_alive():  # who reads a store even later gets an error, and does not wait for ever
            sync.cleanup_resources()
