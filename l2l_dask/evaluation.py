"""The records that pass between the outer and the inner loop."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import EvaluationError, ObjectivesError
from l2l_dask.space import Floats, Params

Ids: TypeAlias = NDArray[np.int64]
Direction: TypeAlias = Literal["minimize", "maximize"]

Seeds: TypeAlias = Literal["independent", "common"]

_OPTIMIZER_KEY, _INDIVIDUAL_KEY, _COMMON_KEY, _FINAL_KEY, _REPEAT_KEY = range(5)


class Status(IntEnum):
    """What became of an individual. The numbers are those of the store's ``status`` array."""

    PENDING = 0
    DONE = 1
    FAILED = 2
    TIMED_OUT = 3
    CRASHED = 4
    STOPPED = 5
    CANCELLED = 6

    @property
    def label(self) -> str:
        return self.name.lower()


FAILURES = (Status.FAILED, Status.TIMED_OUT, Status.CRASHED)
UNUSED = -1  # a row of the store that no individual has yet


@dataclass(frozen=True)
class Objective:
    """A named fitness and the direction in which it gets better."""

    name: str
    direction: Direction

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ObjectivesError(f"an objective needs a name, got {self.name!r}")
        if self.direction not in ("minimize", "maximize"):
            raise ObjectivesError(f"objective {self.name!r}: expected 'minimize' or 'maximize', got {self.direction!r}")

    @property
    def sign(self) -> float:
        """1 if it is minimised, -1 if it is maximised."""
        return 1.0 if self.direction == "minimize" else -1.0


class Objectives(Sequence[Objective]):
    """One or several objectives, in the user's own directions.

    Parameters
    ----------
    objectives
        An :class:`Objective`, several of them, or ``{name: "minimize" | "maximize"}``.
    """

    def __init__(self, objectives: Objectives | Objective | Sequence[Any] | Mapping[str, Direction]) -> None:
        if isinstance(objectives, Objective):
            objectives = [objectives]
        if isinstance(objectives, Mapping):
            objectives = [Objective(name, direction) for name, direction in objectives.items()]
        if isinstance(objectives, str) or not isinstance(objectives, Sequence) or not objectives:
            raise ObjectivesError(f"expected minimize('name') or maximize('name'), or several; got {objectives!r}")
        flat: list[Objective] = []
        for objective in objectives:
            if not isinstance(objective, Objective | Objectives):
                raise ObjectivesError(f"expected minimize('name') or maximize('name'), got {objective!r}")
            flat += [objective] if isinstance(objective, Objective) else list(objective)
        self._objectives = tuple(flat)
        self.names = tuple(o.name for o in flat)
        if len(set(self.names)) < len(self.names):
            raise ObjectivesError(f"objectives must have different names, got {list(self.names)}")
        self._sign = np.array([o.sign for o in flat])

    def __getitem__(self, index: Any) -> Any:
        return self._objectives[index]

    def __len__(self) -> int:
        return len(self._objectives)

    def __iter__(self) -> Iterator[Objective]:
        return iter(self._objectives)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Objectives) and self._objectives == other._objectives

    def __hash__(self) -> int:
        return hash(self._objectives)

    def __repr__(self) -> str:
        return ", ".join(f"{o.direction}({o.name!r})" for o in self)

    def cost(self, fitness: Floats) -> Floats:
        """Turn fitness (..., n_objectives), in the user's directions, into cost, always minimised; and back."""
        cost: Floats = np.asarray(fitness, dtype=float) * self._sign
        return cost

    def parse(self, value: Any) -> tuple[float, ...]:
        """Read what an optimizee returned: a number, a sequence of them, or ``{name: number}``.

        Raises
        ------
        EvaluationError
            If it is anything else, or not finite.
        """
        expected = (
            f"a finite number for {self.names[0]!r}" if len(self) == 1 else f"finite numbers for {list(self.names)}"
        )
        if isinstance(value, Mapping):
            missing = [name for name in self.names if name not in value]
            if missing:
                raise EvaluationError(f"expected {expected}, got a dict without {missing}: {_shown(value)}")
            parts: Sequence[Any] = [value[name] for name in self.names]
        elif isinstance(value, tuple | list) or (isinstance(value, np.ndarray) and value.ndim == 1):
            parts = list(value)
        else:
            parts = [value]
        if len(parts) != len(self):
            raise EvaluationError(f"expected {expected}, got {len(parts)} values: {_shown(value)}")
        return tuple(_number(part, expected, value) for part in parts)

    def to_dict(self) -> dict[str, Direction]:
        return {o.name: o.direction for o in self}


def _number(part: Any, expected: str, value: Any) -> float:
    if isinstance(part, np.ndarray) and part.ndim == 0:
        part = part.item()
    if not isinstance(part, numbers.Real) or not math.isfinite(part):
        raise EvaluationError(f"expected {expected}, got {_shown(value)}")
    return float(part)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def minimize(name: str) -> Objective:
    """Return an objective that is better the smaller it is."""
    return Objective(name, "minimize")


def maximize(name: str) -> Objective:
    """Return an objective that is better the larger it is."""
    return Objective(name, "maximize")


@dataclass(frozen=True)
class Candidates:
    """What an optimizer proposes.

    Attributes
    ----------
    x : (k, dim) array
        Encoded vectors.
    info
        Named (k,) or (k, m) arrays stored beside them (generation, parents, ...) and handed to ``context.info``.
    ids : (k,) array
        Given by :meth:`Optimizer.ask <l2l_dask.optimizer.Optimizer.ask>`; empty before.
    """

    x: Floats
    info: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    ids: Ids = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True)
