"""The outer loop's decisions, without I/O, clock or threads: events in, instructions out.

The driver carries the instructions out, in their order, and reports what came of them as events. One call of the
optimizer (:class:`Ask`, :class:`Tell` or :class:`Observe`) is under way at a time; evaluations go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from l2l_dask.evaluation import Evaluation, Goal, Status
from l2l_dask.reports import Point, Points, Reports

Outcome: TypeAlias = Literal["finished", "stopped", "failed"]

# -- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capacity:
    """So many individuals may be in flight from now on, of which ``quantum`` share a future."""

    in_flight: int
    quantum: int = 1


@dataclass(frozen=True)
class Asked:
    """The optimizer proposed the individuals from ``first`` on, ``n`` of them; ``done`` if it will propose no more."""

    first: int
    n: int
    done: bool = False


@dataclass(frozen=True)
class Told:
    """The optimizer took the results."""


@dataclass(frozen=True)
class Reported:
    """Individuals without a told result reported these points of their learning curves, which are new."""

    reports: Mapping[int, Points]


@dataclass(frozen=True)
class Observed:
    """The optimizer looked at what was reported, and names individuals that are to stop."""

    stop: tuple[int, ...]


@dataclass(frozen=True)
class Arrived:
    """Evaluations ended."""

    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Control:
    """Somebody wants something: "stop" lets what runs end, "stop-now" does not; with "time-up" that is a good end."""

    command: Literal["stop", "stop-now", "pause", "unpause", "time-up"]
    reason: str = ""


Event: TypeAlias = Capacity | Asked | Told | Reported | Observed | Arrived | Control

# -- instructions -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ask:
    """Ask the optimizer for up to ``n`` individuals, and journal them."""

    n: int


@dataclass(frozen=True)
class Repeat:
    """Enter the ``n`` best individuals once more, as new ones."""

    n: int


@dataclass(frozen=True)
class Tell:
    """Tell the optimizer these results, which are journalled by then."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Observe:
    """Let the optimizer look at these reports, and journal them with what it decides."""

    reports: Reports


