"""A recorded session with an optimizer: every call is checked as it is made, so that the rules need only make calls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.evaluation import Candidates, Evaluations, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space

Factory: TypeAlias = Callable[..., Optimizer]
Fails: TypeAlias = Callable[[int], bool]
Outputs: TypeAlias = Mapping[str, Callable[[Floats], NDArray[Any]]]
Curves: TypeAlias = dict[int, list[tuple[float, float]]]

_STEPS = 30  # of a learning curve


def none_fail(id: int) -> bool:  # noqa: ARG001
    return False


def all_fail(id: int) -> bool:  # noqa: ARG001
    return True


def every_third_fails(id: int) -> bool:
    return id % 3 == 0


@dataclass(frozen=True)
class Setting:
    """One optimizer on one space."""

    factory: Factory
    label: str
    space: Space
    objectives: Objectives
    evaluations: int
    outputs: Outputs = field(default_factory=dict)
    seed: int = 1

    @property
    def name(self) -> str:
        return getattr(self.factory, "__name__", repr(self.factory))

    def fail(self, rule: str, detail: str) -> NoReturn:
        raise AssertionError(f"{self.name} on the {self.label} space: {rule}: {detail}")

    def new(self) -> Optimizer:
        return self.factory(self.space, self.objectives, seed=self.seed)

    def session(self, **changes: Any) -> Session:
        return Session(replace(self, **changes))


@dataclass(frozen=True)
class Event:
    """Something that a trajectory records: an ask that proposed something, a tell, an adoption or an observation."""

    kind: str
    candidates: Candidates | None = None
    evaluations: Evaluations | None = None
    reports: Curves | None = None
    stop: tuple[int, ...] = ()


class Session:
    """An optimizer and what it was asked and told."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        with self._raising("__init__"):
            self.optimizer = setting.new()
        self.events: list[Event] = []
        self.waiting: dict[int, Floats] = {}
        self.n = 0
        self._columns: dict[str, Any] | None = None
        self._was_done = False

    @contextmanager
    def _raising(self, call: str) -> Iterator[None]:
        try:
            yield
        except AssertionError:
            raise
        except Exception as error:
            rule = f"{call} must accept every call that the contract allows"
            message = f"{self.setting.name} on the {self.setting.label} space: {rule}: it raised {error!r}"
            raise AssertionError(message) from error

    @property
    def done(self) -> bool:
        with self._raising("done"):
            done = self.optimizer.done
        if self._was_done and not done:
            self.setting.fail("an optimizer that is done stays done", "done was True and is False again")
        self._was_done = self._was_done or done
        return done

    def ask(self, n: int) -> Candidates:
        done = self.done
        with self._raising("ask"):
            candidates = self.optimizer.ask(n)
        if done and len(candidates):
            self.setting.fail("an optimizer that is done proposes nothing", f"it proposed {len(candidates)}")
        self._check_candidates(candidates, n)
        if len(candidates):
            self._check_info(candidates)
            self.events.append(Event("ask", candidates))
            self._enter(candidates)
        if self.optimizer.n_asked != self.n:
            self.setting.fail("n_asked counts what was proposed", f"{self.optimizer.n_asked} instead of {self.n}")
        return candidates

    def _check_candidates(self, candidates: Candidates, n: int) -> None:
        x, space = candidates.x, self.setting.space
        if not isinstance(x, np.ndarray) or x.shape != (len(x), space.dim) or len(x) > n:
            self.setting.fail("ask(n) proposes up to n vectors", f"for n = {n} x is {getattr(x, 'shape', x)!r}")
        if not np.isfinite(x).all():
            self.setting.fail("candidates are finite", f"got {x.tolist()}")
        bounded = x[:, space.bounded]
        if ((bounded < 0) | (bounded > 1)).any():
            self.setting.fail("candidates lie within [0, 1] on bounded dimensions", f"got {x.tolist()}")
        if candidates.ids.tolist() != list(range(self.n, self.n + len(x))):
            self.setting.fail("ids are consecutive", f"expected {len(x)} from {self.n} on, got {candidates.ids}")

    def _check_info(self, candidates: Candidates) -> None:
        rule = "info is named numeric arrays with one row per candidate, of the same form in every ask"
        form = {}
        for name, column in candidates.info.items():
            if not isinstance(column, np.ndarray) or column.dtype.kind not in "biuf":
                self.setting.fail(rule, f"{name!r} is {column!r}")
            if len(column) != len(candidates):
                self.setting.fail(rule, f"{name!r} has {len(column)} rows for {len(candidates)} candidates")
            form[name] = (column.dtype.kind, column.shape[1:])
        if self._columns is not None and form != self._columns:
            self.setting.fail(rule, f"it was {self._columns} and is {form}")
        self._columns = form

    def adopt(self, x: Floats) -> None:
        candidates = Candidates(np.array(x), {}, np.arange(self.n, self.n + len(x)))
        with self._raising("adopt"):
            self.optimizer.adopt(candidates.ids.tolist(), x)
        self.events.append(Event("adopt", candidates))
        self._enter(candidates)

    def _enter(self, candidates: Candidates) -> None:
        self.n += len(candidates)
        self.waiting.update(zip(candidates.ids.tolist(), candidates.x, strict=True))

    def results(self, ids: Iterable[int], fails: Fails = none_fail) -> Evaluations:
        """Evaluate ``ids``, in the order given."""
        ids = np.array(list(ids), dtype=np.int64)
        x = np.array([self.waiting[i] for i in ids.tolist()]).reshape(len(ids), self.setting.space.dim)
        targets = 0.3 + 0.2 * np.arange(len(self.setting.objectives))
        cost = ((x[:, :, None] - targets) ** 2).sum(axis=1)
        failed = np.array([fails(i) for i in ids.tolist()], dtype=bool)
        cost[failed] = np.nan
        outputs = {
            name: [None if f else make(row) for row, f in zip(x, failed, strict=True)]
            for name, make in self.setting.outputs.items()
        }
        return Evaluations(ids, x, cost, outputs)

    def tell(self, evaluations: Evaluations) -> None:
        with self._raising("tell"):
            self.optimizer.tell(evaluations)
        self.events.append(Event("tell", evaluations=evaluations))
        for i in evaluations.ids.tolist():
            del self.waiting[i]

    def tell_all(self, fails: Fails = none_fail) -> None:
        if self.waiting:
            self.tell(self.results(list(self.waiting), fails))

    def ask_or_stall(self, n: int) -> int:
        """Ask; to propose nothing is allowed only while results are awaited, or when done."""
        k = len(self.ask(n))
        if not k and not self.waiting and not self.done:
            self.setting.fail(
                "an optimizer that is not done proposes something once every result is in",
                f"it proposed nothing after {self.n} individuals, with no result awaited",
            )
        return k

    def drive(self, n: int, *, schedule: int = 0, fails: Fails = none_fail, finish: bool = True) -> Session:
        """Ask ``n`` more individuals and tell them in random order and batches; the same way for the same arguments."""
        rng = np.random.default_rng(schedule)
        goal = self.n + n
        while (self.n < goal and not self.done) or (finish and self.waiting):
            want = min(goal - self.n, int(rng.integers(1, 6)))
            if want and (not self.waiting or rng.random() < 0.5) and self.ask_or_stall(want):
                continue
            if self.waiting:
                some = rng.permutation(list(self.waiting))[: rng.integers(1, 5)]
                self.tell(self.results(some.tolist(), fails))
        return self

    def observe(self, reports: Curves) -> list[int]:
        """Show reports, and check the answer."""
        shown = {id: list(points) for id, points in reports.items()}
        with self._raising("observe"):
            stop = self.optimizer.observe(shown)
        rule = "observe returns a list of ids out of those reported"
        if not isinstance(stop, list) or set(stop) - set(reports):
            self.setting.fail(rule, f"reported {sorted(reports)}, got {stop!r}")
        if repr(shown) != repr(reports):
            self.setting.fail("observe does not change what it is shown", f"{reports} became {shown}")
        self.events.append(Event("observe", reports=reports, stop=tuple(sorted(stop))))
        return stop

    def drive_with_curves(self, n: int, *, schedule: int = 0) -> Session:
        """Ask ``n`` more individuals that report while they run, some of them nothing, NaN, or steps that go back.

        Those that are stopped fail, but for some that had ended when it was decided.
        """
        rng = np.random.default_rng(schedule)
        goal, at, stopped = self.n + n, dict.fromkeys(self.waiting, 0), set[int]()
        while (self.n < goal and not self.done) or self.waiting:
            if self.n < goal and len(self.waiting) < 8 and self.ask_or_stall(1):
                continue
            reports: Curves = {}
            for id in rng.permutation(sorted(self.waiting))[: rng.integers(1, 5)].tolist():
                begun, end = at.get(id, 0), min(at.get(id, 0) + int(rng.integers(1, 6)), _STEPS)
                at[id] = end
                if id % 7 != 6 and end > begun:
                    final = float(((self.waiting[id] - 0.3) ** 2).sum())
                    reports[id] = [_point(id, step, final) for step in range(begun + 1, end + 1)]
            if reports:
                stopped.update(id for id in self.observe(reports) if id % 5)
            ended = [
                id for id in sorted(self.waiting) if at.get(id, 0) >= _STEPS or (id in stopped and rng.random() < 0.5)
            ]
            if ended:
                self.tell(self.results(ended, lambda id: id in stopped))
        return self

    def same_stops(self, other: Session, rule: str) -> None:
        """Assert that both stopped the same at each observation."""
        ours, theirs = ([e.stop for e in s.events if e.kind == "observe"] for s in (self, other))
        for n, (one, two) in enumerate(zip(ours, theirs, strict=False)):
            if one != two:
                self.setting.fail(rule, f"observation number {n} stopped {list(one)} and {list(two)}")
        if len(ours) != len(theirs):
            self.setting.fail(rule, f"there were {len(ours)} and {len(theirs)} observations")

    def replay(self, events: Iterable[Event], *, trusted: bool = False) -> Session:
        """Repeat recorded events as a resumed experiment does: ask again or, if ``trusted``, adopt what was asked."""
        for event in events:
            if event.reports is not None:
                self.observe(event.reports)
            elif event.evaluations is not None:
                self.tell(event.evaluations)
            elif event.candidates is not None and (trusted or event.kind == "adopt"):
                self.adopt(np.array(event.candidates.x))
            elif event.candidates is not None:
                self.ask(len(event.candidates))
        return self

    @property
    def asks(self) -> list[Candidates]:
        return [event.candidates for event in self.events if event.kind == "ask" and event.candidates is not None]

    def same(self, other: Session, rule: str) -> None:
        """Assert that both proposed the same."""
        ours, theirs = joined(self.asks), joined(other.asks)
        if ours.keys() != theirs.keys():
            self.setting.fail(rule, f"info has {sorted(ours)} in one and {sorted(theirs)} in the other")
        for name, column in ours.items():
            if not np.array_equal(column, theirs[name], equal_nan=column.dtype.kind == "f"):
                n = min(len(column), len(theirs[name]))
                differs = np.flatnonzero([not np.array_equal(column[i], theirs[name][i]) for i in range(n)])
                where = int(differs[0]) if len(differs) else n
                shown = [c[where].tolist() if where < len(c) else "nothing" for c in (column, theirs[name])]
                self.setting.fail(rule, f"proposal number {where} differs in {name}: {shown[0]} and {shown[1]}")


def _point(id: int, step: int, final: float) -> tuple[float, float]:
    """Return a point of a learning curve that falls to its end."""
    if id % 11 == 10 and step > 4:
        return float(step), float("nan")
    return float(-step if id % 13 == 12 and step % 4 == 0 else step), final + 1.0 / step


def joined(asks: list[Candidates]) -> dict[str, NDArray[Any]]:
    """Put several asks into one table: x, ids and info."""
    if not asks:
        return {}
    columns = {name: np.concatenate([c.info[name] for c in asks]) for name in asks[0].info}
    return columns | {"x": np.concatenate([c.x for c in asks]), "ids": np.concatenate([c.ids for c in asks])}
