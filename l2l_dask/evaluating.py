"""One evaluation, in whatever process this is: whatever the optimizee does short of ending it becomes a record."""

from __future__ import annotations

import os
import shutil
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from l2l_dask import bundle
from l2l_dask.errors import EvaluationError
from l2l_dask.evaluation import Candidate, Evaluation, Objectives, Status
from l2l_dask.optimizee import Context, Optimizee
from l2l_dask.reports import CURVE, Listener, Report, Stopped
from l2l_dask.saving import DEAR, save_arrays, saved_folder

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
    reports
        Whether what it reports is to be sent while it runs.
    """

    store: str
    uuid: str
    epoch: int
    needs: tuple[str, ...] = ()
    reports: bool = False


def evaluate(optimizee: Optimizee, candidate: Candidate, where: Where, scratch: Path | None = None) -> Evaluation:
    """Evaluate one candidate in place, as :func:`evaluate_all` does."""
    return evaluate_all(optimizee, [candidate], where, scratch)[0]


def evaluate_all(
    optimizee: Optimizee,
    candidates: Sequence[Candidate],
    where: Where,
    scratch: Path | None = None,
    listener: Listener | None = None,
) -> list[Evaluation]:
    """Evaluate candidates in place, as often as each is to be; one that failed is not repeated.

    Parameters
    ----------
    optimizee
        Set up.
    where
        For the arrays it saves.
    scratch
        The folder for working folders; the system's if None.
    listener
        Called with each report as it is made; says whether the individual is to stop.
    """
    book = bundle.Book(candidates, optimizee.batch_size)
    while not book.over:
        unit = book.units()[0]
        book.begin([bundle.key(job) for job in unit])
        book.end(evaluate_unit(optimizee, unit, where, scratch, listener))
    return book.results()


def evaluate_unit(
    optimizee: Optimizee,
    unit: Sequence[Candidate],
    where: Where,
    scratch: Path | None = None,
    listener: Listener | None = None,
) -> list[Evaluation]:
    """Evaluate each candidate once, all at the same time where the optimizee takes several.

    Where that fails they are evaluated one by one, each from the start, to find out which is to blame.
    """
    if len(unit) > 1 and optimizee.batch_size > 1:
        ended = _together(optimizee, unit, where, scratch, listener)
        if ended is not None:
            return ended
    return [_alone(optimizee, candidate, where, scratch, listener) for candidate in unit]


@contextmanager
def _contexts(
    candidates: Sequence[Candidate], scratch: Path | None, listener: Listener | None
) -> Iterator[list[Context]]:
    """Make contexts for one try; the arrays in them are its own, and so are the working folders, for its duration."""
    contexts = [Context(replace(c, params=_own(c.params), info=_own(c.info)), scratch) for c in candidates]
    if listener is not None:
        heard = _heard(contexts, listener)
        for context in contexts:
            context._listener = heard
    try:
        yield contexts
    finally:
        for context in contexts:
            context._listener = None
            if context._workdir is not None:
                shutil.rmtree(context._workdir, ignore_errors=True)


def _heard(contexts: Sequence[Context], listener: Listener) -> Callable[[Context], None]:
    """Make what is called at each report: it ends the evaluation when all in it are stopped."""
    me = os.getpid()

    def heard(context: Context) -> None:
        if os.getpid() != me:  # a process that the optimizee forked has no say
            return
        if not context.stopped:
            points = () if context.repeat else (context.curve[-1],)
            context.stopped = listener(Report(context.id, len(context.curve) - 1, points))
        if context.stopped and all(c.stopped for c in contexts):
            raise Stopped("this individual was stopped early")

    return heard


def _own(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in values.items()}


def _begin() -> Evaluation:
    return Evaluation(
        0, Status.FAILED, worker=str(os.getpid()), host=_host(), started=time.time(), finished=time.perf_counter()
    )


def _alone(
    optimizee: Optimizee, candidate: Candidate, where: Where, scratch: Path | None, listener: Listener | None
) -> Evaluation:
    """Evaluate one parameter set."""
    with _contexts([candidate], scratch, listener) as contexts:
        (context,), begun = contexts, _begin()
        try:
            if optimizee.batch_size == 1:
                returned = called(optimizee.evaluate, dict(context.candidate.params), context)
            else:
                (returned,) = _batch(optimizee, contexts)
            ended = _judged(optimizee, context, begun, returned)
        except Stopped:
            ended = _ended(begun, context)
        except EvaluationError as error:
            ended = _ended(begun, context, error=f"{type(error).__name__}: {error}")
        except (Exception, SystemExit) as error:
            ended = _ended(begun, context, error=described(error))
        if context.stopped:  # an optimizee that went on all the same was not given its time, whatever it made of it
            ended = replace(ended, status=Status.STOPPED, fitness=(), error="")
        return _kept(context, where, ended)


def _together(
    optimizee: Optimizee, unit: Sequence[Candidate], where: Where, scratch: Path | None, listener: Listener | None
) -> list[Evaluation] | None:
    """Evaluate several at once; None where that fails, and why is printed."""
    with _contexts(unit, scratch, listener) as contexts:
        begun = _begin()
        try:
            returned = _batch(optimizee, contexts)
        except Stopped:
            returned = [None] * len(contexts)
        except EvaluationError as error:
            print(f"EvaluationError: {error}", file=sys.stderr)
            return None
        except (Exception, SystemExit) as error:
            traceback.print_exception(error)
            return None
        ended = [_judged(optimizee, c, begun, r) for c, r in zip(contexts, returned, strict=True)]
        return [_kept(c, where, e) for c, e in zip(contexts, ended, strict=True)]


def _batch(optimizee: Optimizee, contexts: Sequence[Context]) -> list[Any]:
    """Evaluate several at once; one value for each is what must come of it."""
    returned = called(optimizee.evaluate_batch, [dict(c.candidate.params) for c in contexts], contexts)
    expected = f"evaluate_batch: expected a sequence of {len(contexts)}, one entry per parameter set"
    if isinstance(returned, str | bytes | Mapping | AbstractSet):
        raise EvaluationError(f"{expected}, got a {type(returned).__name__}")
    try:
        n, values = len(returned), list(returned)
    except TypeError:
        raise EvaluationError(f"{expected}, got a {type(returned).__name__}") from None
    if n != len(contexts):
        raise EvaluationError(f"{expected}, got {n}")
    return values


def called(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what the user wrote; a fork that comes back from there ends here, as nothing beyond is its own."""
    me = os.getpid()
    try:
        return function(*arguments)
    finally:
        if os.getpid() != me:
            with suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(0)


