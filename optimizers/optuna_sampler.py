"""Any sampler of Optuna."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.parameters import Categorical, Integer, code
from l2l_dask.space import Floats, Space
from optimizers._adapters import (
    Units,
    built,
    checked_options,
    drawn_seed,
    found,
    library_seed,
    needed,
    refuse_objectives,
    takes,
)

_COSTLY = ("TPESampler", "GPSampler")
_FROM_TRIALS_ALONE = (*_COSTLY, "GridSampler")  # they take any trial, whoever proposed it
_OUTSIDE_GRID = {"grid_id": -1, "search_space": {}}  # without these GridSampler stumbles over a trial
_ONE_OBJECTIVE = ("CmaEsSampler",)


class OptunaSampler(Optimizer):
    r"""Any sampler of Optuna [1]_: its tree-structured Parzen estimator, CMA-ES, NSGA-II, QMC, or one of your own.

    Each parameter is one of Optuna's, in its natural units and on its own scale: a ``FloatDistribution`` (``log`` too),
    an ``IntDistribution`` or a ``CategoricalDistribution``, named as the dimensions are (``w[0,1]``). Where parameters
    are conditional only the active ones are suggested, parents first, and TPE models each set of parameters that
    occur together (``group=True``). Optuna has no unbounded numbers: such a parameter is searched in the box of
    ``loc`` :math:`\pm` 5 ``scale``. What is adopted beyond it counts as if it lay on its border.

    With the same seed and results it proposes what the sampler alone would. It never waits: trials in flight are
    Optuna's running trials (TPE's constant liar is on, as is Optuna's default). An evaluation that fails is a failed
    trial, which samplers pass over. What is adopted (a user's guesses, retries) are trials with given parameters; as in
    Optuna's own distributed search the sampler then goes on with a new seed. Nothing is pruned.

    Optuna keeps every trial, and each proposal of most samplers looks at all of them: time grows with the square of
    the number of evaluations, memory with the number. TPE takes about 10 ms for a proposal after 100 evaluations and 10
    to 20 times that after 2000; it is for expensive evaluations. Therefore a search by TPE or GP is resumed by telling
    alone (``replay = "tell"``): it knows all results, and proposes other candidates than an uninterrupted search would.
    All other samplers are resumed exactly.

    ``GPSampler`` needs torch. ``CmaEsSampler`` takes one objective, and samples categoricals at random. While it works
    Optuna's log messages below an error are dropped; its verbosity for others is left alone.

    Parameters
    ----------
    sampler
        A class of ``optuna.samplers``, or ``package.module:Class``.
    sampler_options
        Its keyword arguments, without ``seed``: ``{"n_startup_trials": 20}``.

    References
    ----------
    .. [1] T. Akiba, S. Sano, T. Yanase, T. Ohta, M. Koyama, "Optuna: a next-generation hyperparameter optimization
       framework", KDD 2019.
    .. [2] J. Bergstra, R. Bardenet, Y. Bengio, B. Kégl, "Algorithms for hyper-parameter optimization", NIPS 2011.
    """

    source: ClassVar[str] = "Akiba et al., Optuna, KDD 2019; TPE: Bergstra et al., NIPS 2011"
    max_objectives: int | None = None
    replay: Literal["exact", "tell"] = "tell"

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        sampler: str = "TPESampler",
        sampler_options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self._optuna: Any = needed("optuna", "optuna")
        samplers = self._optuna.samplers
        known = {name: getattr(samplers, name) for name in samplers.__all__ if name.endswith("Sampler")}
        known = {name: c for name, c in known.items() if not name.startswith("Base")}
        self._sampler_class = found("sampler", sampler, known, "Optuna")
        self._sampler_options = checked_options("sampler_options", sampler_options, ("seed",))
        kinds = {c.__name__ for c in getattr(self._sampler_class, "__mro__", ())}
        self.max_objectives = 1 if kinds & set(_ONE_OBJECTIVE) else None
        refuse_objectives(sampler, self.max_objectives, len(self.objectives))
        if "GPSampler" in kinds:
            needed("torch", sampler, "sbi")
        self._takes_any = bool(kinds & set(_FROM_TRIALS_ALONE))
        self.replay = "tell" if kinds & set(_COSTLY) else "exact"
        multivariate = len(self.objectives) == 1 and self._sampler_options.get("multivariate") is not False
        if "TPESampler" in kinds and space.conditional and multivariate:
            self._sampler_options.setdefault("group", True)
        if takes(self._sampler_class, "warn_independent_sampling") and "TPESampler" not in kinds:
            self._sampler_options.setdefault("warn_independent_sampling", False)
        self._units = Units(space)
        self._distributions = self._described()
        self._order = self._parents_first()
        self._exhausted = False
        self._stale = False
        self._study: Any = None
        with _quiet():
            built("sampler_options", self._rehearsed)
            self._begin()

    def _begin(self) -> None:
        self._study = self._optuna.create_study(
            directions=["minimize"] * len(self.objectives), sampler=self._sampler(library_seed(self.seed))
        )
        self._study.stop = self._stop

    def _rehearsed(self) -> None:
        """Ask and tell once, so that a sampler that cannot work on this space says so at once."""
        self._begin()
        self._new()
        self._study.tell(0, [0.0] * len(self.objectives))
        self._exhausted = False

    @property
    def done(self) -> bool:
        return self._exhausted

    def _stop(self) -> None:
        self._exhausted = True  # a grid or an enumeration that has come to its end

    def _sampler(self, seed: int) -> Any:
        given = {"seed": seed} if takes(self._sampler_class, "seed") else {}
        return built("sampler_options", self._sampler_class, **self._sampler_options, **given)

    def _described(self) -> dict[str, Any]:
        """Return Optuna's distribution of each dimension, by its label."""
        optuna = self._optuna.distributions
        described: dict[str, Any] = {}
        self._choices: list[dict[Any, int] | None] = []
        for i, (label, p) in enumerate(zip(self.space.labels, self._units.parameters, strict=True)):
            if isinstance(p, Categorical):
                # Optuna takes True for 1: where both are choices, they go by their number.
                distinct = len(set(p.choices)) == len(p.choices)
                choices = p.choices if distinct else tuple(range(len(p.choices)))
                described[label] = optuna.CategoricalDistribution(choices)
                self._choices.append({choice: position for position, choice in enumerate(choices)})
                continue
            kind = optuna.IntDistribution if isinstance(p, Integer) else optuna.FloatDistribution
            described[label] = kind(*self._units.ends(i), log=p.log)
            self._choices.append(None)
        return described

    def _parents_first(self) -> list[tuple[int, str, list[tuple[int, frozenset[float]]]]]:
        """List dimension, label and the (parent dimension, codes) under which it is active."""
        first = {label.partition("[")[0]: i for i, label in reversed(list(enumerate(self.space.labels)))}
        waiting, ordered = dict(self.space), []
        while waiting:
            for name in [name for name, p in waiting.items() if not set(p.conditions) & set(waiting)]:
                p = waiting.pop(name)
                conditions = [
                    (first[parent], frozenset(code(self.space[parent], value) for value in values))
                    for parent, values in p.conditions.items()
                ]
                ordered += [(i, self.space.labels[i], conditions) for i in range(first[name], first[name] + p.size)]
        return ordered

    def _ask(self, n: int) -> Candidates:
        with _quiet():
            if self._stale:
                self._study.sampler = self._sampler(drawn_seed(self.rng))
                self._stale = False
            return self._proposal([self._new() for _ in range(0 if self.done else n)])

    def _new(self) -> Floats:
        """Make a trial; its number is the id that the individual will have."""
        if not self.space.conditional:
            params = self._study.ask(self._distributions).params
            given = [params[label] for label in self.space.labels]
            codes = [v if c is None else c[v] for v, c in zip(given, self._choices, strict=True)]
            return self._units.encoded(np.array(codes, dtype=float))
        trial, values = self._study.ask(), np.full(self.space.dim, np.nan)
        for i, label, conditions in self._order:
            if all(values[parent] in allowed for parent, allowed in conditions):
                choices = self._choices[i]
                value = self._suggested(trial, label)
                values[i] = value if choices is None else choices[value]
        return self._units.encoded(values)

    def _suggested(self, trial: Any, label: str) -> Any:
        distribution = self._distributions[label]
        if hasattr(distribution, "choices"):
            return trial.suggest_categorical(label, distribution.choices)
        suggest = trial.suggest_int if isinstance(distribution.low, int) else trial.suggest_float
        return suggest(label, distribution.low, distribution.high, log=distribution.log)

    def _tell(self, evaluations: Evaluations) -> None:
        failed = self._optuna.trial.TrialState.FAIL
        with _quiet():
            for id, cost in zip(evaluations.ids.tolist(), evaluations.cost, strict=True):
                values = cost.tolist()
                if all(map(math.isfinite, values)):
                    self._study.tell(id, values)
                else:
                    self._study.tell(id, state=failed)

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        self._stale = True
        with _quiet():
            for row in x:
                self._take(self._params(row))

    def _params(self, x: Floats) -> dict[str, Any]:
        """Return the parameters of an encoded vector as Optuna names them; inactive ones are absent."""
        params: dict[str, Any] = {}
        for label, value in zip(self.space.labels, self._units.natural(x).tolist(), strict=True):
            if value == value:  # noqa: PLR0124
                distribution = self._distributions[label]
                if hasattr(distribution, "choices"):
                    params[label] = distribution.choices[int(value)]
                else:
                    params[label] = int(value) if isinstance(distribution.low, int) else value
        return params

    def _take(self, params: dict[str, Any]) -> None:
        """Make a trial of given parameters."""
        if self._takes_any:
            trial = self._optuna.trial.create_trial(
                state=self._optuna.trial.TrialState.RUNNING,
                params=params,
                distributions={label: self._distributions[label] for label in params},
                system_attrs=_OUTSIDE_GRID,
            )
            self._study.add_trial(trial)
            return
        if self._stale:
            self._study.sampler = self._sampler(drawn_seed(self.rng))
            self._stale = False
        # The sampler sees it as one that it proposed: CMA-ES and NSGA-II count it as a member of their generation.
        self._study.enqueue_trial(params)
        if self.space.conditional:
            trial = self._study.ask()
            for _, label, _ in self._order:
                if label in params:
                    self._suggested(trial, label)
        else:
            self._study.ask(self._distributions)


class _Unheard(logging.Filter):
    """Drops what Optuna logs below an error in a thread that is inside :func:`_quiet`."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return record.levelno >= logging.ERROR or not getattr(self.here, "quiet", False)


_UNHEARD = _Unheard()


@contextmanager
def _quiet() -> Iterator[None]:
    for handler in logging.getLogger("optuna").handlers:
        if _UNHEARD not in handler.filters:
            handler.addFilter(_UNHEARD)
    before = getattr(_UNHEARD.here, "quiet", False)
    _UNHEARD.here.quiet = True
    try:
        yield
    finally:
        _UNHEARD.here.quiet = before
