"""The contract of an optimizer: ask for candidates, tell it results, in any order.

The base class owns the public methods, checks their arguments and keeps the books; an algorithm writes :meth:`_ask` and
:meth:`_tell`. :func:`l2l_dask.testing.check_optimizer` tests an implementation against the contract.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import entry_points
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives, optimizer_rng
from l2l_dask.space import Floats, Space

ALL_SPACES = frozenset({"real", "integer", "categorical", "conditional", "unbounded"})


class Optimizer(ABC):
    """Base class of all optimizers.

    Randomness comes from :attr:`rng` alone, drawn candidate by candidate, so that ``ask(5)`` equals five ``ask(1)`` and
    the same events lead to the same candidates: that makes a search resumable without saving its state.

    Parameters
    ----------
    space
        What is searched.
    objectives
        What is minimised or maximised; an algorithm sees costs, always minimised.
    seed
        Non-negative integer.

    Attributes
    ----------
    source : str
        The paper or book that the algorithm follows.
    asynchronous : bool
        False for an algorithm with a generation barrier.
    spaces : frozenset of str
        What it can search, out of :data:`ALL_SPACES`.
    max_objectives : int or None
        How many objectives it takes; None for any number.
    needs : tuple of str
        Names of arrays saved by the optimizee that :meth:`tell` must bring.
    replay : {"exact", "tell"}
        How a resumed search gets its state back: by asking and telling again, or, where asking is costly, by telling
        alone.
    explanation : str
        What an optimizer that makes a choice of its own chose and why: shown when the search starts, and recorded.

    Notes
    -----
    An optimizer whose constructor takes ``evaluations=None`` or ``workers=None`` is told the experiment's budget, and
    the number of slots if that is known, where the user gives no others; a resumed search gets those it began with.

    Raises
    ------
    OptimizerError
        If it cannot handle the space or the objectives.
    """

    source: ClassVar[str] = ""
    asynchronous: bool = True
    spaces: ClassVar[frozenset[str]] = ALL_SPACES
    max_objectives: int | None = 1
    needs: tuple[str, ...] = ()
    replay: Literal["exact", "tell"] = "exact"
    explanation: str = ""

    def __init__(self, space: Space, objectives: Objectives, *, seed: int = 0) -> None:
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            raise OptimizerError(f"seed must be a non-negative integer, got {seed!r}")
        self.space = space
        self.objectives = Objectives(objectives)
        self.seed = seed
        self.rng = optimizer_rng(seed)
        self._n_asked = 0
        self._untold: dict[int, Floats] = {}
        self._check_abilities()

    def _check_abilities(self) -> None:
        problem = self.unsuitable(self.space, self.objectives)
        if problem:
            others = _suitable(self.space, self.objectives)
            raise OptimizerError(problem + (f": choose one of {', '.join(others)}" if others else ""))

    @classmethod
    def unsuitable(cls, space: Space, objectives: Objectives) -> str:
        """Say why it cannot search this space, or with these objectives; empty if it can."""
        wanted: set[str] = set(space.kinds)
        if space.conditional:
            wanted.add("conditional")
        if not space.bounded.all():
            wanted.add("unbounded")
        if wanted - cls.spaces:
            return f"{cls.__name__} searches {sorted(cls.spaces)} parameters, the space has {sorted(wanted)}"
        if cls.max_objectives is not None and len(objectives) > cls.max_objectives:
            return f"{cls.__name__} takes {cls.max_objectives} objective(s), got {len(objectives)}"
        return ""

    @property
    def n_asked(self) -> int:
        """Number of individuals so far, which is the next id."""
        return self._n_asked

    @property
    def untold(self) -> Ids:
        """The ids that were asked and not yet told, ascending."""
        return np.array(sorted(self._untold), dtype=np.int64)

    @property
    def done(self) -> bool:
        """Whether the algorithm has nothing more to ask, whatever it is told."""
        return False

    def ask(self, n: int = 1) -> Candidates:
        """Propose up to ``n`` individuals.

        Returns
        -------
        Candidates
            k <= n of them, with consecutive ids. k = 0 means "results first" (a barrier) or :attr:`done`, and changes
            nothing.
        """
        if n < 1:
            raise OptimizerError(f"ask for at least one individual, got {n}")
        proposed = self._ask(n)
        x = np.array(proposed.x, dtype=float) if len(proposed.x) else self._no_x()
        if x.ndim != 2 or x.shape[1] != self.space.dim:
            x = x.reshape(-1, self.space.dim)
        if len(x) > n:
            raise OptimizerError(f"{type(self).__name__} was asked for at most {n} candidates and gave {len(x)}")
        if not np.isfinite(x).all():
            raise OptimizerError(f"{type(self).__name__} proposed a vector that is not finite: {x.tolist()}")
        for name, column in proposed.info.items():
            if len(column) != len(x):
                raise OptimizerError(f"info {name!r} must have {len(x)} rows, got {len(column)}")
        return Candidates(x, dict(proposed.info), self._enter(x))

    def _no_x(self) -> Floats:
        return np.empty((0, self.space.dim))

    def _enter(self, x: Floats) -> Ids:
        ids = np.arange(self._n_asked, self._n_asked + len(x), dtype=np.int64)
        self._n_asked += len(x)
        x.flags.writeable = False
        if len(x) == 1:
            self._untold[self._n_asked - 1] = x[0]
        else:
            self._untold.update(zip(ids.tolist(), x, strict=True))
        return ids

    def adopt(self, ids: Iterable[int], x: ArrayLike) -> None:
        """Take over individuals that somebody else proposed: a user's guesses, a retry, a record that is trusted.

        They are told like any other. The random generator starts anew, so that what was proposed before an adoption is
        not proposed again after it.
        """
        taken = list(ids)
        x = np.array(x, dtype=float).reshape(-1, self.space.dim)
        if taken != list(range(self._n_asked, self._n_asked + len(x))):
            raise OptimizerError(f"adopt: expected {len(x)} ids from {self._n_asked} on, got {taken}")
        if not taken:
            return
        if not np.isfinite(x).all():
            raise OptimizerError(f"adopt: expected finite vectors, got {x.tolist()}")
        entered = self._enter(x)
        self.rng = optimizer_rng(self.seed, self._n_asked)
        self._adopt(entered, x)

    def tell(self, evaluations: Evaluations) -> None:
        """Hand over results, each id once, in any order and however late.

        Raises
        ------
        OptimizerError
            If an id was never asked or was told already, or a shape is wrong.
        """
        if not len(evaluations):
            return
        # Copies, of which nobody else knows.
        ids, x = np.array(evaluations.ids, np.int64), np.array(evaluations.x, dtype=float)
        cost = np.array(evaluations.cost, dtype=float)
        listed = ids.tolist()
        unknown = [i for i in listed if i not in self._untold]
        if unknown or (len(listed) > 1 and len(set(listed)) < len(listed)):
            raise OptimizerError(f"tell: each id must have been asked and not yet told, got {unknown or listed}")
        if x.shape != (len(ids), self.space.dim) or cost.shape != (len(ids), len(self.objectives)):
            raise OptimizerError(
                f"tell: expected x {(len(ids), self.space.dim)} and cost {(len(ids), len(self.objectives))}, "
                f"got {x.shape} and {cost.shape}"
            )
        if self.needs and (missing := set(self.needs) - set(evaluations.outputs)):
            raise OptimizerError(f"{type(self).__name__} needs the optimizee to context.save {sorted(missing)}")
        for i in listed:
            del self._untold[i]
        outputs = evaluations.outputs
        if len(listed) > 1:
            order = np.argsort(ids, kind="stable")
            ids, x, cost = ids[order], x[order], cost[order]
            outputs = {name: [values[i] for i in order.tolist()] for name, values in outputs.items()}
        ids.flags.writeable = x.flags.writeable = cost.flags.writeable = False
        self._tell(Evaluations(ids, x, cost, outputs))

    def observe(self, reports: Mapping[int, Sequence[tuple[float, float]]]) -> list[int]:
        """Look at learning curves ((step, value) pairs by id) and name the ids to stop early."""
        return self._observe(reports)

    @abstractmethod
    def _ask(self, n: int) -> Candidates:
        """Propose up to ``n`` candidates, without ids; changes nothing if it proposes none."""

    @abstractmethod
    def _tell(self, evaluations: Evaluations) -> None:
        """Learn from results: ids ascending, arrays read-only, NaN cost where an evaluation failed.

        Any id may come, also one that was adopted, or of a generation long gone.
        """

    def _adopt(self, ids: Ids, x: Floats) -> None:
        """Take note of individuals that this optimizer did not propose; :meth:`_tell` will bring their results."""

    def _observe(self, reports: Mapping[int, Sequence[tuple[float, float]]]) -> list[int]:  # noqa: ARG002
        return []

    def _proposal(self, rows: Sequence[Floats], **info: Sequence[Any]) -> Candidates:
        """Collect candidates that were made one by one."""
        x = np.array(rows, dtype=float).reshape(-1, self.space.dim)
        return Candidates(x, {name: np.asarray(column) for name, column in info.items()} if len(x) else {})


def _suitable(space: Space, objectives: Objectives) -> list[str]:
    """Name the registered optimizers that can."""
    found = []
    for point in entry_points(group="l2l_dask.optimizers"):
        try:
            able = not point.load().unsuitable(space, objectives)
        except Exception:  # whatever a third party's module raises
            continue
        found += [point.name] if able else []
    return sorted(set(found))
