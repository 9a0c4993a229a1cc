"""lq-CMA-ES: CMA-ES on a linear-quadratic model of the cost, with many evaluations in flight or by generations."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import ClassVar

import numpy as np

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._cma import Strategy, centre
from optimizers._lq_model import DIAGONAL, FULL, LINEAR, LQModel, coefficients, kendall_tau, stationary
from optimizers._options import check_count, check_number, checked_goal
from optimizers._surrogate_archive import Archive, Failures, Frame, Population, positions

_SEPARABLE_ABOVE = 100  # dimensions, as CMAES
_FULL_UP_TO = 40  # dimensions: the full model has 861 coefficients there
_POINTS = 2.0  # of the archive that the model is fitted to, times its coefficients: [1], table 1
_ENOUGH = 1.5  # points, times its coefficients, before the next larger model is used
_REFIT = 50  # results and updates between fits: its coefficients divided by this
_VALIDATED = 15  # results that tau is computed of, at least: [1], algorithm 2
_FEWEST = 3  # results before there is a model: [1], algorithm 2
_CAUTIOUS = 1 / 3  # likelihood of failure that every second candidate avoids: no long rows of failures
_PER_UPDATE = 10  # candidates in flight for each result that an update waits for
_REMEMBERED = 20_000  # vectors of integers only that are not asked again, which bounds the memory
_FAR = 1e6  # steps along the linear model's slope, in encoded units
_TOLERANCE = 1e-11  # range of the best costs of the last updates: the run has converged


class SurrogateCMAES(Optimizer):
    r"""CMA-ES that ranks most of its population by a model, and evaluates what the model thinks best.

    The choice for costly simulations of few to some tens of real or integer parameters: on smooth problems it needs a
    fraction of the evaluations of CMA-ES. After lq-CMA-ES [1]_: the model is linear, diagonal quadratic or full
    quadratic, whatever the results suffice for (:math:`n + 1`, :math:`2n + 1`, :math:`n(n+3)/2 + 1` coefficients; full
    up to 40 dimensions), fitted by least squares with weights that fall with the rank of the cost. An update of the
    distribution ([2]_, eq. 39 to 47, by the library ``cmaes``) costs :math:`\lambda` results only where the model is
    not trusted: with Kendall's :math:`\tau` between its predictions and the last results at or above ``tau``, the
    population is ranked by the model alone ([1]_, algorithm 1). The point where the model's gradient vanishes is
    injected, its step clipped [3]_. When a run has converged, another starts at a random place with twice the
    population.

    What differs from the paper, as it measured better on the 24 functions of BBOB with one and with 32 in flight:
    the model is fitted to the results nearest to the mean by the distribution's own metric, as in lmm-CMA-ES [4]_,
    whenever they were asked; predictions that go into :math:`\tau` are made without the result they are compared with
    (leave-one-out), hence a threshold below the paper's 0.85; and the best result is injected beside the model's.

    Asynchronous, no draw waits. Each candidate is the best by the model of :math:`2\lambda` new draws
    (:math:`\lambda` with one in flight) and of the model's optimum, so that what is in flight together is spread by
    chance as the distribution is. An update is tried for every k / 10 results with k in flight, and then for half as
    many more each time, until :math:`\lambda` results have come: if :math:`\tau` is too low even then, it is made of
    those, whichever distribution they were drawn from, with clipped steps. ``synchronous=True`` is the paper's
    algorithm: :math:`\lambda` vectors are drawn, the best by the model are evaluated and awaited, then half as many
    more, until :math:`\tau` is high enough or all are evaluated.

    Failed evaluations are left out (``synchronous``: ranked last). What is nearer to one of them than to a success, by
    the distribution's metric, is ranked last too, if failures follow places: a region where it fails is left. Integers
    keep a margin of probability to change, as in CMAES; vectors of integers only are not asked twice. Noise lowers
    :math:`\tau`: a search that is too noisy for the model is a plain CMA-ES.

    An ask and a tell together take about 1 ms up to 20 dimensions, and 3 ms in 40, 100 (diagonal) and 1000 (linear).
    Memory is that of the last results, three times as many as the model has coefficients and at least 1000.

    Parameters
    ----------
    pop_size
        Population of the first run, :math:`\lambda`; ``None`` for 4 + 3 ln(dim), rounded down. Larger is slower and
        more robust.
    sigma
        Initial standard deviation in encoded units: 1 is a bounded parameter's range, or an unbounded one's ``scale``.
    tau
        Kendall's rank correlation from which on the model is trusted; 1 for practically never.
    restarts
        Whether a run that has converged is followed by another; otherwise it is done.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness at which it is done; ``None`` for none.
    synchronous
        Whether a generation is awaited before the next is drawn.

    Attributes
    ----------
    strategy : Strategy
        The present run.
    model : LQModel or None
        The present model, in coordinates that the distribution gave.
    run : int
        Number of restarts so far.
    generation : int
        Number of updates so far.

    References
    ----------
    .. [1] N. Hansen, "A global surrogate assisted CMA-ES", GECCO 2019.
    .. [2] N. Hansen, "The CMA evolution strategy: a tutorial", arXiv:1604.00772, 2016.
    .. [3] N. Hansen, "Injecting external solutions into CMA-ES", arXiv:1110.4181, 2011.
    .. [4] S. Kern, N. Hansen, P. Koumoutsakos, "Local meta-models for optimization using evolution strategies", PPSN
       IX, 2006.
    """

    source: ClassVar[str] = "Hansen, GECCO 2019 (lq-CMA-ES); Kern, Hansen and Koumoutsakos, PPSN IX, 2006"
    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "conditional", "unbounded"})

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int | None = None,
        sigma: float = 0.3,
        tau: float = 0.5,
        restarts: bool = True,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        size = 4 + math.floor(3 * math.log(space.dim)) if pop_size is None else check_count("pop_size", pop_size, 4)
        self.sigma = check_number("sigma", sigma, 1e-6, 10)
        self.tau = check_number("tau", tau, 0, 1)
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        for name, value in (("restarts", restarts), ("synchronous", synchronous)):
            if not isinstance(value, bool):
                raise OptimizerError(f"{name} must be true or false, got {value!r}")
        self.restarts = restarts
        self.asynchronous = not synchronous
        self._goal = checked_goal(self.objectives, stop_criterion)
        self._stopped = False
        self.run = self.generation = 0
        self._box = space.bounded & (space.n_values == 0)
        self._discrete = bool((space.n_values > 0).any())
        self._all_discrete = bool((space.n_values > 0).all())
        self._seen: OrderedDict[bytes, None] = OrderedDict()  # vectors of integers only
        self._raw: dict[int, Floats] = {}  # of individuals in flight, where what is evaluated differs from it
        self._start(centre(space), size)

    @property
    def done(self) -> bool:
        return self._stopped or (self.n_iteration is not None and self.generation >= self.n_iteration)

    def _start(self, mean: Floats, pop_size: int) -> None:
        n = self.space.dim
        self.pop_size = pop_size
        self.strategy = Strategy(self.space, mean, self.sigma, pop_size, separable=n > _SEPARABLE_ABOVE)
        largest = coefficients(n)[FULL if n <= _FULL_UP_TO else DIAGONAL]
        self._archive = Archive(n, max(1000, 3 * largest))
        self._failures = Failures()
        self._first_id = self.n_asked
        self.model: LQModel | None = None
        self._frame: Frame | None = None
        self._since_fit = 0  # results and updates
        self._bests: list[float] = []  # of the last updates
        self._population: Population | None = None
        self._next_update()

    def _next_update(self) -> None:
        self._results = 0  # since the last update
        self._wanted = 1 + max(0, _FEWEST - len(self._archive))
        self._injected = False
        self._population = None

    # The model

    def _fit(self) -> LQModel | None:
        """Return the model, fitted anew if enough has come since."""
        count, n = len(self._archive), self.space.dim
        if count < _FEWEST:
            return None
        sizes = coefficients(n)
        largest = FULL if n <= _FULL_UP_TO else DIAGONAL
        kind = max((k for k in (DIAGONAL, FULL) if k <= largest and count >= _ENOUGH * sizes[k]), default=LINEAR)
        if self.model is not None and self._since_fit <= sizes[kind] // _REFIT:
            return self.model
        self._since_fit = 0
        self._frame = Frame(self.strategy)
        near, z = self._archive.nearest(self._frame, max(sizes[kind] + 2, int(_POINTS * sizes[kind])))
        self._near = near + self._archive.forgotten
        self.model = LQModel(z, self._archive.cost[near], kind)
        return self.model

    def _predict(self, model: LQModel, x: Floats) -> Floats:
        assert self._frame is not None
        with np.errstate(all="ignore"):
            return np.nan_to_num(model.predict(self._frame.white(x)), nan=np.inf)

    def _rank(self, model: LQModel, x: Floats, limit: float = 0.5) -> Floats:
        """Predict costs by which vectors are to be ranked: those that are likely to fail come last."""
        value = self._predict(model, x)
        assert self._frame is not None
        if self._failures.follow_places(self._frame):
            failure = self._failures.likely(self._frame, x, self._archive.x)
            value = np.where(failure > limit, failure * np.finfo(float).max, np.minimum(value, 1e300))
        return value

    def _agreement(self, model: LQModel) -> float:
        """Return Kendall's tau of the last results and what the model predicts without each of them."""
        archive = self._archive
        some = max(_VALIDATED, min(int(1.2 * self._results), int(0.75 * self.pop_size)))
        cost, x = archive.cost[-some:], archive.x[-some:]
        predicted = self._predict(model, x)
        numbers = np.arange(archive.added - len(cost), archive.added)
        rows = positions(numbers, self._near)
        fitted = rows >= 0
        predicted[fitted] = model.left_out(rows[fitted])
        return kendall_tau(cost, predicted)

    def _optimum(self, model: LQModel) -> Floats:
        """Return the model's optimum within the bounds as a raw vector (1, dim), its step from the mean clipped."""
        assert self._frame is not None
        with np.errstate(all="ignore"):
            frame = self._frame
            x = frame.coloured(model.origin[None])[0]
            gradient = frame.gradient(model.gradient)
            if model.kind == LINEAR:  # a corner of the box, or far away
                x = x - _FAR * gradient / np.abs(gradient).max()
            elif model.kind == DIAGONAL:
                x = frame.coloured((model.origin - model.gradient / model.curvature)[None])[0]
            elif np.isfinite(gradient).all():
                x = stationary(x, gradient, frame.hessian(model.hessian), self._box)
            raw = self._inside(x[None])
            raw = self.strategy.clipped(raw) if np.isfinite(raw).all() else self.strategy.mean[None].copy()
        return self._inside(raw)

    # Draws

    def _inside(self, raw: Floats) -> Floats:
        return np.where(self._box, np.clip(raw, 0.0, 1.0), raw)

    def _draw(self, count: int) -> Floats:
        """Draw raw vectors (count, dim), projected onto the bounds."""
        frame = Frame(self.strategy)
        return self._inside(frame.coloured(self.rng.standard_normal((count, self.space.dim))))

    def _evaluated(self, raw: Floats) -> Floats:
        """Turn raw vectors into those that are evaluated: integers in the middle of their bin."""
        if not self._discrete:
            return raw
        margin = self.strategy._margin
        assert margin is not None
        return self.space.snap(np.array([margin.spread(row, self.strategy.mean) for row in raw]))

    def _population_of(self, model: LQModel | None) -> Floats:
        """Draw a population of raw vectors, the model's optimum and the best result among them."""
        raw = self._draw(self.pop_size)
        if model is not None:
            raw[0] = self._optimum(model)[0]
            raw[-1] = self._archive.best[1]
        return raw

    def _ask(self, n: int) -> Candidates:
        self._proposed: list[Floats] = []
        injected: list[bool] = []
        while len(self._proposed) < n and not self.done:
            new = self._propose() if self.asynchronous else self._member()
            if new is None:
                break
            raw, x, is_optimum = new
            if self._discrete:
                self._raw[self.n_asked + len(self._proposed)] = raw
            self._proposed.append(x)
            if self._all_discrete:
                self._note(self._proposed[-1])
            injected.append(is_optimum)
        generation = np.full(len(injected), self.generation, dtype=np.int64)
        info = {"generation": generation, "injected": np.array(injected, dtype=bool)}
        return Candidates(np.array(self._proposed), info)

    def _propose(self) -> tuple[Floats, Floats, bool]:
        """Return the best by the model of some draws, raw and as evaluated, and whether it is the model's optimum."""
        model = self._fit()
        in_flight = bool(self._untold or self._proposed)
        count = self.pop_size * (1 + in_flight) if model is not None else 1
        raw = self._draw(count)
        if model is not None and not self._injected:
            raw = np.concatenate([self._optimum(model), raw])
        x = self._evaluated(raw)
        limit = 0.5 if self.rng.random() < 0.5 else _CAUTIOUS
        value = np.zeros(1) if model is None else self._rank(model, x, limit)
        if self._all_discrete:
            new = np.array([row.tobytes() not in self._seen for row in x])
            if not new.any():  # nearby: then anywhere
                anywhere = self.space.snap(self.space.sample(self.rng, self.pop_size))
                found = next((row for row in anywhere if row.tobytes() not in self._seen), anywhere[0])
                return found, found, False
            value = np.where(new, np.minimum(value, np.finfo(float).max), np.inf)
        i = int(np.argmin(value))
        is_optimum = len(raw) > count and i == 0
        self._injected = self._injected or is_optimum
        return raw[i], x[i], is_optimum

    def _note(self, x: Floats) -> None:
        """Remember a vector that is not to be asked again."""
        self._seen[x.tobytes()] = None
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)

    # By generations: [1], algorithm 1

    def _member(self) -> tuple[Floats, Floats, bool] | None:
        """Return the next of the population by the model, if as many as wanted are not in flight already."""
        model = self._fit()
        if self._population is None:
            raw = self._population_of(model)
            self._population = Population(raw, self._evaluated(raw), model is not None)
        members = self._population
        free = np.flatnonzero(~members.asked)
        if not len(free) or members.asked.sum() >= self._wanted:
            return None
        i = int(free[0] if model is None else free[np.argmin(self._rank(model, members.x[free]))])
        members.asked[i] = True
        members.place[self.n_asked + len(self._proposed)] = i
        return members.raw[i], members.x[i], members.has_optimum and i == 0

    # Results

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        if self._all_discrete:
            for row in self.space.snap(x):
                self._note(row)
        self._population = None  # what of it is in flight is a result like others

    def _tell(self, evaluations: Evaluations) -> None:
        for id, x, cost in zip(evaluations.ids.tolist(), evaluations.x, evaluations.cost[:, 0].tolist(), strict=True):
            raw = self._raw.pop(id, x)
            valid = math.isfinite(cost) and id >= self._first_id
            if id >= self._first_id:
                self._failures.note(x, failed=not valid)
            if valid:
                self._archive.add(x, raw, cost)
                self._since_fit += 1
                self._results += 1
                self._stopped = self._stopped or cost <= self._goal
            if self.asynchronous:
                if valid:
                    self._update()
            elif self._population is not None and id in self._population.place:
                self._take(self._population, id, cost)

    def _update(self) -> None:
        """Update the distribution, if the model is trusted or enough results have come."""
        enough = self._results >= self.pop_size
        least = round((len(self._untold) + 1) / _PER_UPDATE)
        if self._results < max(self._wanted, least) and not enough:
            return
        model = self._fit()
        if model is not None and self._agreement(model) >= self.tau:
            self._learn_from_model(model, self._population_of(model))
        elif enough:
            last = slice(len(self._archive) - self.pop_size, None)
            self._learn(self._archive.raw[last], self._archive.cost[last])
        else:
            self._wanted = self._results + math.ceil(self._results / 2)

    def _take(self, members: Population, id: int, cost: float) -> None:
        """Take a result of the population; update the distribution once the model is trusted or all are evaluated."""
        members.cost[members.place.pop(id)] = cost
        if members.place or members.asked.sum() < min(self._wanted, self.pop_size):
            return
        model = self._fit()
        if model is not None and self._agreement(model) >= self.tau:
            self._learn_from_model(model, members.raw)
        elif not members.asked.all():
            self._wanted += math.ceil(self._wanted / 2)
        elif np.isnan(members.cost).all():
            self._population = None
        else:
            worst = np.nanmax(members.cost)
            self._learn(members.raw, np.where(np.isnan(members.cost), worst, members.cost))

    def _learn_from_model(self, model: LQModel, raw: Floats) -> None:
        self._learn(raw, self._rank(model, self._evaluated(raw)))

    def _learn(self, raw: Floats, cost: Floats) -> None:
        """Update the distribution ([2], eq. 39 to 47) from ``pop_size`` raw vectors."""
        last = self._archive.cost[-max(1, self._results) :]
        best = float(last.min()) if len(last) else math.inf
        finite = np.where(np.isfinite(cost), cost, np.finfo(float).max / 4)
        self.strategy.tell(self.strategy.clipped(raw), finite)
        self.generation += 1
        self._since_fit += 1  # the nearest results may be others now
        horizon = 10 + math.ceil(30 * self.space.dim / self.pop_size)  # [2], B.3, TolFun
        self._bests = [*self._bests[-horizon + 1 :], best]
        spread = max(self._bests) - min(self._bests)
        flat = len(self._bests) == horizon and spread <= max(_TOLERANCE, 1e-14 * abs(best))
        if not (self.strategy.stopped or flat):
            self._next_update()
        elif self.restarts:
            self.run += 1
            self._start(self.space.sample(self.rng, 1)[0], 2 * self.pop_size)
        else:
            self._stopped = True
