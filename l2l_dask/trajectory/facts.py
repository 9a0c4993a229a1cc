"""The records of the journal: made from what happened, and applied to the arrays, many at once.

The same records that are journalled are what changes the arrays, so that a journal can always be folded again. Columns
are lists, and what has its default in all rows is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Candidates, Evaluation
from l2l_dask.reports import Reports
from l2l_dask.saving import saved_folder
from l2l_dask.space import Space
from l2l_dask.trajectory.chunks import Chunks
from l2l_dask.trajectory.columns import as_stored, info_column, spread_column

Fact: TypeAlias = Mapping[str, Any]
_ALWAYS = ("status", "attempt", "worker", "host", "submitted", "started", "finished")
_SOMETIMES = ("error", "saved")


def asked(event: int, candidates: Candidates, origin: int, retry_of: Sequence[int]) -> dict[str, Any]:
    """Make the record of an ask."""
    fact: dict[str, Any] = {"kind": "ask", "event": event, "first": int(candidates.ids[0])}
    fact["x"] = np.ascontiguousarray(candidates.x, dtype="<f8").tobytes()
    if origin:
        fact["origin"] = origin
    if len(retry_of):
        fact["retry_of"] = list(map(int, retry_of))
    if candidates.info:
        fact["info"] = {name: _packed(np.asarray(values)) for name, values in candidates.info.items()}
    return fact


def results(evaluations: Sequence[Evaluation], epoch: int) -> dict[str, Any]:
    """Make the record of results."""
    fact: dict[str, Any] = {
        "kind": "results",
        "id": [e.id for e in evaluations],
        "status": [int(e.status) for e in evaluations],
        "attempt": [e.attempt for e in evaluations],
        "fitness": [e.fitness for e in evaluations],
        "worker": [_storable(e.worker) for e in evaluations],
        "host": [_storable(e.host) for e in evaluations],
        "submitted": [e.submitted for e in evaluations],
        "started": [e.started for e in evaluations],
        "finished": [e.finished for e in evaluations],
    }
    if any(e.error for e in evaluations):
        fact["error"] = [_storable(e.error.partition("\n")[0]) for e in evaluations]
    if any(e.saved for e in evaluations):
        fact["saved"] = [saved_folder(e.id, epoch, e.attempt) if e.saved else "" for e in evaluations]
    if any(e.spread for e in evaluations):
        fact["spread"] = [e.spread for e in evaluations]
    return fact


def told(event: int, ids: Sequence[int]) -> dict[str, Any]:
    """Make the record of a tell."""
    return {"kind": "tell", "event": event, "ids": list(map(int, ids))}


def observed(event: int, reports: Reports, stop: Sequence[int]) -> dict[str, Any]:
    """Make the record of an observation; it changes no array."""
    points = np.array([point for points in reports.values() for point in points], dtype="<f8")
    fact: dict[str, Any] = {"kind": "observe", "event": event, "ids": list(reports), "points": points.tobytes()}
    if len(points) != len(reports):
        fact["counts"] = [len(points) for points in reports.values()]
    if len(stop):
        fact["stop"] = list(map(int, stop))
    return fact


def apply(facts: Sequence[Fact], chunks: Chunks, space: Space) -> int:
    """Change the arrays in memory as records say, which must be in their order.

    A row is asked for before it has a result, and has that before it is told, and of two results the later holds: so
    all asks can come first, then all results, then all tells.

    Returns
    -------
    The number of rows that must exist then, as far as these records know.
    """
    end = _apply_asks([f for f in facts if f["kind"] == "ask"], chunks, space)
    _apply_results([f for f in facts if f["kind"] == "results"], chunks)
    tells = [f for f in facts if f["kind"] == "tell"]
    chunks.set(_joined(tells, "ids"), {"told": _repeated([f["event"] for f in tells], [len(f["ids"]) for f in tells])})
    return end


def _apply_asks(asks: Sequence[Fact], chunks: Chunks, space: Space) -> int:
    if not asks:
        return 0
    counts = [len(f["x"]) // (8 * space.dim) for f in asks]
    rows = _rows([f["first"] for f in asks], counts)
    end = int(rows.max()) + 1
    if end > chunks.capacity:
        chunks.resize(end)
    x = np.frombuffer(b"".join([f["x"] for f in asks]), dtype="<f8").reshape(-1, space.dim)
    values: dict[str, NDArray[Any]] = {
        "x": x,
        "params": space.natural(x),
        "asked": _repeated([f["event"] for f in asks], counts),
    }
    if any("origin" in f for f in asks):
        values["origin"] = _repeated([f.get("origin", 0) for f in asks], counts)
    chunks.set(rows, values)
    chunks.begin(rows)
    again = [f for f in asks if "retry_of" in f]
    retried = _rows([f["first"] for f in again], [len(f["retry_of"]) for f in again])
    chunks.set(retried, {"retry_of": _joined(again, "retry_of")})
    _apply_info([(f["first"], f["info"]) for f in asks if "info" in f], chunks)
    return end


def _apply_info(noted: Sequence[tuple[int, Mapping[str, Any]]], chunks: Chunks) -> None:
    """Set what optimizers noted: together what has the same name and type."""
    together: dict[tuple[Any, ...], list[tuple[int, int, bytes]]] = {}
    for first, info in noted:
        for name, (dtype, shape, data) in info.items():
            together.setdefault((name, dtype, *shape[1:]), []).append((first, shape[0], data))
    for (name, dtype, *width), parts in together.items():
        firsts, counts, data = zip(*parts, strict=True)
        values = np.frombuffer(b"".join(data), dtype=dtype).reshape(-1, *width)
        if name not in chunks.names:
            chunks.add(info_column(name, values))
        chunks.set(_rows(firsts, counts), {name: values})


def _apply_results(ended: Sequence[Fact], chunks: Chunks) -> None:
    if not ended:
        return
    ids = _joined(ended, "id")
    chunks.set(ids, {name: _column(list(_chained(ended, name))) for name in _ALWAYS})
    for name in _SOMETIMES:
        some = [f for f in ended if name in f]
        chunks.set(_joined(some, "id"), {name: _column(list(_chained(some, name)))})
    _set_given(chunks, "fitness", ended, "fitness")
    spread = [f for f in ended if "spread" in f]
    if spread and "fitness_sd" not in chunks.names:
        chunks.add(spread_column(chunks.width("fitness") or 1))
    _set_given(chunks, "fitness_sd", spread, "spread")


def _set_given(chunks: Chunks, name: str, facts: Sequence[Fact], key: str) -> None:
    """Set a column in those rows that have numbers for it."""
    given = [(id, row) for id, row in zip(_chained(facts, "id"), _chained(facts, key), strict=True) if row]
    if given:
        chunks.set(np.array([id for id, _ in given]), {name: np.array([row for _, row in given], dtype=float)})


def _column(values: list[Any]) -> NDArray[Any]:
    return np.array(values, dtype="T") if values and isinstance(values[0], str) else np.array(values)


def _chained(facts: Iterable[Fact], key: str) -> Iterable[Any]:
    return chain.from_iterable([f[key] for f in facts])


def _joined(facts: Iterable[Fact], key: str) -> NDArray[Any]:
    return np.array(list(_chained(facts, key)), dtype=np.int64)


def _repeated(values: Sequence[int], counts: Sequence[int]) -> NDArray[Any]:
    return np.repeat(np.array(values, dtype=np.int64), np.array(counts, dtype=np.int64))


def _rows(firsts: Sequence[int], counts: Sequence[int]) -> NDArray[Any]:
    """List the rows of groups that begin at ``firsts``."""
    ends = np.cumsum(np.array(counts, dtype=np.int64))
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + _repeated(np.array(firsts, dtype=np.int64) - (ends - counts), counts)  # type: ignore[arg-type]


def _storable(text: str) -> str:
    """Replace what has no UTF-8: the undecodable bytes of a file's name, say."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _packed(values: NDArray[Any]) -> list[Any]:
    values = as_stored(values)
    return [values.dtype.str, list(values.shape), values.tobytes()]
