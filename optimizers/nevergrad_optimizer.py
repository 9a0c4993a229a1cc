"""Any optimizer of Nevergrad."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.parameters import Integer
from l2l_dask.space import Floats, Space
from optimizers._adapters import (
    GlobalRandomness,
    built,
    checked_options,
    drawn_seed,
    found,
    library_seed,
    needed,
)
from optimizers._options import check_count

# Of these the source shows that they draw from their own random state alone; exchanging NumPy's takes time.
_OWN_RANDOMNESS = frozenset({"CMA", "DE", "DiagonalCMA", "OnePlusOne", "PSO", "RandomSearch", "TBPSA", "TwoPointsDE"})


class NevergradOptimizer(Optimizer):
    """Any optimizer of Nevergrad's registry [1]_: differential evolution, CMA-ES, (1 + 1), TBPSA, particle swarms, ...

    Bounded reals (and integers on a logarithmic scale) are one bounded ``Array`` of encoded numbers, unbounded reals an
    ``Array`` without bounds, integers an ``Array`` with integer casting, categoricals ``Choice``. Of a conditional
    space all parameters are searched, the inactive ones are ignored.

    With the same seed and results it proposes what the library alone would, and does not wait: Nevergrad takes results
    in any order. Those of its optimizers that allow for one evaluation at a time only (``no_parallelization``: SQP,
    Cobyla, BFGS, Powell, ... and what is chained with them) have a barrier. What is adopted (a user's guesses, retries)
    is told as "not asked", which a few pass over; the random state then starts anew.

    A search is resumed by asking and telling again. Those few that seed themselves by the clock (``CmaFmin2``) cannot
    be repeated: go on with ``--trust-record``.

    Nevergrad knows no failures: a failed evaluation is told the worst cost so far, and passed over while there is none.
    Several objectives are turned into one loss by Nevergrad, the hypervolume that a point adds; with four and
    more of them that is slow.

    The registry holds what cannot run everywhere. Many, such as NGOpt, need ``evaluations`` (which an experiment fills
    in). With Nevergrad 1.0.12 and NumPy 2.4 about a hundred of 542 fail in their course, all that fit a meta-model
    (MetaModel, CSEC, Carola, NgIoh, NgIohTuned, Wiz, NGOpt8, and NGOpt where it chooses one of these), and some thirty
    want other libraries (AX, SMAC3, PCABO, pysot, NLOPT, BOBYQA): an error of one line says so.

    Parameters
    ----------
    optimizer
        A name of ``nevergrad.optimizers.registry``, a class of ``nevergrad.families`` or ``package.module:name``.
    optimizer_options
        Keyword arguments of a family: ``{"popsize": 20}`` of ``"DifferentialEvolution"``.
    evaluations
        Nevergrad's ``budget``: many choose their method and its parameters by it. The experiment's if None.
    workers
        Nevergrad's ``num_workers``. The experiment's if None.

    References
    ----------
    .. [1] P. Bennet, C. Doerr, A. Moreau, J. Rapin, F. Teytaud, O. Teytaud, "Nevergrad: black-box optimization
       platform", SIGEVOlution 14(1), 2021.
    .. [2] R. Storn, K. Price, "Differential evolution", Journal of Global Optimization 11, 1997.
    """

    source: ClassVar[str] = "Bennet et al., Nevergrad, SIGEVOlution 14(1), 2021"
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        optimizer: str = "TwoPointsDE",
        optimizer_options: dict[str, Any] | None = None,
        evaluations: int | None = None,
        workers: int | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        if evaluations is not None:
            check_count("evaluations", evaluations, 1)
        if workers is not None:
            check_count("workers", workers, 1)
        ng = needed("nevergrad", "nevergrad")
        families = {name: v for name, v in vars(ng.families).items() if isinstance(v, type)}
        make = found("optimizer", optimizer, families | dict(ng.optimizers.registry), "Nevergrad")
        given = checked_options("optimizer_options", optimizer_options, ("parametrization", "budget", "num_workers"))
        if optimizer in families:
            make = built("optimizer_options", make, **given)
        elif given:
            raise OptimizerError(
                f"optimizer_options must be empty, got {given!r}: only {', '.join(sorted(families))} take some"
            )
        self._name, self._kinds = optimizer, _Kinds(space, ng.p)
        serial = bool(getattr(make, "no_parallelization", False))
        setup = {"budget": evaluations, "num_workers": 1 if serial or workers is None else workers}
        self._global = GlobalRandomness(library_seed(seed))
        self._lent: Callable[[], AbstractContextManager[None]] = self._global.lent
        self._random_state = np.random.RandomState(library_seed(seed))
        with self._calling():
            rehearsed = make(self._kinds.parametrization(np.random.RandomState(0)), **setup)
            rehearsed.ask()  # so that what cannot work here says so at once
            self._optimizer: Any = make(self._kinds.parametrization(self._random_state), **setup)
        self._global.restart(library_seed(seed))
        if optimizer in _OWN_RANDOMNESS:
            self._lent = nullcontext
        self._one_at_a_time = bool(self._optimizer.no_parallelization)
        self.asynchronous = not self._one_at_a_time
        if len(self.objectives) > 1:
            self._optimizer.num_objectives = len(self.objectives)
        self._candidates: dict[int, Any] = {}  # proposed and not yet told
        self._worst: Floats | None = None

    @contextmanager
    def _calling(self) -> Iterator[None]:
        """Let the library use its own random states, warn about nothing, and fail in one line."""
        try:
            with self._lent(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        except Exception as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OptimizerError(
                f"optimizer {self._name!r} of Nevergrad raised {reason}: it expected something that is not here "
                "(a budget by evaluations=, a package, an older NumPy); TwoPointsDE, CMA, OnePlusOne and PSO do without"
            ) from error

    def _ask(self, n: int) -> Candidates:
        if self._one_at_a_time:
            n = min(n, 1 - len(self._candidates))
        rows = []
        for id in range(self.n_asked, self.n_asked + n):
            with self._calling():
                candidate = self._optimizer.ask()
            self._candidates[id] = candidate
            rows.append(self._kinds.encoded(candidate.value))
        return self._proposal(rows)

    def _tell(self, evaluations: Evaluations) -> None:
        for id, x, cost in zip(evaluations.ids.tolist(), evaluations.x, evaluations.cost, strict=True):
            candidate = self._candidates.pop(id, None)
            failed = not np.isfinite(cost).all()
            if failed and self._worst is None and not self._one_at_a_time:
                continue
            if not failed:
                self._worst = cost if self._worst is None else np.maximum(self._worst, cost)
            loss = np.full(len(cost), _BAD) if self._worst is None else self._worst if failed else cost
            with self._calling():
                self._hand_over(candidate, x, loss.tolist())

    def _hand_over(self, candidate: Any, x: Floats, loss: list[float]) -> None:
        from nevergrad.common.errors import TellNotAskedNotSupportedError

        if candidate is not None:
            self._optimizer.tell(candidate, loss if len(loss) > 1 else loss[0])
            return
        candidate = self._optimizer.parametrization.spawn_child(new_value=self._kinds.value(x))
        try:
            self._optimizer.tell(candidate, loss if len(loss) > 1 else loss[0])
        except TellNotAskedNotSupportedError:
            return

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        seed = drawn_seed(self.rng)
        self._random_state.seed(seed)
        self._global.restart(seed)


_BAD = 1e20  # a loss that Nevergrad still takes; larger than 5e20 is cut


class _Kinds:
    """The dimensions of a space as Nevergrad's parameters, by kind, and their values as encoded vectors."""

    def __init__(self, space: Space, p: Any) -> None:
        self._space, self._p = space, p
        parameters = [parameter for parameter in space.values() for _ in range(parameter.size)]
        linear = np.array([isinstance(parameter, Integer) and not parameter.log for parameter in parameters])
        categorical = np.array([kind == "categorical" for kind in space.kinds])
        self._integer = np.flatnonzero(linear)
        self._free = np.flatnonzero(~space.bounded)
        self._real = np.flatnonzero(space.bounded & ~linear & ~categorical)
        self._low = np.array([q.low for q in parameters if isinstance(q, Integer) and not q.log], dtype=float)
        self._n = space.n_values[self._integer].astype(float)
        self._choices: dict[str, NDArray[np.intp]] = {}
        start = 0
        for name, parameter in space.items():
            if parameter.kind == "categorical":
                self._choices[name] = np.arange(start, start + parameter.size)
            start += parameter.size

    def parametrization(self, random_state: np.random.RandomState) -> Any:
        """Make a ``Dict`` of the kinds that there are, or the only one there is."""
        p, parts = self._p, {}
        if len(self._real):
            parts["real"] = p.Array(shape=(len(self._real),), lower=0.0, upper=1.0)
        if len(self._free):
            parts["free"] = p.Array(shape=(len(self._free),))
        if len(self._integer):
            middle = self._low + np.floor(self._n / 2)
            array = p.Array(init=middle, lower=self._low, upper=self._low + self._n - 1)
            parts["integer"] = array.set_integer_casting()
        for name, where in self._choices.items():
            n = int(self._space.n_values[where[0]])
            parts[f"choice {name}"] = p.Choice(range(n), repetitions=len(where))
        self._only = next(iter(parts)) if len(parts) == 1 else ""
        whole = parts[self._only] if self._only else p.Dict(**parts)
        whole.random_state = random_state
        return whole

    def encoded(self, value: Any) -> Floats:
        value = {self._only: value} if self._only else value
        x = np.empty(self._space.dim)
        if len(self._real):
            x[self._real] = np.clip(value["real"], 0.0, 1.0)
        if len(self._free):
            x[self._free] = value["free"]
        if len(self._integer):
            x[self._integer] = (np.clip(value["integer"] - self._low, 0, self._n - 1) + 0.5) / self._n
        for name, where in self._choices.items():
            x[where] = (np.array(value[f"choice {name}"], dtype=float) + 0.5) / self._space.n_values[where]
        return self._space.snap(x)

    def value(self, x: Floats) -> Any:
        """Return what Nevergrad calls the value of an encoded vector; the reverse of :meth:`encoded`."""
        value: dict[str, Any] = {}
        if len(self._real):
            value["real"] = np.clip(x[self._real], 0.0, 1.0)
        if len(self._free):
            value["free"] = x[self._free]
        if len(self._integer):
            bins = np.clip(np.floor(x[self._integer] * self._n), 0, self._n - 1)
            value["integer"] = self._low + bins
        for name, where in self._choices.items():
            n = self._space.n_values[where]
            codes = np.clip(np.floor(x[where] * n), 0, n - 1).astype(int).tolist()
            value[f"choice {name}"] = tuple(codes)
        return value[self._only] if self._only else value