class Evaluations:
    """Results handed to an optimizer, in the order of their ids.

    Attributes
    ----------
    ids : (k,) array
    x : (k, dim) array
        The encoded vectors that were evaluated.
    cost : (k, n_objectives) array
        Always minimised; NaN where the evaluation failed.
    outputs
        For each name in :attr:`Optimizer.needs <l2l_dask.optimizer.Optimizer.needs>`, what each optimizee saved under
        that name (None where it failed).
    """

    ids: Ids
    x: Floats
    cost: Floats
    outputs: Mapping[str, Sequence[NDArray[Any] | None]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Candidate:
    """One individual on its way to a worker.

    Attributes
    ----------
    seed
        The experiment's.
    repeats
        How often it is to be evaluated.
    repeat
        Which of these evaluations this is, from 0.
    stream
        The key of the random stream that it shares with others; empty if it has its own.
    """

    id: int
    params: Params
    seed: int
    info: Mapping[str, Any] = field(default_factory=dict)
    attempt: int = 1
    repeats: int = 1
    repeat: int = 0
    stream: tuple[int, ...] = ()

    def seeds(self) -> np.random.SeedSequence:
        """Return what its randomness comes from: the same on every machine and at every attempt."""
        if self.stream:
            return np.random.SeedSequence(self.seed, spawn_key=(*self.stream, self.repeat))
        if self.repeat:
            return np.random.SeedSequence(self.seed, spawn_key=(_REPEAT_KEY, self.id, self.repeat))
        return individual_seed(self.seed, self.id)


@dataclass(frozen=True)
class Sampling:
    """How often individuals are evaluated and with what seeds, where fitness is noisy.

    Attributes
    ----------
    repeats
        Evaluations of each individual; its fitness is their mean.
    seeds
        ``"independent"``: each individual has its own. ``"common"``: the repeats of one individual have the same seeds
        as those of any other, so that differences between individuals are less noisy (common random numbers).
    final
        So many of the best are evaluated again at the end, as new rows: the best that was found was also lucky.
    final_repeats
        Evaluations of each of these, with seeds that the search has not seen, the same for all of them.
    """

    repeats: int = 1
    seeds: Seeds = "independent"
    final: int = 0
    final_repeats: int = 10

    def sampled(self, candidate: Candidate, final: int | None = None) -> Candidate:
        """Return the candidate with its number of evaluations and their seeds.

        Parameters
        ----------
        final
            If it is one of the best that are evaluated again: a number that those of one time share.
        """
        if final is not None:
            return replace(candidate, repeats=self.final_repeats, stream=(_FINAL_KEY, final))
        stream = (_COMMON_KEY,) if self.seeds == "common" else ()
        if self.repeats == 1 and not stream:
            return candidate
        return replace(candidate, repeats=self.repeats, stream=stream)


@dataclass(frozen=True)
class Goal:
    """A fitness that is good enough, in the user's directions.

    Attributes
    ----------
    values
        By the name of the objective; all have to be met.
    """

    objectives: Objectives
    values: Mapping[str, float]

    def met(self, fitness: Sequence[float]) -> bool:
        """Tell whether a fitness reaches it."""
        return all(
            value <= self.values[o.name] if o.direction == "minimize" else value >= self.values[o.name]
            for o, value in zip(self.objectives, fitness, strict=True)
            if o.name in self.values
        )

    def __str__(self) -> str:
        sign = {"minimize": "<=", "maximize": ">="}
        return ", ".join(
            f"{o.name} {sign[o.direction]} {self.values[o.name]:g}" for o in self.objectives if o.name in self.values
        )


@dataclass(frozen=True)
class Evaluation:
    """What came of one attempt to evaluate one individual.

    Attributes
    ----------
    fitness
        In the user's directions, one number per objective; empty unless ``status`` is DONE.
    error
        Empty, or the reason: one line, then the traceback and the tail of what was printed.
    submitted, started, finished
        Seconds since the epoch, by the clock of the machine concerned.
    curve
        What ``context.report`` sent: (step, value) pairs.
    saved
        Names of the arrays that ``context.save`` wrote.
    stored
        Whether these arrays are in the store already.
    arrays
        Arrays that travel with the result: those the optimizer needs, and all that are not stored.
    spread
        Where it was evaluated several times: the standard deviation of each objective; ``fitness`` is the mean then.
    hopeless
        Whether no other attempt is to be made, whatever the user laid down.
    """

    id: int
    status: Status
    attempt: int = 1
    fitness: tuple[float, ...] = ()
    error: str = ""
    worker: str = ""
    host: str = ""
    submitted: float = math.nan
    started: float = math.nan
    finished: float = math.nan
    curve: tuple[tuple[float, float], ...] = ()
    saved: tuple[str, ...] = ()
    stored: bool = False
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    spread: tuple[float, ...] = ()
    hopeless: bool = False

    @property
    def seconds(self) -> float:
        return self.finished - self.started


def optimizer_rng(seed: int, asked: int = 0) -> np.random.Generator:
    """Return an optimizer's own random generator; another one for each number of rows ``asked`` outside its control."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_OPTIMIZER_KEY, asked)))


def individual_seed(seed: int, id: int) -> np.random.SeedSequence:
    """Return the seed of individual ``id``'s first evaluation: the same on every machine and at every attempt."""
    return np.random.SeedSequence(seed, spawn_key=(_INDIVIDUAL_KEY, id))