def _judged(optimizee: Optimizee, context: Context, begun: Evaluation, returned: Any) -> Evaluation:
    if context.stopped and returned is None:
        return _ended(begun, context)
    given = optimizee.objectives
    try:
        objectives = given if isinstance(given, Objectives) else Objectives(given)
        return _ended(begun, context, fitness=objectives.parse(returned))
    except EvaluationError as error:
        return _ended(begun, context, error=f"{type(error).__name__}: {error}")


def _ended(begun: Evaluation, context: Context, fitness: tuple[float, ...] = (), error: str = "") -> Evaluation:
    """Fill in what came of it: stopped, if nothing; the end is told by a clock that nobody sets."""
    nothing = Status.FAILED if error else Status.STOPPED
    took = time.perf_counter() - begun.finished
    return replace(
        begun,
        id=context.id,
        attempt=context.attempt,
        status=Status.DONE if fitness else nothing,
        fitness=fitness,
        error=error,
        finished=begun.started + took,
        stored=True,
    )


@cache
def _host() -> str:
    return socket.gethostname()


def _kept(context: Context, where: Where, ended: Evaluation) -> Evaluation:
    """Add what was saved and reported, also by an evaluation that failed: it helps to find out why.

    Of several evaluations of one individual, it is what the first one saved.
    """
    if context.repeat or not (context.curve or context.saved):
        return ended
    curve = {CURVE: np.array(context.curve)} if context.curve else {}
    arrays = curve | context.saved
    stored = _store(arrays, context.candidate, where, durable=ended.seconds > DEAR)
    travelling = {name: array for name, array in arrays.items() if not stored or name in where.needs}
    return replace(ended, curve=tuple(context.curve), saved=tuple(arrays), stored=stored, arrays=travelling)


def described(error: BaseException) -> str:
    """Describe an exception: one line, then the traceback."""
    said = next(line for line in traceback.format_exception_only(error) if not line.startswith(" "))
    first = " ".join(said.split())[:500]
    return f"{first}\n{''.join(traceback.format_exception(error))[-_TRACEBACK:]}"


def _store(arrays: Mapping[str, NDArray[Any]], candidate: Candidate, where: Where, *, durable: bool) -> bool:
    """Write the arrays into the store if its folder can be seen from here; False if the driver has to."""
    store = Path(where.store)
    if not _is_the_store(store, where.uuid):
        return False
    try:
        save_arrays(store / saved_folder(candidate.id, where.epoch, candidate.attempt), arrays, durable=durable)
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
