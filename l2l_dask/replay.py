"""Exact resume: lead a fresh optimizer through the recorded events, to the state it was in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.curves import decided, observes
from l2l_dask.errors import OptimizerError, ReplayError, StoreError
from l2l_dask.evaluation import Evaluation, Evaluations, Goal, Ids, Objectives, Status
from l2l_dask.optimizer import Optimizer
from l2l_dask.reports import CURVE
from l2l_dask.saving import load_arrays
from l2l_dask.space import Floats
from l2l_dask.trajectory import FINAL, OPTIMIZER, Event, Record, Writer

_RTOL = 1e-9  # another processor differs in the last bits


def replay(optimizer: Optimizer, record: Record, root: Path, *, trusted: int = 0) -> None:
    """Ask and tell again what was asked and told, and show again what was reported.

    Parameters
    ----------
    optimizer
        As new, with the options and the seed of the first run.
    record
        What happened.
    root
        The store, for the saved arrays that the optimizer needs.
    trusted
        So many rows are not asked again: what the record says was asked is handed over, and which were stopped
        meanwhile is not compared.

    Raises
    ------
    ReplayError
        If the optimizer asks for something else than was recorded, or stops others.
    OptimizerError
        If it raises something.
    StoreError
        If a saved array that it needs cannot be read.
    """
    if optimizer.replay == "tell":
        trusted = len(record)
    past = _Past(optimizer, record, root)
    adopted = (record["origin"] != OPTIMIZER) | (np.arange(len(record)) < trusted)
    own = 0 if not trusted else int(record["asked"][trusted]) if trusted < len(record) else record.n_events
    for n, event in enumerate(record.events()):
        if not trusted and n < event.number and observes(optimizer):
            raise _changed(f"event {n}, at which it looked at learning curves, is lost")
        try:
            if event.reports is not None:
                _show_again(optimizer, event, compare=event.number >= own)
            elif event.tell:
                optimizer.tell(past.results(event.ids))
            elif adopted[event.ids[0]]:
                optimizer.adopt(event.ids.tolist(), record["x"][event.ids])
            else:
                _ask_again(optimizer, past, event)
        except (ReplayError, StoreError):
            raise
        except OptimizerError as error:
            raise _changed(f"event {event.number}: {error}") from error
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OptimizerError(
                f"the optimizer raised {reason} when event {event.number} was repeated; put it right and resume again"
            ) from error


def _ask_again(optimizer: Optimizer, past: _Past, event: Event) -> None:
    asked = optimizer.ask(len(event.ids))
    recorded = past.x[_slice(event.ids)]
    if len(asked) != len(event.ids) or asked.ids[0] != event.ids[0]:
        raise _changed(f"event {event.number} asked for {len(event.ids)} individuals, the replay for {len(asked)}")
    # Bytes are compared in no time, and differ only where the processor does.
    if asked.x.tobytes() != recorded.tobytes() and not np.allclose(asked.x, recorded, rtol=_RTOL, atol=_RTOL):
        row, dimension = np.argwhere(~np.isclose(asked.x, recorded, rtol=_RTOL, atol=_RTOL))[0]
        raise _changed(
            f"individual {event.ids[row]} was asked with x[{dimension}] = {float(recorded[row, dimension])!r}, "
            f"the replay asks for {float(asked.x[row, dimension])!r}"
        )


def _show_again(optimizer: Optimizer, event: Event, *, compare: bool) -> None:
    stop = decided(optimizer, event.reports or {})
    if compare and stop != event.stop:
        raise _changed(f"event {event.number} stopped {list(event.stop)}, the replay {list(stop)}")


def _changed(what: str) -> ReplayError:
    return ReplayError(
        f"the optimizer does not repeat what it did: {what}; its code, its options or its data changed. "
        "Put them back, or go on from the recorded results with --trust-record"
    )


class _Past:
    """Recorded results, in the form an optimizer is told."""

    def __init__(self, optimizer: Optimizer, record: Record, root: Path) -> None:
        self.x = record["x"].astype(float, copy=False)
        fitness = np.where((record["status"] == Status.DONE)[:, None], record["fitness"], np.nan)
        self._cost = optimizer.objectives.cost(fitness)
        self._saved, self._needs, self._root = record["saved"], optimizer.needs, root

    def results(self, ids: Ids) -> Evaluations:
        rows = _slice(ids)
        outputs = {name: [_output(self._root, str(self._saved[i]), name) for i in ids.tolist()] for name in self._needs}
        return Evaluations(ids, self.x[rows], self._cost[rows], outputs)


def _slice(ids: Ids) -> Any:
    """Return what selects these rows: for one row a slice, which is faster."""
    return slice(ids[0], ids[0] + 1) if len(ids) == 1 else ids


def told(
    objectives: Objectives,
    ids: Ids,
    x: NDArray[Any],
    fitness: NDArray[Any],
    outputs: Mapping[str, Sequence[NDArray[Any] | None]],
) -> Evaluations:
    """Turn fitness, in the user's directions and NaN where it failed, into what an optimizer is told."""
    return Evaluations(np.asarray(ids, dtype=np.int64), np.asarray(x, dtype=float), objectives.cost(fitness), outputs)


def _output(root: Path, folder: str, name: str) -> NDArray[Any] | None:
    path = root / folder / f"{name}.npy"
    if not folder:
        return None
    try:
        array: NDArray[Any] = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise StoreError(f"{path} cannot be read, and the optimizer needs it: {reason}") from error
    return array


@dataclass(frozen=True)
class Proposed:
    """An individual that is not told yet; ``final`` is the event at which the best were evaluated again, if so."""

    x: Floats
    info: Mapping[str, Any]
    final: int | None


def proposed(record: Record, id: int) -> Proposed:
    """Return a recorded individual as it was proposed."""
    return Proposed(
        record["x"][id], record.info(id), int(record["asked"][id]) if record["origin"][id] == FINAL else None
    )


def reached(goal: Goal | None, record: Record) -> bool:
    """Tell whether an earlier driver reached the goal."""
    return goal is not None and any(goal.met(f) for f in record["fitness"][record["status"] == Status.DONE].tolist())


def result(writer: Writer, id: int, needs: tuple[str, ...], *, curve: bool = False) -> Evaluation:
    """Rebuild a result that is recorded and that the optimizer was not told, with its learning curve if needed."""
    record = writer.record
    status, folder = Status(int(record["status"][id])), str(record["saved"][id])
    fitness = tuple(record["fitness"][id].tolist()) if status is Status.DONE else ()
    arrays = load_arrays(writer.layout.root / folder) if (needs or curve) and folder else {}
    points = tuple((float(step), float(value)) for step, value in arrays[CURVE]) if curve and CURVE in arrays else ()
    return Evaluation(id, status, int(record["attempt"][id]), fitness, curve=points, arrays=arrays)