@dataclass(frozen=True)
class Stop:
    """Let these individuals, which have no result, stop at their next reports; they end with the status STOPPED."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Submit:
    """Start attempt number ``attempt`` at these individuals."""

    ids: tuple[int, ...]
    attempt: int = 1


@dataclass(frozen=True)
class Keep:
    """Journal these results: they are final."""

    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Pause:
    """Say that the experiment is paused (or no longer is)."""

    paused: bool


@dataclass(frozen=True)
class Finish:
    """Nothing more is to be done."""

    outcome: Outcome
    reason: str


Instruction: TypeAlias = Ask | Repeat | Tell | Observe | Stop | Submit | Keep | Pause | Finish


@dataclass(frozen=True)
class Policy:
    """What the user laid down.

    Attributes
    ----------
    evaluations
        Rows to ask, failures included.
    retries
        Further attempts after one that ended with a status in ``retry_on``; with the same seed.
    retry_on
        By default only what killed its process: an exception comes again with the same seed. What was lost with several
        workers is not tried again.
    max_failures_in_a_row
        After so many the experiment fails; 0 for no limit.
    goal
        Fitness at which no more is asked; None to use all evaluations up.
    final
        So many of the best are evaluated again at the end.
    """

    evaluations: int
    retries: int = 1
    retry_on: frozenset[Status] = frozenset({Status.CRASHED})
    max_failures_in_a_row: int = 20
    goal: Goal | None = None
    final: int = 0


@dataclass
class Loop:
    """The state of the outer loop.

    Parameters
    ----------
    policy
        The user's.
    n_asked
        Rows that exist already.
    waiting
        Of them, those without a result that are to be submitted, each with the attempt that is to be made.
    untold
        Of them, those whose result the optimizer does not know yet.
    reached
        What says that the goal was reached, if it was.
    searched
        Whether something was asked since the best were last evaluated again.
    in_flight
        Those that were submitted and have no result yet, each with its attempt.
    reports
        What was reported and the optimizer did not look at yet; it does so before it is told the result.
    """

    policy: Policy
    n_asked: int = 0
    waiting: dict[int, int] = field(default_factory=dict)
    untold: list[int] = field(default_factory=list)
    reached: str = ""
    searched: bool = False
    in_flight: dict[int, int] = field(default_factory=dict)
    reports: dict[int, list[Point]] = field(default_factory=dict)
    capacity: int = 0
    _quantum: int = 1
    _time_up: str = ""
    _repeating: bool = False
    _busy: bool = False  # the optimizer is at work
    _barrier: bool = False  # it wants results before it proposes more
    _sated: bool = False  # so it was when it was last asked
    _observed: bool = False  # it has just looked at reports: others have their turn
    _exhausted: bool = False
    _paused: bool = False
    _stopping: str = ""
    _over: bool = False
    _failures: int = 0
    _first_failure: str = ""
    _too_many: str = ""

    @property
    def demand(self) -> int:
        """Tell how many individuals could be in flight now, were there room for all."""
        if self._over or self._paused or self._stopping or self._time_up:
            return len(self.in_flight)
        known = len(self.in_flight) + len(self.waiting)
        more = self._asking and not self._sated
        return known + (self.policy.evaluations - self.n_asked if more else 0)

    def enter(self, n: int) -> None:
        """Take note of ``n`` new individuals, which nobody was asked for."""
        self.waiting.update(dict.fromkeys(range(self.n_asked, self.n_asked + n), 1))
        self.n_asked += n
        self.searched |= n > 0

    def handle(self, event: Event) -> list[Instruction]:
        """Decide what follows from an event."""
        if self._over:
            return []
        instructions: list[Instruction] = []
        match event:
            case Capacity(in_flight, quantum):
                self.capacity, self._quantum = in_flight, quantum
            case Asked(_, n, done):
                self._busy = False
                self._exhausted |= done
                self._barrier = self._sated = n == 0
                self.enter(n)
                if self._repeating:
                    self._repeating = self.searched = False
            case Told():
                self._busy = self._barrier = False
            case Reported(reports):
                for id, points in reports.items():
                    if id in self.in_flight or id in self.waiting or id in self.untold:
                        self.reports.setdefault(id, []).extend(points)
            case Observed(stop):
                self._busy = self._barrier = False
                running = tuple(id for id in stop if id in self.in_flight or id in self.waiting)
                instructions += [Stop(running)] if running else []
            case Arrived(evaluations):
                instructions += self._arrived(evaluations)
            case Control(command, reason):
                instructions += self._control(command, reason)
        return instructions + self._submissions() + self._next()

    def _submissions(self) -> list[Instruction]:
        """Start what waits, as far as there is room; what an end finds waiting stays pending, for a resume."""
        free = self.capacity - len(self.in_flight)
        if self._over or self._paused or self._stopping or self._time_up or free <= 0:
            return []
        by_attempt: dict[int, list[int]] = {}
        for id in list(self.waiting)[:free]:
            attempt = self.in_flight[id] = self.waiting.pop(id)
            by_attempt.setdefault(attempt, []).append(id)
        return [Submit(tuple(ids), attempt) for attempt, ids in by_attempt.items()]

    def _arrived(self, evaluations: Iterable[Evaluation]) -> list[Instruction]:
        final: list[Evaluation] = []
        for e in evaluations:
            if self.in_flight.get(e.id) != e.attempt:
                continue  # an attempt that was given up
            del self.in_flight[e.id]
            if e.status in self.policy.retry_on and e.attempt <= self.policy.retries and not e.hopeless:
                self.waiting[e.id] = e.attempt + 1
                continue
            final.append(e)
            self._judge(e)
        self.untold += [e.id for e in final]
        return [Keep(tuple(final))] if final else []

    def _judge(self, e: Evaluation) -> None:
        if e.status is Status.DONE:
            self._failures, self._first_failure = 0, ""
            if self.policy.goal is not None and self.policy.goal.met(e.fitness):
                self.reached = self.reached or f"{self.policy.goal} was reached"
            return
        if e.status is Status.STOPPED:  # neither a failure nor the end of a row of them
            return
        self._failures += 1
        self._first_failure = self._first_failure or e.error
        if self._failures == self.policy.max_failures_in_a_row:
            self._too_many = f"{self._failures} evaluations failed in a row, the first: {self._first_failure}"

    def _control(self, command: str, reason: str) -> list[Instruction]:
        match command:
            case "pause" | "unpause":
                changed = self._paused != (command == "pause")
                self._paused = command == "pause"
                return [Pause(self._paused)] if changed else []
            case "stop":
                self._stopping = self._stopping or reason or "stopped"
                return []
            case "time-up":
                self._time_up = self._time_up or reason
                return []
            case _:
                return [self._finish("stopped", reason or "stopped")]

    def _next(self) -> list[Instruction]:
        """Decide what the optimizer does next; nothing while it is at work."""
        if self._over or self._busy:
            return []
        ending = self._ending()
        if ending:
            return self._end(ending)
        if self.reports and not self._observed:
            return [self._observe()]
        self._observed = False
        ready = [id for id in self.untold if id not in self.reports] if self.reports else self.untold
        if ready:
            ids, self.untold = tuple(sorted(ready)), [id for id in self.untold if id in self.reports]
            self._busy = True
            return [Tell(ids)]
        wanted = self._wanted()
        if self._asking and not self._paused and not self._barrier and wanted > 0:
            self._busy = True
            return [Ask(wanted)]
        return [self._observe()] if self.reports else []

    def _observe(self) -> Observe:
        reports = {id: tuple(self.reports[id]) for id in sorted(self.reports)}
        self.reports.clear()
        self._busy = self._observed = True
        return Observe(reports)

    def _wanted(self) -> int:
        """Tell how many to ask for: as many as fill whole futures, unless these are the last or there are no others."""
        left, room = self.policy.evaluations - self.n_asked, self.capacity - len(self.in_flight) - len(self.waiting)
        if room < left and self.in_flight:
            return room - room % self._quantum
        return min(left, room)

    @property
    def _asking(self) -> bool:
        ended = self._exhausted or self._stopping or self._time_up or self.reached
        return self.n_asked < self.policy.evaluations and not ended

    def _ending(self) -> Outcome | None:
        """Tell whether this is the end, and which."""
        if self._too_many:
            return "failed"
        if self.untold or self.in_flight:
            return None
        if self._stopping:
            return "stopped"
        if self._time_up or not (self.waiting or self._asking):
            return "finished"
        return "failed" if self._barrier and not self.waiting else None

    def _end(self, outcome: Outcome) -> list[Instruction]:
        """End, but evaluate the best again before a good end, if there is time."""
        if outcome == "finished" and self.policy.final and self.searched and not self._time_up:
            if self._paused:
                return []
            self._busy = self._repeating = True
            return [Repeat(self.policy.final)]
        return [self._finish(outcome, self._reason(outcome))]

    def _reason(self, outcome: Outcome) -> str:
        if outcome == "failed":
            return self._too_many or "the optimizer asks for nothing although it knows all results"
        if outcome == "stopped":
            return self._stopping
        ended = self._time_up or self.reached
        return ended or ("the optimizer has nothing more to ask" if self._exhausted else "all evaluations done")

    def _finish(self, outcome: Outcome, reason: str) -> Finish:
        self._over = True
        return Finish(outcome, reason)
