"""The contract of an optimizee: a program that takes parameters and returns a fitness."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Candidate, Objective, Objectives
from l2l_dask.reports import Point
from l2l_dask.space import Params, Space

Fitness: TypeAlias = float | Sequence[float] | Mapping[str, float]

_MAX_SIMULATOR_SEED = 2**31 - 2


@dataclass(frozen=True)
class Target:
    """What a saved one-dimensional array is meant to look like: drawn in the report under the best individual's.

    Attributes
    ----------
    values : (n,) array
    step : float
        Distance between two samples, in ``step_label``'s unit.
    label, step_label : str
        Axis titles, with units.
    """

    values: NDArray[Any]
    step: float = 1.0
    label: str = ""
    step_label: str = "sample"


@dataclass
class Context:
    """What an optimizee is given beside its parameters.

    Attributes
    ----------
    id, attempt, repeat
        Which individual this is, which attempt at it, from 1, and which of its repeats, from 0.
    info
        What the optimizer named (generation, budget, ...).
    seed : int
        For the simulator, from 1 to 2**31 - 2; the same for the same individual (and repeat) on every machine and
        attempt.
    rng : numpy.random.Generator
        Seeded likewise.
    stopped : bool
        Whether the search has stopped this individual early, as far as is known since its last report. Only
        ``evaluate_batch`` needs to look at it: see :meth:`report`.
    """

    candidate: Candidate
    scratch: Path | None = None
    curve: list[Point] = field(default_factory=list)
    saved: dict[str, NDArray[Any]] = field(default_factory=dict)
    stopped: bool = False
    _workdir: Path | None = None
    _listener: Callable[[Context], None] | None = None

    @cached_property
    def seed(self) -> int:
        return 1 + int(self.candidate.seeds().generate_state(1)[0]) % _MAX_SIMULATOR_SEED

    @cached_property
    def rng(self) -> np.random.Generator:
        return np.random.default_rng(self.candidate.seeds())

    @property
    def id(self) -> int:
        return self.candidate.id

    @property
    def attempt(self) -> int:
        return self.candidate.attempt

    @property
    def repeat(self) -> int:
        return self.candidate.repeat

    @property
    def info(self) -> Mapping[str, Any]:
        return self.candidate.info

    @property
    def workdir(self) -> Path:
        """An empty folder for this evaluation alone, made when first asked for and removed afterwards."""
        if self._workdir is None:
            self._workdir = Path(mkdtemp(prefix=f"l2l-{self.id}-", dir=self.scratch))
        return self._workdir

    def report(self, step: float, value: float) -> None:
        """Record a point of the inner loop's learning curve.

        An optimizer that looks at learning curves may stop an individual early. Then its next report ends its
        evaluation, by an exception that ``except Exception`` lets pass (``finally`` is obeyed): it gets the status
        ``stopped`` and no fitness, whatever is returned. Where an individual is evaluated several times, it is the
        first evaluation's reports that are looked at, and the next report of any that ends them all.

        Within ``evaluate_batch`` no exception could end one parameter set alone: there the report of one that was
        stopped sets :attr:`stopped`, the batch may leave off computing it and return None for it, and what it returns
        otherwise counts as the fitness. Only when all of a batch are stopped is the exception raised.
        """
        self.curve.append((float(step), float(value)))
        if self._listener is not None:
            self._listener(self)

    def save(self, name: str, array: ArrayLike) -> None:
        """Keep an array (a trace, a matrix) with this individual, under ``name``.

        Raises
        ------
        EvaluationError
            If the name cannot be a file's, or the array holds Python objects.
        """
        if not name or not all(c.isalnum() or c in "-_." for c in name) or name.startswith("."):
            raise EvaluationError(f"save: a name may hold letters, digits, '-', '_' and '.', got {name!r}")
        kept = np.array(array)
        if kept.dtype.hasobject:
            raise EvaluationError(f"save: {name!r} must be an array of numbers or strings, got {kept.dtype}")
        self.saved[name] = kept


class Optimizee(ABC):
    """Base class of all optimizees.

    A subclass sets :attr:`space` and :attr:`objectives` (on the class, or in ``__init__`` from its options) and writes
    :meth:`evaluate`. Import the simulator in :meth:`setup` or :meth:`evaluate`, never at the top of the file.

    Attributes
    ----------
    space : Space
    objectives : Objectives, or what makes them: ``minimize("rmse")``
    batch_size : int
        How many evaluations :meth:`evaluate_batch` takes at once; where it is more than 1, that is what is called.
    """

    space: Space
    objectives: Objectives | Objective | Sequence[Objective]
    batch_size: int = 1
    source: ClassVar[str] = ""

    def setup(self) -> None:
        """Prepare what all evaluations share; called once in each process before the first of them."""

    @abstractmethod
    def evaluate(self, params: Params, context: Context) -> Fitness:
        """Evaluate one parameter set.

        Returns
        -------
        float, sequence of float, or dict
            One number per objective, in the user's own directions.
        """

    def evaluate_batch(self, params: Sequence[Params], contexts: Sequence[Context]) -> Sequence[Fitness]:
        """Evaluate up to :attr:`batch_size` parameter sets at once; for simulators that gain from it.

        The time limit of an evaluation is that of the batch. Where it raises, crashes or takes too long, its parameter
        sets are evaluated one by one, so that only the culprit fails.

        Returns
        -------
        sequence of float, sequence of float, or dict
            One entry per parameter set, as :meth:`evaluate` returns.
        """
        return [self.evaluate(p, c) for p, c in zip(params, contexts, strict=True)]

    def targets(self) -> Mapping[str, Target]:
        """Name what saved arrays should look like, for the report."""
        return {}


class FunctionOptimizee(Optimizee):
    """A plain function as an optimizee.

    Parameters
    ----------
    function
        Takes the parameters as one dict, and the context too if it has a second argument.
    space, objectives
        What it takes and what it returns.
    """

    def __init__(
        self,
        function: Callable[..., Fitness],
        space: Space,
        objectives: Objectives | Objective | Sequence[Objective],
    ) -> None:
        self.function = function
        self.space = space
        self.objectives = Objectives(objectives)
        try:
            arguments = [p for p in inspect.signature(function).parameters.values() if _takes_position(p)]
        except (TypeError, ValueError):
            arguments = []
        name = getattr(function, "__name__", repr(function))
        if not arguments:
            raise PluginError(f"{name}() must take the parameters as a dict: def {name}(params): ...")
        required = [p.name for p in arguments if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
        if len(required) > 2:
            raise PluginError(f"{name}() must take (params) or (params, context), it needs {required}")
        self.wants_context = len(arguments) > 1 and (len(required) > 1 or arguments[1].name == "context")

    def evaluate(self, params: Params, context: Context) -> Fitness:
        return self.function(params, context) if self.wants_context else self.function(params)


def _takes_position(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD, parameter.VAR_POSITIONAL)
