"""Reading a trajectory, running or ended, from any process: this never writes, and never sees half a row."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from numpy.typing import NDArray

from l2l_dask.errors import StoreError
from l2l_dask.evaluation import Objectives, Status
from l2l_dask.optimizee import Target
from l2l_dask.pareto import non_dominated
from l2l_dask.saving import load_arrays
from l2l_dask.space import Categorical, Floats, Integer, Params, Space
from l2l_dask.trajectory.columns import LABELS, quiet_zarr, reading, rows_in_use
from l2l_dask.trajectory.layout import Layout, State, open_layout, read_json, read_lease
from l2l_dask.trajectory.lease import PATIENCE, holder_is_gone
from l2l_dask.trajectory.record import FINAL, OPTIMIZER, Record

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

# What a row without a result holds: masked where results were written and its status was not yet.
UNTOLD_FILL: dict[str, Any] = {
    "fitness": np.nan,
    "fitness_sd": np.nan,
    "told": -1,
    "attempt": 0,
    "error": "",
    "saved": "",
    "worker": "",
    "host": "",
} | dict.fromkeys(("submitted", "started", "finished"), np.nan)


@dataclass(frozen=True)
class Individual:
    """One row, in words.

    Attributes
    ----------
    repeats_of
        The row that it evaluates again, at the end or because that failed.
    sd
        Where it was evaluated several times: the standard deviation of each objective; ``fitness`` is the mean then.
    """

    id: int
    status: Status
    fitness: dict[str, float]
    params: Params
    repeats_of: int | None = None
    sd: dict[str, float] | None = None


@dataclass(frozen=True)
class Trajectory:
    """A consistent view of a store at one moment.

    Attributes
    ----------
    layout
        Where it is.
    experiment
        What was run, as recorded at its start.
    space, objectives
        What was searched, and for what.
    record
        All rows that were asked.
    state
        What the driver is doing, or did last; ``interrupted`` if it said "running" and is gone.
    details
        What the driver said beside its state: ``evaluations`` (the budget), ``reason``, ...
    """

    layout: Layout
    experiment: Mapping[str, Any]
    space: Space
    objectives: Objectives
    record: Record
    state: State
    details: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.record)

    def counts(self) -> dict[str, int]:
        """Count the rows by status: ``total`` and one entry for each status."""
        status = self.record["status"]
        return {"total": len(self)} | {s.label: int((status == s).sum()) for s in Status}

    @cached_property
    def cost(self) -> Floats:
        """Fitness as costs, always minimised: (n, n_objectives), NaN where there is none."""
        return self.objectives.cost(self.record["fitness"])

    @property
    def best(self) -> Individual | None:
        """The best individual, by the first objective and, of equals, by the next; None before the first.

        Where the best were evaluated again at the end, it is the best of those: by what came of that, since to be the
        best of many is luck too.
        """
        return next(iter(self.ranking(1)), None)

    def ranking(self, k: int) -> list[Individual]:
        """Return the ``k`` best individuals, in the order of the objectives: those evaluated again at the end first."""
        first, final = self.cost[:, 0], self._is_final
        rows = np.flatnonzero(~np.isnan(first))
        others = first[rows[~final[rows]]]
        if 0 < k < len(others):  # to sort a million for a few takes long
            rows = rows[final[rows] | (first[rows] <= np.partition(others, k - 1)[k - 1])]
        order = np.lexsort((*self.cost[rows].T[::-1], ~final[rows]))
        return [self.individual(i) for i in rows[order][:k].tolist()]

    @property
    def front(self) -> list[Individual]:
        """The Pareto front: those that no other beats in all objectives, in the order of the first objective.

        With one objective, all that are as good as the best of the search.
        """
        cost = np.where((self.record["origin"] == FINAL)[:, None], np.nan, self.cost)
        ids = np.flatnonzero(non_dominated(cost))
        return [self.individual(i) for i in ids[np.lexsort(cost[ids].T[::-1])].tolist()]

    @cached_property
    def _is_final(self) -> NDArray[np.bool_]:
        """Tell which rows re-evaluate the best, in the round after which nothing new was asked for."""
        origin, asked = self.record["origin"], self.record["asked"]
        last = asked[origin == OPTIMIZER].max(initial=-1)
        final: NDArray[np.bool_] = (origin == FINAL) & (asked > last)
        return final

    def individual(self, id: int) -> Individual:
        """Return one individual."""
        if not 0 <= id < len(self):
            raise StoreError(f"{self.layout.root} has individuals 0 to {len(self) - 1}, not {id}")
        record, names = self.record, self.objectives.names
        fitness = dict(zip(names, record["fitness"][id].tolist(), strict=True))
        params = self.space.params(record["params"][id])
        again = int(record["retry_of"][id])
        spread = record["fitness_sd"][id].tolist() if "fitness_sd" in record.columns else [math.nan]
        sd = None if all(map(math.isnan, spread)) else dict(zip(names, spread, strict=True))
        return Individual(
            id, Status(int(record["status"][id])), fitness, params, repeats_of=again if again >= 0 else None, sd=sd
        )

    def saved(self, id: int) -> dict[str, NDArray[Any]]:
        """Load the arrays that an individual saved, by name."""
        folder = str(self.record["saved"][id])
        if not folder:
            return {}
        return load_arrays(self.layout.root / folder)

    def targets(self) -> dict[str, Target]:
        """Load what saved arrays should look like, by name."""
        axes = read_json(self.layout.targets / "axes.json") or {}
        values = load_arrays(self.layout.targets)
        return {name: Target(values[name], *axis) for name, axis in axes.items() if name in values}

    def error(self, id: int) -> str:
        """Return why an individual failed: the whole traceback and what was printed; empty if it did not."""
        text = str(self.record["error"][id])
        if not text:
            return ""
        try:
            lines = self.layout.errors.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return text  # the first line is all that is left
        except OSError as error:
            raise StoreError(f"{self.layout.errors} cannot be read: {error.strerror}") from error
        for line in lines:
            try:
                entry = json.loads(line)
                if entry["id"] == id:
                    text = str(entry["error"])
            except (ValueError, KeyError, TypeError):
                continue  # empty, or torn by a crash: the row was then evaluated again
        return text

    def to_xarray(self) -> xr.Dataset:
        """Return all rows as a dataset with the dimensions evaluation, parameter, dimension and objective."""
        import xarray as xr

        variables: dict[str, Any] = {}
        for name, (dimensions, described) in _dimensions(self.layout).items():
            attributes = {key: json.dumps(v) if isinstance(v, dict) else v for key, v in described.items()}
            if name in self.record.columns:
                values = self.record[name]
                variables[name] = (
                    dimensions,
                    values.astype(object) if values.dtype.kind == "T" else values,
                    attributes,
                )
        coordinates = {
            "evaluation": np.arange(len(self)),
            "parameter": list(self.space.labels),
            "objective": list(self.objectives.names),
        }
        return xr.Dataset(variables, coords=coordinates, attrs={"l2l_dask": json.dumps(dict(self.experiment))})

    def to_dataframe(self) -> pd.DataFrame:
        """Return a table with a row per individual: categoricals as their choices, inactive parameters as missing.

        Objectives and parameters keep their names: where two columns would share one, the parameter is ``params.NAME``,
        and what the record holds beside (``error``, ``worker``, ...) is ``record.NAME``.
        """
        import pandas as pd

        record, users = self.record, {*self.objectives.names, *self.space.labels}
        status = "record.status" if "status" in users else "status"
        table: dict[str, Any] = {status: [Status(s).label for s in record["status"].tolist()]}
        for j, name in enumerate(self.objectives.names):
            table[name] = record["fitness"][:, j]
        j = 0
        for p in self.space.values():
            for label in self.space.labels[j : j + p.size]:
                table[f"params.{label}" if label in self.objectives.names else label] = _natural(
                    p, record["params"][:, j]
                )
                j += 1
        for j, name in enumerate(self.objectives.names if "fitness_sd" in record.columns else ()):
            table[f"record.{name}_sd" if f"{name}_sd" in users else f"{name}_sd"] = record["fitness_sd"][:, j]
        for name, values in record.columns.items():
            if name in ("x", "params", "fitness", "status", "fitness_sd"):
                continue
            plain = values.astype(object) if values.dtype.kind == "T" else values
            for c, column in enumerate(plain.T if plain.ndim == 2 else [plain]):
                label = f"{name}[{c}]" if plain.ndim == 2 else name
                table[f"record.{label}" if label in users or label in table else label] = column
        frame = pd.DataFrame(table)
        frame.index.name = "id"
        return frame


def _natural(p: Any, values: Floats) -> Any:
    import pandas as pd

    if isinstance(p, Categorical):
        return pd.Series([None if math.isnan(v) else p.choices[int(v)] for v in values.tolist()], dtype=object)
    return pd.Series(values).astype("Int64") if isinstance(p, Integer) else values


def _dimensions(layout: Layout) -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    with quiet_zarr():
        group = zarr.open_group(layout.root, mode="r")
        return {
            name: (tuple(array.metadata.to_dict()["dimension_names"]), dict(array.attrs))  # type: ignore[arg-type]
            for name, array in group.arrays()
        }


def load(store: str | os.PathLike[str]) -> Trajectory:
    """Read a store.

    Raises
    ------
    StoreError
        If there is none, or it is damaged or of another version.
    """
    layout, described = open_layout(store)
    with reading(layout.root):
        record = _read_whole(layout)
        experiment = described["experiment"]
        space, objectives = Space.from_dict(experiment["space"]), Objectives(experiment["objectives"])
    state, details = standing(layout)
    return Trajectory(layout, experiment, space, objectives, record, state, details)


def look(store: str | os.PathLike[str]) -> tuple[str, State]:
    """Tell which store this is and what its driver does, without reading what was tried.

    Returns
    -------
    The store's ``uuid``, and its state.
    """
    layout, described = open_layout(store)
    return str(described["uuid"]), standing(layout)[0]


def standing(layout: Layout) -> tuple[State, dict[str, Any]]:
    """Tell what the driver of a store does, and what it said beside.

    Raises
    ------
    StoreError
        If that cannot be read.
    """
    try:
        details = _details(layout)
        state = _state(layout, details)
        if state == "interrupted":  # unless it said how it ends, and then ended, between our two looks
            details = _details(layout)
            state = _state(layout, details)
        return state, details
    except OSError as error:
        raise StoreError(f"{error.filename or layout.root} cannot be read: {error.strerror}") from error


def _read_whole(layout: Layout) -> Record:
    """Read again if the arrays were made anew meanwhile: they are empty at first."""
    while True:
        before = which(layout)
        record = _read(layout)
        if which(layout) == before:
            return record


def which(layout: Layout) -> tuple[int, int, int]:
    """Tell the arrays of a store from those that a driver makes anew: that is done in a new epoch, in a new folder."""
    if layout.rebuilding.exists():
        raise RuntimeError("its arrays were damaged, and are not whole again")
    status = (layout.root / "status").stat()
    return max(layout.epochs(), default=0), status.st_ino, status.st_mtime_ns


def _read(layout: Layout) -> Record:
    """Load ``status`` first, and mask the rest by it: what it calls finished was written before it."""
    with quiet_zarr():
        group = zarr.open_group(layout.root, mode="r")
        status = np.asarray(group["status"][:])  # type: ignore[index]
        n = rows_in_use(status)
        columns = {name: np.asarray(array[:n]) for name, array in group.arrays() if name not in (*LABELS, "status")}
    columns["status"] = status[:n]
    pending = columns["status"] == Status.PENDING
    for name in UNTOLD_FILL.keys() & columns.keys():
        columns[name][pending] = UNTOLD_FILL[name]
    return Record(columns)


def _details(layout: Layout) -> dict[str, Any]:
    try:
        return read_json(layout.state) or {}
    except StoreError as error:
        return {"state": "interrupted", "reason": str(error)}  # damaged: the budget is the recorded one


def _state(layout: Layout, details: Mapping[str, Any]) -> State:
    state: State = details.get("state", "queued")
    if state not in ("running", "paused"):
        return state
    lease = read_lease(layout)
    if lease is None:
        return state
    gone = holder_is_gone(lease)
    if gone is None:
        gone = time.time() - layout.lease.stat().st_mtime > 2 * PATIENCE
    return "interrupted" if gone else state
