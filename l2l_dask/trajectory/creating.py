"""Creating a store, whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Objectives
from l2l_dask.optimizee import Target
from l2l_dask.saving import save_arrays, sync
from l2l_dask.space import Space
from l2l_dask.trajectory import columns
from l2l_dask.trajectory.files import sync_store
from l2l_dask.trajectory.layout import FORMAT, Layout, write_json

_STALE = 3600.0  # seconds; nobody takes so long to create a store


def refuse(store: Path) -> None:
    """Say why a store cannot be created, as far as that can be known beforehand.

    Raises
    ------
    StoreError
        If its name is no store's, or something is there already.
    """
    if store.suffix != ".zarr":
        raise StoreError(f"a store's name must end in .zarr, got {store}")
    if os.path.lexists(store):
        raise StoreError(f"{store} exists: go on with `l2l resume {store}`, or choose another store")


def create(
    store: Path,
    experiment: Mapping[str, Any],
    space: Space,
    objectives: Objectives,
    capacity: int,
    *,
    pickled: bytes = b"",
    targets: Mapping[str, Target] | None = None,
) -> None:
    """Create a store, whole or not at all.

    Parameters
    ----------
    experiment
        What describes the experiment (JSON types), kept in the group's attributes.
    capacity
        Number of rows to start with.
    pickled
        Objects that have no name by which they could be found again.
    targets
        What saved arrays should look like.

    Raises
    ------
    StoreError
        If something is there already, or it cannot be written.
    """
    refuse(store)
    temporary = store.with_name(f".{store.name}-{uuid.uuid4().hex[:8]}")
    try:
        store.parent.mkdir(parents=True, exist_ok=True)
        _clean(store)
        described = {"format": FORMAT, "uuid": uuid.uuid4().hex, "experiment": dict(experiment)}
        columns.create(temporary, {"l2l_dask": described}, space, objectives, capacity)
        layout = Layout(temporary)
        layout.private.mkdir()
        write_json(layout.state, {"state": "queued", "evaluations": capacity})
        if pickled:
            layout.pickled.write_bytes(pickled)
        if targets:
            save_arrays(layout.targets, {name: np.asarray(t.values) for name, t in targets.items()})
            axes = {name: [t.step, t.label, t.step_label] for name, t in targets.items()}
            write_json(layout.targets / "axes.json", axes)
        sync_store(layout)
        os.rename(temporary, store)
        sync(store.parent)
    except OSError as error:
        raise StoreError(
            f"{store} cannot be created: {error.strerror or error}; check the folder and its permissions"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _clean(store: Path) -> None:
    """Remove what somebody left who was killed in here, long ago."""
    left = re.compile(rf"\.{re.escape(store.name)}-[0-9a-f]{{8}}")
    for path in store.parent.iterdir():
        with suppress(OSError):
            if left.fullmatch(path.name) and time.time() - path.stat().st_mtime > _STALE:
                shutil.rmtree(path, ignore_errors=True)
