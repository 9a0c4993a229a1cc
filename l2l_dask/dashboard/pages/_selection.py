"""The individuals that are chosen on a page, by id, and those that a source draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from bokeh.models import ColumnDataSource

from l2l_dask.evaluation import Ids
from l2l_dask.trajectory import Trajectory

MOST_KEPT = 200  # of those chosen, that are always drawn
_NONE: Ids = np.empty(0, dtype=np.int64)


class Selection:
    """The individuals chosen on a page, by id: to choose some in one plot chooses them in all.

    Parameters
    ----------
    holds
        Tells whether ids still mean what they meant.
    """

    def __init__(self, holds: Callable[[], bool] = lambda: True) -> None:
        self._holds = holds
        self.ids: Ids = _NONE
        self._sources: list[ColumnDataSource] = []
        self._listeners: list[Callable[[Ids], None]] = []
        self._at_work = False

    def join(self, source: ColumnDataSource) -> None:
        """Take part with a source that has a column ``id``."""
        self._sources.append(source)

        def chosen(attr: str, old: Any, new: list[int]) -> None:  # noqa: ARG001  (Bokeh asks for these names)
            if not self._at_work and self._holds():
                self.choose(np.asarray(source.data["id"], dtype=np.int64)[new])

        source.selected.on_change("indices", chosen)

    def listen(self, listener: Callable[[Ids], None]) -> None:
        """Call when the choice changes."""
        self._listeners.append(listener)

    def choose(self, ids: Iterable[int]) -> None:
        """Choose these individuals, and no others."""
        self.ids = np.unique(np.asarray(list(ids) if not isinstance(ids, np.ndarray) else ids, dtype=np.int64))
        for source in self._sources:
            self.mark(source)
        for listener in self._listeners:
            listener(self.ids)

    def mark(self, source: ColumnDataSource) -> None:
        """Mark in a source what is chosen."""
        here = np.asarray(source.data["id"], dtype=np.int64)
        indices = np.flatnonzero(np.isin(here, self.ids)).tolist() if len(self.ids) else []
        self._at_work = True
        try:
            if source.selected.indices != indices:
                source.selected.indices = indices
        finally:
            self._at_work = False


class Sample:
    """The individuals that a source draws: all, or every second, fourth, ..., and some that always are.

    Parameters
    ----------
    columns
        What to draw of given individuals; it leaves the column ``id`` to this.
    """

    def __init__(self, columns: Callable[[Trajectory, Ids], dict[str, Any]], selection: Selection, most: int) -> None:
        self._columns, self._selection, self._most = columns, selection, most
        self._step = 0
        self.source = ColumnDataSource()
        self.of = 0

    def __len__(self) -> int:
        return len(self.source.data.get("id", ()))

    def update(self, trajectory: Trajectory, always: Ids = _NONE, *, again: bool = False) -> None:
        """Draw what is new, by sending it alone where that is enough.

        Parameters
        ----------
        always
            Individuals that are not left out.
        again
            Draw all anew: the columns mean something else now.
        """
        step = 1
        while len(trajectory) > self._most * step:
            step *= 2
        chosen = self._selection.ids[:MOST_KEPT]
        ids = np.unique(np.concatenate([np.arange(0, len(trajectory), step), always, chosen]))
        ids = ids[np.isfinite(trajectory.cost[ids]).all(axis=1)]
        before = np.asarray(self.source.data.get("id", ()), dtype=np.int64)
        new = np.setdiff1d(ids, before)
        if again or step != self._step or not len(before) or len(before) + len(new) > 2 * self._most:
            self._step = step
            self._replace(trajectory, ids)
        elif len(new):
            self.source.stream(self._of(trajectory, new))
            if len(self._selection.ids):
                self._selection.mark(self.source)

    def _replace(self, trajectory: Trajectory, ids: Ids) -> None:
        first = not self.source.data
        self.source.data = self._of(trajectory, ids)
        if first:
            self._selection.join(self.source)
        self._selection.mark(self.source)

    def _of(self, trajectory: Trajectory, ids: Ids) -> dict[str, Any]:
        return {"id": ids, **self._columns(trajectory, ids)}
