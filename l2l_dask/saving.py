"""Saved arrays: where ``context.save`` leaves them in a store."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

DEAR = 1.0  # seconds; the result of a longer evaluation is worth waiting for the disk


def saved_folder(id: int, epoch: int, attempt: int) -> str:
    """Name the place of an attempt's arrays, relative to the store: at most a thousand individuals to a folder."""
    return f"saved/{id // 1000:06d}/{id}-{epoch}-{attempt}"


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]], *, durable: bool = False) -> None:
    """Write arrays as ``folder/NAME.npy``; if ``durable``, wait until they are on the disk."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            # Not np.save: numpy's own way to the disk forgets why it could not write.
            np.lib.format.write_array(_Stream(file), np.asanyarray(array), allow_pickle=False)
            if durable:
                file.flush()
                os.fsync(file.fileno())
    if durable:  # the folder's own name too, and that of ``saved`` in the store
        for part in (folder, *folder.parents[:3]):
            sync(part)


class _Stream:
    """A file that numpy takes for something else."""

    def __init__(self, file: BinaryIO) -> None:
        self.write = file.write


def sync(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Read what :func:`save_arrays` wrote, by name."""
    return {path.name.removesuffix(".npy"): np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
