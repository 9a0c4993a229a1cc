"""Saved arrays: where ``context.save`` leaves them in a store."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def saved_folder(id: int, epoch: int, attempt: int) -> str:
    """Name the place of an attempt's arrays, relative to the store: at most a thousand individuals to a folder."""
    return f"saved/{id // 1000:06d}/{id}-{epoch}-{attempt}"


def save_arrays(folder: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as ``folder/NAME.npy``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def load_arrays(folder: Path) -> dict[str, NDArray[Any]]:
    """Read what :func:`save_arrays` wrote, by name."""
    return {path.name.removesuffix(".npy"): np.load(path, allow_pickle=False) for path in sorted(folder.glob("*.npy"))}
