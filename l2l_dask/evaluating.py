"""One evaluation, in whatever process this is: whatever the optimizee does short of ending it becomes a record."""

from __future__ import annotations

import os
import shutil
import socket
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import EvaluationError
from l2l_dask.evaluation import Candidate, Evaluation, Objectives, Status
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.saving import save_arrays, saved_folder

CURVE = "learning_curve"  # the saved array with the (step, value) pairs of ``context.report``
_TRACEBACK = 20_000


@dataclass(frozen=True)
class Where:
    """Where an evaluation leaves what it saves.

    Attributes
    ----------
    store
        The store's folder, as the driver sees it.
    uuid
        The store's, by which a worker tells that it sees the same folder.
    epoch
        The driver's.
    needs
        Names of arrays that must travel with the result.
    """

    store: str
    uuid: str
    epoch: int
    needs: tuple[str, ...] = ()


def evaluate(optimizee: Optimizee, candidate: Candidate, where: Where, scratch: Path | None = None) -> Evaluation:
    """Evaluate one candidate in place.

    Parameters
    ----------
    optimizee
        Set up.
    where
        For the arrays it saves.
    scratch
        The folder for its working folder; the system's if None.
    """
    context = Context(candidate, scratch)
    begun = Evaluation(
        candidate.id,
        Status.FAILED,
        candidate.attempt,
        worker=str(os.getpid()),
        host=socket.gethostname(),
        started=time.time(),
    )
    try:
        ended = replace(_attempt(optimizee, candidate, context, begun), finished=time.time())
        return _with_arrays(ended, context, candidate, where)
    finally:
        if context._workdir is not None:
            shutil.rmtree(context._workdir, ignore_errors=True)


def _attempt(optimizee: Optimizee, candidate: Candidate, context: Context, begun: Evaluation) -> Evaluation:
    try:
        fitness = Objectives(optimizee.objectives).parse(optimizee.evaluate(dict(candidate.params), context))
    except EvaluationError as error:
        return replace(begun, error=f"{type(error).__name__}: {error}")
    except (Exception, SystemExit) as error:
        return replace(begun, error=described(error))
    return replace(begun, status=Status.DONE, fitness=fitness)


def _with_arrays(ended: Evaluation, context: Context, candidate: Candidate, where: Where) -> Evaluation:
    """Add what was saved and reported, also by an evaluation that failed: it helps to find out why."""
    curve = {CURVE: np.array(context.curve)} if context.curve else {}
    arrays = curve | context.saved
    stored = _store(arrays, candidate, where)
    travelling = {name: array for name, array in arrays.items() if not stored or name in where.needs}
    return replace(ended, curve=tuple(context.curve), saved=tuple(arrays), stored=stored, arrays=travelling)


def described(error: BaseException) -> str:
    """Describe an exception: one line, then the traceback."""
    said = next(line for line in traceback.format_exception_only(error) if not line.startswith(" "))
    first = " ".join(said.split())[:500]
    return f"{first}\n{''.join(traceback.format_exception(error))[-_TRACEBACK:]}"


def _store(arrays: Mapping[str, NDArray[Any]], candidate: Candidate, where: Where) -> bool:
    """Write the arrays into the store if its folder can be seen from here; False if the driver has to."""
    store = Path(where.store)
    if not arrays or not _is_the_store(store, where.uuid):
        return not arrays
    try:
        save_arrays(store / saved_folder(candidate.id, where.epoch, candidate.attempt), arrays)
    except OSError:  # read-only here, or another user's
        return False
    return True


def _is_the_store(store: Path, uuid: str) -> bool:
    try:
        return uuid in (store / "zarr.json").read_text()
    except OSError:
        return False


def missing_outputs(evaluation: Evaluation, needs: Sequence[str]) -> Evaluation:
    """Turn a result that lacks an array the optimizer needs into a failure."""
    missing = sorted(set(needs) - set(evaluation.saved))
    if evaluation.status is not Status.DONE or not missing:
        return evaluation
    reason = f"EvaluationError: the optimizer needs context.save({missing[0]!r}, ..), got {list(evaluation.saved)}"
    return replace(evaluation, status=Status.FAILED, fitness=(), error=reason)
