"""Writing a trajectory: every fact goes into the journal first, and is folded into the Zarr arrays soon after."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import OptimizerError, StoreError
from l2l_dask.evaluation import Candidates, Evaluation, Objectives
from l2l_dask.reports import Reports
from l2l_dask.saving import DEAR, save_arrays, saved_folder
from l2l_dask.space import Space
from l2l_dask.trajectory import columns, facts
from l2l_dask.trajectory.files import chunks_of
from l2l_dask.trajectory.journal import Journal
from l2l_dask.trajectory.layout import FORMAT, State, open_layout, read_json, write_json
from l2l_dask.trajectory.lease import acquire
from l2l_dask.trajectory.live import Live
from l2l_dask.trajectory.opening import open_arrays
from l2l_dask.trajectory.reader import Trajectory, load

_SEGMENT_BYTES = 16 << 20  # of the journal; what opening a store has to fold
_BACKLOG = 3000  # records that are held before they change the arrays in memory
_SHARE = 20  # a lazy fold takes no more than one part in so many of the time,
_REST = 3.0  # but readers wait no longer than so many seconds


class Writer:
    """The one writer of a store.

    Opening it takes the store's lease, brings its arrays up to date from the journal, or makes them anew where they are
    damaged, and starts a journal of its own.

    Attributes
    ----------
    record : Record
        All that was known when it was opened.
    live : Live
        For word of what runs just now.

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
        self.epoch, self._segment = self._lease.epoch, 0
        self._backlog: list[facts.Fact] = []
        self._noted: dict[str, tuple[str, tuple[int, ...]]] = {}
        self._rest_until = 0.0
        try:
            self._forget_commands()
            self.live = Live(self.layout)
            with columns.reading(self.layout.root, remedy=""):
                objectives = Objectives(self.described["experiment"]["objectives"])
            opened = open_arrays(self.layout, space, objectives, self._lease.check)
            self._chunks, self.record = opened.chunks, opened.record
            self._rows, self._n_observed = len(self.record), len(self.record.observed)
            self._journal = self._start_segment(opened.before)
        except BaseException:
            self._lease.release()
            raise

    def _start_segment(self, before: Sequence[int] | None) -> Journal:
        """Start a file of the journal; all that older ones say is in the arrays, and these are on the disk."""
        self._lease.check()
        path = self.layout.journal(self.epoch, self._segment)
        try:
            journal = Journal(path)
        except OSError as error:
            raise StoreError(f"{path} cannot be written: {error.strerror}") from error
        header = {"kind": "epoch", "epoch": self.epoch, "segment": self._segment, "format": FORMAT, "before": before}
        there: dict[str, Any] = {"rows": self._rows, "chunks": chunks_of(self.layout.root, self._chunks.names)}
        if self._n_observed:
            there["observed"] = self._n_observed
        try:
            journal.start(header | there)
        except StoreError:
            journal.close()
            raise
        return journal

    def reserve(self, capacity: int) -> None:
        """Make the arrays hold ``capacity`` rows."""
        if capacity > self._chunks.capacity:
            self._chunks.resize(capacity)

    def trust(self) -> None:
        """Note that the optimizer cannot repeat how the rows so far were asked, and takes them as they are."""
        try:
            write_json(self.layout.trusted, {"rows": len(self.record)}, durable=True)
        except OSError as error:
            raise StoreError(f"{self.layout.trusted} cannot be written: {error.strerror}") from error

    @property
    def trusted_rows(self) -> int:
        """The number of rows that are taken as they are."""
        return int((read_json(self.layout.trusted) or {}).get("rows", 0))

    def asked(self, event: int, candidates: Candidates, origin: int, retry_of: Sequence[int] = ()) -> None:
        """Record an ask, as event number ``event``; ``retry_of`` names the rows that are evaluated again."""
        for name, values in candidates.info.items():
            if self._noted.get(name) != (values.dtype.kind, values.shape[1:]):
                self._note(name, np.asarray(values))
        self._rows = max(self._rows, int(candidates.ids[-1]) + 1)
        self._enter(facts.asked(event, candidates, origin, retry_of))

    def results(self, evaluations: Sequence[Evaluation]) -> None:
        """Record results; their arrays must be in place and error texts go to a file beside."""
        self._note_errors(evaluations)
        self._enter(facts.results(evaluations, self.epoch))

    def told(self, event: int, ids: Sequence[int]) -> None:
        """Record a tell, as event number ``event``."""
        self._enter(facts.told(event, ids))

    def observed(self, event: int, reports: Reports, stop: Sequence[int]) -> None:
        """Record what the optimizer saw of learning curves, as event number ``event``, and whom it wants stopped."""
        self._n_observed += 1
        self._journal.add(facts.observed(event, reports, stop))

    def commit(self, *, durable: bool) -> None:
        """Append to the journal what was recorded since the last time: nothing of it is lost from here on."""
        self._journal.append(durable=durable)

    def fold(self, *, lazily: bool = False) -> None:
        """Write the arrays; what was recorded goes into the journal before, and that to the disk.

        Parameters
        ----------
        lazily
            Leave the arrays for later if writing them was costly and not long ago: where thousands are in flight that
            take very different times, much changes in many chunks.

        Raises
        ------
        LockedError
            If the store is no longer ours.
        StoreError
            If it cannot be written.
        """
        self._lease.check()
        # After a crash of the machine the arrays must not hold what the journal does not.
        self.commit(durable=True)
        begun = time.monotonic()
        if lazily and begun < self._rest_until:
            return
        self._apply()
        self._chunks.flush()
        if self._journal.size > _SEGMENT_BYTES:
            self._rotate()
        ended = time.monotonic()
        self._rest_until = ended + min(_REST, (_SHARE - 1) * (ended - begun))

    def _forget_commands(self) -> None:
        """Remove what was said to an earlier driver."""
        try:
            self.layout.control.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.layout.control} cannot be removed: {error.strerror}") from error

    def _rotate(self) -> None:
        """Go on in another file of the journal, so that opening the store has little to fold."""
        self._chunks.sync()
        before = (self.epoch, self._segment, self._journal.size)
        self._segment += 1
        try:
            following = self._start_segment(before)
        except StoreError:
            self._segment -= 1
            raise
        self._journal.close()
        self._journal = following

    def keep(self, evaluation: Evaluation) -> None:
        """Write the arrays that came with a result, where its worker could not."""
        folder = self.layout.root / saved_folder(evaluation.id, self.epoch, evaluation.attempt)
        try:
            save_arrays(folder, evaluation.arrays, durable=evaluation.seconds > DEAR)
        except OSError as error:
            raise StoreError(f"{folder} cannot be written: {error.strerror}") from error

    def set_state(self, state: State, **more: Any) -> None:
        """Say what the experiment is doing."""
        self._lease.check()
        try:
            write_json(self.layout.state, {"state": state, "epoch": self.epoch, **more}, durable=True)
        except OSError as error:
            raise StoreError(f"{self.layout.state} cannot be written: {error.strerror}") from error

    def close(self, *, trim: bool = True) -> None:
        """Fold, cut the arrays to the rows in use if ``trim``, and give the store back."""
        try:
            self.fold()
            if trim:
                self._chunks.resize(max(self._rows, 1))
            self._chunks.sync()
        finally:
            self.live.remove()
            self._journal.close()
            self._lease.release()

    def abandon(self) -> None:
        """Give the store back as it is, after an error."""
        self._journal.close()
        self._lease.release()

    def _note(self, name: str, values: NDArray[Any]) -> None:
        """Check what an optimizer names, and make an array for it if there is none.

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
        column = columns.info_column(name, values)
        if name not in self._chunks.names:
            self._chunks.add(column)
        width = self._chunks.width(name)
        if width != (column.width if column.dimension else None):
            raise OptimizerError(f"info {name!r}: expected as many values for each individual as before, {width}")
        if values.dtype.kind == "f" and self._chunks.is_integer(name):
            raise OptimizerError(
                f"info {name!r}: expected integers as before, got {values.dtype}; note floats from the start"
            )
        self._noted[name] = values.dtype.kind, values.shape[1:]

    def _enter(self, fact: dict[str, Any]) -> None:
        self._journal.add(fact)
        self._backlog.append(fact)
        if len(self._backlog) >= _BACKLOG:
            self._apply()

    def _apply(self) -> None:
        """Change the arrays in memory: by many records at once, which costs a fraction of one by one."""
        facts.apply(self._backlog, self._chunks, self._space)
        self._backlog.clear()  # not before: what could not be applied is applied again

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


def mended(store: str | os.PathLike[str]) -> Trajectory:
    """Read a store; where its arrays are damaged, they are made anew from the journal first.

    Raises
    ------
    StoreError
        If there is none, or it cannot be mended.
    LockedError
        If it is damaged and its driver is alive.
    """
    try:
        return load(store)
    except columns.DamagedError:
        layout, described = open_layout(store)
        with columns.reading(layout.root, remedy=""):
            space = Space.from_dict(described["experiment"]["space"])
        Writer(layout.root, space).close(trim=False)
        return load(store)
