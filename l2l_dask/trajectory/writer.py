"""Writing a trajectory: every fact goes into the journal first, and is folded into the Zarr arrays soon after.

The same records that are journalled are what changes the arrays, so that a journal can always be folded again.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import OptimizerError, StoreError
from l2l_dask.evaluation import Candidates, Evaluation, Objectives, Status
from l2l_dask.optimizee import Target
from l2l_dask.saving import save_arrays, saved_folder
from l2l_dask.space import Space
from l2l_dask.trajectory import columns
from l2l_dask.trajectory.journal import Journal, read
from l2l_dask.trajectory.layout import FORMAT, Layout, State, open_layout, read_json, write_json
from l2l_dask.trajectory.lease import acquire
from l2l_dask.trajectory.record import Record


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
        _sync(temporary)
        os.rename(temporary, store)
    except OSError as error:
        raise StoreError(
            f"{store} cannot be created: {error.strerror or error}; check the folder and its permissions"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


class Writer:
    """The one writer of a store.

    Opening it takes the store's lease, folds what an earlier driver left in its journal, and starts a new journal.

    Attributes
    ----------
    record : Record
        All that was known when it was opened.

    Raises
    ------
    LockedError
        If another driver is alive.
    StoreError
        If there is no such store or it cannot be written.
    """

    def __init__(self, store: Path, space: Space) -> None:
        self.layout, self.described = open_layout(store)
        self._space = space
        self._lease = acquire(self.layout)
        self.epoch = self._lease.epoch
        try:
            with suppress(FileNotFoundError):
                self.layout.control.unlink()
            with columns.reading(self.layout.root):
                self._columns = columns.Columns(self.layout.root)
                self._rows = self._columns.rows_in_use()
            for kept in self._unfolded():
                self._apply(kept)
            self._columns.flush()
            self.record = Record(self._columns.read_all(self._rows))
            _sync(self.layout.root)  # from here on the older journals are not read any more
            self._journal = Journal(self.layout.journal(self.epoch))
            self._journal.add({"kind": "epoch", "epoch": self.epoch, "format": FORMAT, "rows": self._rows})
            self._journal.append(durable=True)
        except BaseException:
            self._lease.release()
            raise

    def _unfolded(self) -> list[dict[str, Any]]:
        """Read the newest journal that was started: older ones were folded before that."""
        for epoch in reversed(self.layout.epochs()):
            records = list(read(self.layout.journal(epoch)))
            if records:
                return records[1:]
        return []

    def reserve(self, capacity: int) -> None:
        """Make the arrays hold ``capacity`` rows."""
        if capacity > self._columns.capacity:
            self._columns.resize(capacity)

    def trust(self) -> None:
        """Note that the optimizer cannot repeat how the rows so far were asked, and takes them as they are."""
        write_json(self.layout.trusted, {"rows": len(self.record)}, durable=True)

    @property
    def trusted_rows(self) -> int:
        """The number of rows that are taken as they are."""
        return int((read_json(self.layout.trusted) or {}).get("rows", 0))

    def asked(self, event: int, candidates: Candidates, origin: int, retry_of: Sequence[int] = ()) -> None:
        """Record an ask, as event number ``event``; ``retry_of`` names the rows that are evaluated again."""
        info = {name: self._packed(name, np.asarray(values)) for name, values in candidates.info.items()}
        x = np.ascontiguousarray(candidates.x, dtype="<f8").tobytes()
        self._enter(
            {
                "kind": "ask",
                "event": event,
                "first": int(candidates.ids[0]),
                "x": x,
                "origin": origin,
                "retry_of": list(retry_of) or [-1] * len(candidates),
                "info": info,
            }
        )

    def results(self, evaluations: Sequence[Evaluation]) -> None:
        """Record results; their arrays must be in place and error texts go to a file beside."""
        self._note_errors(evaluations)
        rows = [
            {
                "id": e.id,
                "status": int(e.status),
                "attempt": e.attempt,
                "fitness": list(e.fitness),
                "worker": _storable(e.worker),
                "host": _storable(e.host),
                "submitted": e.submitted,
                "started": e.started,
                "finished": e.finished,
                "error": _storable(e.error.partition("\n")[0]),
                "saved": saved_folder(e.id, self.epoch, e.attempt) if e.saved else "",
            }
            for e in evaluations
        ]
        self._enter({"kind": "results", "rows": rows})

    def told(self, event: int, ids: Sequence[int]) -> None:
        """Record a tell, as event number ``event``."""
        self._enter({"kind": "tell", "event": event, "ids": list(ids)})

    def commit(self, *, durable: bool) -> None:
        """Append to the journal what was recorded since the last time: nothing of it is lost from here on."""
        self._journal.append(durable=durable)

    def fold(self) -> None:
        """Write the arrays; what was recorded goes into the journal before.

        Raises
        ------
        LockedError
            If the store is no longer ours.
        StoreError
            If it cannot be written.
        """
        self._lease.check()
        self.commit(durable=False)
        self._columns.flush()

    def keep(self, evaluation: Evaluation) -> None:
        """Write the arrays that came with a result, where its worker could not."""
        folder = self.layout.root / saved_folder(evaluation.id, self.epoch, evaluation.attempt)
        try:
            save_arrays(folder, evaluation.arrays)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from error

    def set_state(self, state: State, **more: Any) -> None:
        """Say what the experiment is doing."""
        self._lease.check()
        try:
            write_json(self.layout.state, {"state": state, "epoch": self.epoch, **more})
        except OSError as error:
            raise StoreError(f"{self.layout.state} cannot be written: {error.strerror}") from error

    def close(self, *, trim: bool = True) -> None:
        """Fold, cut the arrays to the rows in use if ``trim``, and give the store back."""
        try:
            self.fold()
            if trim:
                self._columns.resize(max(self._rows, 1))
        finally:
            self._journal.close()
            self._lease.release()

    def abandon(self) -> None:
        """Give the store back as it is, after an error."""
        self._journal.close()
        self._lease.release()

    def _packed(self, name: str, values: NDArray[Any]) -> list[Any]:
        """Turn what an optimizer names into what a journal holds.

        Raises
        ------
        OptimizerError
            If there can be no array of that name for it.
        """
        if name in columns.RESERVED or not name.isidentifier():
            raise OptimizerError(f"info {name!r}: expected an identifier that the store does not use itself")
        if values.dtype.kind not in "iubf" or values.ndim not in (1, 2):
            raise OptimizerError(
                f"info {name!r}: expected numbers, one or a row for each individual, got {values.dtype} {values.shape}"
            )
        width, found = self._columns.width(name), values.shape[1] if values.ndim == 2 else None
        if name in self._columns.names and width != found:
            raise OptimizerError(f"info {name!r}: expected as many values for each individual as before, {width}")
        return _packed(values)

    def _enter(self, record: dict[str, Any]) -> None:
        self._journal.add(record)
        self._apply(record)

    def _apply(self, record: Mapping[str, Any]) -> None:
        if record["kind"] == "ask":
            self._apply_ask(record)
        elif record["kind"] == "results":
            for row in record["rows"]:
                self._columns.set(row["id"], {k: v for k, v in row.items() if k not in ("id", "fitness")})
                if row["fitness"]:
                    self._columns.set(row["id"], {"fitness": row["fitness"]})
        elif record["kind"] == "tell":
            for id in record["ids"]:
                self._columns.set(id, {"told": record["event"]})

    def _apply_ask(self, record: Mapping[str, Any]) -> None:
        x = np.frombuffer(record["x"], dtype="<f8").reshape(-1, self._space.dim)
        n, first = len(x), record["first"]
        self.reserve(first + n)
        values: dict[str, NDArray[Any]] = {
            "x": x,
            "params": self._space.natural(x),
            "asked": np.full(n, record["event"]),
            "origin": np.full(n, record["origin"]),
            "retry_of": np.array(record["retry_of"]),
            "status": np.full(n, int(Status.PENDING)),
        }
        for name, packed in record["info"].items():
            info = _unpacked(packed)
            if name not in self._columns.names:
                self._columns.add(columns.info_column(name, info))
            values[name] = info
        self._columns.put(first, values)
        self._rows = max(self._rows, first + n)

    def _note_errors(self, evaluations: Sequence[Evaluation]) -> None:
        failed = [e for e in evaluations if e.error]
        if not failed:
            return
        # Each begins a new line, also after one that a crash tore off.
        lines = "".join("\n" + json.dumps({"id": e.id, "attempt": e.attempt, "error": e.error}) for e in failed)
        try:
            with self.layout.errors.open("a", encoding="utf-8") as file:
                file.write(lines)
        except OSError as error:
            raise StoreError(f"{self.layout.errors} cannot be written: {error.strerror}") from error


def _sync(root: Path) -> None:
    """Bring a store to the disk, but for what evaluations saved."""
    for folder, folders, files in os.walk(root):
        if "saved" in folders and Path(folder) == root:
            folders.remove("saved")
        for name in (".", *files):
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _storable(text: str) -> str:
    """Replace what has no UTF-8: the undecodable bytes of a file's name, say."""
    return text.encode("utf-8", "replace").decode()


def _packed(values: NDArray[Any]) -> list[Any]:
    values = np.ascontiguousarray(values, dtype="<i8" if values.dtype.kind in "iub" else "<f8")
    return [values.dtype.str, list(values.shape), values.tobytes()]


def _unpacked(packed: Sequence[Any]) -> NDArray[Any]:
    dtype, shape, data = packed
    return np.frombuffer(data, dtype=dtype).reshape(shape)
