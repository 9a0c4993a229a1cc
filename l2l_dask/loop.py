"""The outer loop's decisions, without I/O, clock or threads: events in, instructions out.

The driver carries the instructions out, in their order, and reports what came of them as events. One call of the
optimizer (:class:`Ask` or :class:`Tell`) is under way at a time; evaluations go on meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from l2l_dask.evaluation import Evaluation, Goal, Status

Outcome: TypeAlias = Literal["finished", "stopped", "failed"]

# -- events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Capacity:
    """So many individuals may be in flight from now on."""

    in_flight: int


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
class Arrived:
    """Evaluations ended."""

    evaluations: tuple[Evaluation, ...]


@dataclass(frozen=True)
class Control:
    """Somebody wants something: "stop" lets what runs end, "stop-now" does not; "enough" is a good end."""

    command: Literal["stop", "stop-now", "pause", "unpause", "enough"]
    reason: str = ""


Event: TypeAlias = Capacity | Asked | Told | Arrived | Control

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


Instruction: TypeAlias = Ask | Repeat | Tell | Submit | Keep | Pause | Finish


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
        By default only what killed its process: an exception comes again with the same seed.
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
    in_flight
        Of them, those without a result, each with the attempt that is to be made.
    untold
        Of them, those whose result the optimizer does not know yet.
    enough
        Why no more is to be asked, if so.
    repeated
        Whether the best were entered once more, after all others.
    """

    policy: Policy
    n_asked: int = 0
    in_flight: dict[int, int] = field(default_factory=dict)
    untold: list[int] = field(default_factory=list)
    enough: str = ""
    repeated: bool = False
    capacity: int = 0
    _busy: bool = False  # the optimizer is at work
    _barrier: bool = False  # it wants results before it proposes more
    _exhausted: bool = False
    _paused: bool = False
    _stopping: str = ""
    _over: bool = False
    _failures: int = 0
    _first_failure: str = ""
    _too_many: str = ""

    def start(self) -> list[Instruction]:
        """Take up what an earlier driver left in flight."""
        by_attempt: dict[int, list[int]] = {}
        for id, attempt in self.in_flight.items():
            by_attempt.setdefault(attempt, []).append(id)
        return [Submit(tuple(ids), attempt) for attempt, ids in by_attempt.items()]

    def handle(self, event: Event) -> list[Instruction]:
        """Decide what follows from an event."""
        if self._over:
            return []
        instructions: list[Instruction] = []
        match event:
            case Capacity(in_flight):
                self.capacity = in_flight
            case Asked(first, n, done):
                self._busy = False
                self._exhausted = done
                self._barrier = n == 0
                self.n_asked = max(self.n_asked, first + n)
                self.in_flight.update(dict.fromkeys(range(first, first + n), 1))
                if n:
                    instructions.append(Submit(tuple(range(first, first + n))))
            case Told():
                self._busy = self._barrier = False
            case Arrived(evaluations):
                instructions += self._arrived(evaluations)
            case Control(command, reason):
                instructions += self._control(command, reason)
        return instructions + self._next()

    def _arrived(self, evaluations: Iterable[Evaluation]) -> list[Instruction]:
        final: list[Evaluation] = []
        again: list[Instruction] = []
        for e in evaluations:
            if self.in_flight.get(e.id) != e.attempt:
                continue  # an attempt that was given up
            del self.in_flight[e.id]
            if e.status in self.policy.retry_on and e.attempt <= self.policy.retries:
                if not self._stopping:  # else it stays pending, for a resume
                    self.in_flight[e.id] = e.attempt + 1
                    again.append(Submit((e.id,), e.attempt + 1))
                continue
            final.append(e)
            self._judge(e)
        self.untold += [e.id for e in final]
        return ([Keep(tuple(final))] if final else []) + again

    def _judge(self, e: Evaluation) -> None:
        if e.status is Status.DONE:
            self._failures, self._first_failure = 0, ""
            if self.policy.goal is not None and self.policy.goal.met(e.fitness):
                self.enough = self.enough or f"{self.policy.goal} was reached"
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
            case "enough":
                self.enough = self.enough or reason
                return []
            case _:
                return [self._finish("stopped", reason or "stopped")]

    def _next(self) -> list[Instruction]:
        """Decide what the optimizer does next; nothing while it is at work."""
        if self._over or self._busy:
            return []
        ending = self._ending()
        if ending == "finished" and self.policy.final and not self.repeated:
            self._busy = self.repeated = True
            return [Repeat(self.policy.final)]
        if ending:
            return [self._finish(ending, self._reason(ending))]
        if self.untold:
            ids, self.untold = tuple(sorted(self.untold)), []
            self._busy = True
            return [Tell(ids)]
        wanted = min(self.policy.evaluations - self.n_asked, self.capacity - len(self.in_flight))
        if self._asking and not self._paused and not self._barrier and wanted > 0:
            self._busy = True
            return [Ask(wanted)]
        return []

    @property
    def _asking(self) -> bool:
        ended = self._exhausted or self._stopping or self.enough or self.repeated
        return self.n_asked < self.policy.evaluations and not ended

    def _ending(self) -> Outcome | None:
        """Tell whether this is the end, and which."""
        if self._too_many:
            return "failed"
        if self.untold or self.in_flight:
            return None
        if self._stopping:
            return "stopped"
        if not self._asking:
            return "finished"
        return "failed" if self._barrier else None

    def _reason(self, outcome: Outcome) -> str:
        if outcome == "failed":
            return self._too_many or "the optimizer asks for nothing although it knows all results"
        if outcome == "stopped":
            return self._stopping
        return self.enough or ("the optimizer has nothing more to ask" if self._exhausted else "all evaluations done")

    def _finish(self, outcome: Outcome, reason: str) -> Finish:
        self._over = True
        return Finish(outcome, reason)
