"""The driver: carries out what the loop decides, on an executor and a trajectory."""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np

from l2l_dask import loop
from l2l_dask.aside import Aside
from l2l_dask.curves import decided, observes
from l2l_dask.errors import L2LError, OptimizerError
from l2l_dask.evaluating import described, missing_outputs
from l2l_dask.evaluation import Candidate, Candidates, Evaluation, Sampling, Status
from l2l_dask.executors import Executor
from l2l_dask.finalists import Finalists
from l2l_dask.optimizer import Optimizer
from l2l_dask.progress import Meter, Progress
from l2l_dask.replay import Proposed, proposed, reached, result, told
from l2l_dask.reports import Report, Reports
from l2l_dask.saving import DEAR
from l2l_dask.space import Floats
from l2l_dask.trajectory import FINAL, OPTIMIZER, Writer
from l2l_dask.trajectory.columns import as_stored
from l2l_dask.trajectory.layout import sent
from l2l_dask.watching import Watch

_log = logging.getLogger(__name__)

_FOLD = 1.0  # seconds between two writes of the arrays
_LOOK = 0.5  # seconds between two looks at the control file
_WAIT = 0.2
_LONG = 1.0  # seconds that the optimizer may take before it counts as one that wants nothing meanwhile


class Driver:
    """Runs one experiment from what is recorded to its end.

    Parameters
    ----------
    optimizer
        In the state that the record describes.
    executor
        Started.
    writer
        Of the trajectory; its record says what happened before.
    policy
        The user's.
    sampling
        How often individuals are evaluated.
    wall_time
        Seconds after which no more is asked; None for no limit.
    details
        What the store's state is to say beside it.
    on_progress
        Called a few times a second, on the driver's thread.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        executor: Executor,
        writer: Writer,
        policy: loop.Policy,
        *,
        sampling: Sampling | None = None,
        wall_time: float | None = None,
        details: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], None] | None = None,
    ) -> None:
        self._optimizer, self._executor, self._writer, self._policy = optimizer, executor, writer, policy
        self._sampling = sampling or Sampling()
        self._deadline = math.inf if wall_time is None else time.monotonic() + wall_time
        self._on_progress = on_progress
        record = writer.record
        self._event = record.n_events
        self._details = dict(details or {"evaluations": policy.evaluations})
        pending, untold = record.pending.tolist(), record.untold.tolist()
        goal = f"{policy.goal} was reached" if reached(policy.goal, record) else ""
        searched = bool(len(record) and record["origin"][-1] != FINAL)
        self._loop = loop.Loop(policy, len(record), dict.fromkeys(pending, 1), untold, goal, searched)
        self._proposed = {i: proposed(record, i) for i in [*pending, *untold]}
        self._results = {i: result(writer, i, optimizer.needs, curve=observes(optimizer)) for i in untold}
        self._finalists = Finalists(policy.final, optimizer.objectives, record)
        self._capacity: loop.Capacity | None = None
        self._events: deque[loop.Event] = deque()
        self._watch = Watch(optimizer, executor, record, self._proposed)
        self._events += self._watch.events(self._results.values(), ())
        executor.listener = self._hear if observes(optimizer) else None
        self._commands: SimpleQueue[loop.Control] = SimpleQueue()
        self._model = Aside("l2l-optimizer") if executor.threaded else None
        self._call: tuple[Future[Any], Callable[[Any], loop.Event]] | None = None
        self._finish: loop.Finish | None = None
        self._trouble: Exception | None = None  # within an evaluation on this very thread
        self._meter = Meter(record, optimizer.objectives)
        self._dear = self._paused = self._stopping = False
        self._commands_seen = 0
        self._folded = self._looked = self._shown = time.monotonic()

    @property
    def threaded(self) -> bool:
        """Whether evaluations leave this thread free to obey."""
        return self._executor.threaded

    def command(self, control: loop.Control) -> None:
        """Ask for a stop, a pause or its end; may be called from any thread and from a signal handler."""
        self._commands.put(control)
        self._executor.wake()

    def adopt(self, x: Floats, origin: int, retry_of: Sequence[int] = ()) -> None:
        """Enter individuals that the optimizer did not propose, before it is asked for more."""
        try:
            candidates = self._adopted(x)
        except Exception as error:
            raise OptimizerError(f"the optimizer raised {described(error)}") from error
        self._record_ask(candidates, origin, retry_of)
        self._loop.enter(len(x))

    def _adopted(self, x: Floats) -> Candidates:
        first = self._optimizer.n_asked
        candidates = Candidates(x, {}, np.arange(first, first + len(x)))
        self._optimizer.adopt(candidates.ids.tolist(), x)
        return candidates

    def run(self) -> loop.Finish:
        """Run to the end.

        Raises
        ------
        L2LError
            If the store cannot be written any more or the cluster is lost; what was recorded is safe.
        """
        try:
            self._writer.reserve(self._policy.evaluations)
            self._commit()
            self._set_state("running")
            self._look_at_capacity()
            while self._finish is None:
                self._look_around()
                self._handle_events()
                self._commit()
                self._keep_house()
            self._end(self._finish)
            return self._finish
        except BaseException as error:
            if isinstance(error, L2LError):
                error.exit_status = 1
            self._abandon(error)
            raise
        finally:
            if self._model is not None:
                self._model.end()

    # -- events -------------------------------------------------------------------------------------------------------

    def _handle_events(self) -> None:
        while self._events and self._finish is None:
            self._carry_out(self._loop.handle(self._events.popleft()))

    def _look_around(self) -> None:
        """Turn what happened outside into events."""
        self._take_commands()
        self._look_at_capacity()
        self._model_event()
        if self._events:
            return
        ended = self._executor.collect(_WAIT)
        if self._trouble is not None:
            raise self._trouble
        self._take_commands()  # before its results lead to more
        self._events += self._watch.events(ended)
        if ended:
            self._events.append(loop.Arrived(tuple(missing_outputs(e, self._optimizer.needs) for e in ended)))
        self._model_event()

    def _hear(self, report: Report) -> bool:
        """Take a report of an evaluation on this very thread, and tell whether it is to stop."""
        try:
            self._events += self._watch.events((), [report])
            self._handle_events()
        except Exception as error:  # ours, and not for the optimizee to handle
            self._trouble = error
        return bool(self._trouble or self._finish) or self._watch.is_stopping(report.id)

    def _look_at_capacity(self) -> None:
        capacity = loop.Capacity(self._executor.capacity, self._executor.quantum)
        if capacity != self._capacity:
            self._capacity = capacity
            self._events.append(capacity)

    def _model_event(self) -> None:
        if self._call is not None and self._call[0].done():
            (future, event_of), self._call = self._call, None
            self._settle(future.result, event_of)

    def _settle(self, result: Callable[[], Any], event_of: Callable[[Any], loop.Event]) -> None:
        """Take what the optimizer returned; its exception ends the experiment."""
        try:
            returned = result()
        except Exception as error:
            problem = f"the optimizer raised {described(error)}"
            self._finish = loop.Finish("failed", problem)
            return
        self._events.append(event_of(returned))

    def _take_commands(self) -> None:
        now = time.monotonic()
        if now > self._deadline:
            self._deadline = math.inf
            self._events.append(loop.Control("time-up", "the wall time is used up"))
        if now - self._looked >= _LOOK:
            self._looked = now
            for command in sent(self._writer.layout, self._commands_seen):
                self._commands_seen += 1
                self._commands.put(loop.Control(command, "stopped by l2l stop"))
        while not self._commands.empty():
            control = self._commands.get()
            self._stopping |= control.command == "stop"
            self._events.append(control)

    # -- instructions -------------------------------------------------------------------------------------------------

    def _carry_out(self, instructions: list[loop.Instruction]) -> None:
        for instruction in instructions:
            match instruction:
                case loop.Keep(evaluations):
                    self._keep(evaluations)
                case loop.Tell(ids):
                    self._tell(ids)
                case loop.Observe(reports):
                    self._observe(reports)
                case loop.Stop(ids):
                    self._commit()
                    self._watch.stop(ids)
                case loop.Ask(n):
                    self._use_optimizer(partial(self._optimizer.ask, n), self._asked)
                case loop.Repeat():
                    self._repeat_the_best()
                case loop.Submit(ids, attempt):
                    self._submit(ids, attempt)
                case loop.Pause(paused):
                    self._paused = paused
                    self._set_state("paused" if paused else "running")
                case loop.Finish():
                    self._finish = instruction

    def _repeat_the_best(self) -> None:
        best, x = self._finalists.best()
        if not best:
            self._events.append(loop.Asked(self._loop.n_asked, 0, self._optimizer.done))
            return

        def adopted(candidates: Candidates) -> loop.Event:
            self._record_ask(candidates, FINAL, best)
            return loop.Asked(int(candidates.ids[0]), len(candidates), self._optimizer.done)

        self._use_optimizer(partial(self._adopted, x), adopted)

    def _observe(self, reports: Reports) -> None:
        def observed(stop: tuple[int, ...]) -> loop.Event:
            self._writer.observed(self._next_event(), reports, stop)
            return loop.Observed(stop)

        self._use_optimizer(partial(decided, self._optimizer, reports), observed)

    def _keep(self, evaluations: tuple[Evaluation, ...]) -> None:
        evaluations = self._watch.whole(evaluations)
        for e in evaluations:
            self._results[e.id] = e
            self._meter.count(e)
            self._dear |= e.seconds > DEAR
            if e.status is Status.DONE and self._proposed[e.id].final is None:
                self._finalists.note(e.id, self._proposed[e.id].x, np.array(e.fitness))
            if e.saved and not e.stored:
                self._writer.keep(e)
        self._writer.results(evaluations)

    def _tell(self, ids: tuple[int, ...]) -> None:
        self._writer.told(self._next_event(), ids)
        self._commit()
        x = np.array([self._proposed.pop(i).x for i in ids])
        self._watch.forget(ids)
        ended = [self._results.pop(i) for i in ids]
        nothing = (np.nan,) * len(self._optimizer.objectives)
        fitness = np.array([e.fitness or nothing for e in ended])
        outputs = {name: [e.arrays.get(name) for e in ended] for name in self._optimizer.needs}
        results = told(self._optimizer.objectives, np.array(ids), x, fitness, outputs)
        self._use_optimizer(partial(self._optimizer.tell, results), lambda _: loop.Told())

    def _asked(self, candidates: Candidates) -> loop.Event:
        if not len(candidates):
            return loop.Asked(self._loop.n_asked, 0, self._optimizer.done)
        self._record_ask(candidates, OPTIMIZER)
        return loop.Asked(int(candidates.ids[0]), len(candidates), self._optimizer.done)

    def _record_ask(self, candidates: Candidates, origin: int, retry_of: Sequence[int] = ()) -> None:
        recorded = {name: as_stored(np.asarray(values)) for name, values in candidates.info.items()}
        candidates = replace(candidates, info=recorded)
        event = self._next_event()
        self._writer.asked(event, candidates, origin, retry_of)
        for row, id in enumerate(candidates.ids.tolist()):
            info = {name: values[row] for name, values in recorded.items()}
            self._proposed[id] = Proposed(candidates.x[row], info, event if origin == FINAL else None)

    def _submit(self, ids: tuple[int, ...], attempt: int) -> None:
        self._commit()
        self._events += self._watch.stopped(ids, attempt)
        space, seed = self._optimizer.space, self._optimizer.seed
        candidates = []
        for id in ids:
            if self._watch.is_stopping(id):
                continue
            p = self._proposed[id]
            candidate = Candidate(id, space.decode(p.x), seed, p.info, attempt)
            candidates.append(self._sampling.sampled(candidate, final=p.final))
        if candidates:
            self._executor.submit(candidates)

    def _use_optimizer(self, work: Callable[[], Any], event_of: Callable[[Any], loop.Event]) -> None:
        if self._model is None:
            self._settle(work, event_of)
            return
        future = self._model.do(work)
        self._call, self._called = (future, event_of), time.monotonic()
        future.add_done_callback(lambda _: self._executor.wake())

    def _next_event(self) -> int:
        self._event += 1
        return self._event - 1

    # -- the store ----------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        self._writer.commit(durable=self._dear and not self._executor.virtual)
        self._dear = self._meter.mean_seconds > DEAR

    def _keep_house(self) -> None:
        now = time.monotonic()
        if now - self._folded > _FOLD:
            self._writer.fold(lazily=True)
            self._writer.live.write(self._executor.underway())
            self._folded = time.monotonic()
        if now - self._shown > _WAIT:
            self._shown = now
            self._show()

    def _show(self) -> None:
        """Report progress; who looks on cannot end the experiment."""
        if self._on_progress is None:
            return
        try:
            self._on_progress(self.progress())
        except Exception as error:
            self._on_progress = None
            _log.warning("progress is not shown any more: %s: %s", type(error).__name__, error)

    def progress(self) -> Progress:
        """Say how far it is."""
        in_flight, total = len(self._loop.in_flight), max(self._policy.evaluations, self._loop.n_asked)
        slots, paused, stopping = self._executor.slots, self._paused, self._stopping
        summed = self._meter.progress(total, in_flight, slots, paused=paused, stopping=stopping)
        thinks = self._call is not None and time.monotonic() - self._called > _LONG
        demand = in_flight if thinks else self._loop.demand
        return replace(summed, demand=demand, waits=self._executor.waits)

    def _set_state(self, state: Any, reason: str = "") -> None:
        self._writer.set_state(state, reason=reason, **self._details)

    def _end(self, finish: loop.Finish) -> None:
        self._commit()
        self._executor.close()
        self._writer.fold()
        self._set_state(finish.outcome, finish.reason)
        self._show()
        self._writer.close()

    def _abandon(self, error: BaseException) -> None:
        """Leave as whole a store as can be left."""
        reason = str(error) if isinstance(error, L2LError) else described(error)
        for step in (
            self._executor.close,
            lambda: self._set_state("interrupted", reason),
            lambda: self._writer.close(trim=False),
        ):
            with suppress(Exception):
                step()
