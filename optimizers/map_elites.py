"""MAP-Elites and CMA-ME: the best individual of every cell of a grid of behaviours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._operators import Operators
from optimizers._options import check_count, check_number

_NOBODY = -1
_CELLS, _MOST_CELLS = 1000, 1_000_000
_WIDE = math.sqrt(12)  # standard deviation of an unbounded parameter's N(0, 1) over that of a bounded one's U(0, 1)
_DENSE = 200  # dimensions up to which CMA-ES has full covariances
_UNSEEN = 100  # results that wait for pyribs
_REACH = 3.0  # an unbounded parameter's measure spans loc +- 3 scale


@dataclass
class _Elite:
    id: int
    x: Floats
    cost: float
    measures: Floats


@dataclass
class _Batch:
    """The solutions of one emitter of CMA-ME that are being evaluated."""

    emitter: Any
    solutions: Floats  # in units of sigma
    inside: Floats  # encoded, the nearest within the bounds
    asked: int = 0
    results: dict[int, _Elite] = field(default_factory=dict)  # those that succeeded, by row
    told: int = 0


class MAPElites(Optimizer):
    """MAP-Elites: illuminates how good can be had for every kind of behaviour, instead of finding one best.

    Individuals are sorted by measures of their behaviour into the cells of a grid; each cell keeps the best, its elite
    [1]_. The **first objective is the quality**. The measures are the further objectives, whose direction
    does not matter, or parameters, as ``measures`` says.

    ``emitter = "gaussian"`` draws an elite at random and adds Gaussian noise to all its reals; each integer moves and
    each categorical changes with probability 1 / dim. ``"cma-me"`` [2]_ steers CMA-ES towards new cells and improved
    elites, by the emitters and the improvement ranking of the library pyribs [3]_ (above 200 dimensions with diagonal
    covariances); it searches numbers only. An adoption starts its emitters anew, from elites.

    Asynchronous throughout: each result enters its cell as it comes. An emitter of CMA-ME learns when the last of its
    batch has come, while the others go on; when all of them wait, elites are mutated as by ``"gaussian"``. Failed
    individuals enter nothing, and rank last in their batch.

    Parameters
    ----------
    measures
        Names of objectives after the first, or of parameters (``"tau_m"``, ``"w[0]"``), that span the grid. ``None``
        for all objectives after the first, or if there are none for the first two parameters.
    ranges
        ``{name: [low, high]}`` of measures that are objectives, in their own units; what is outside counts to the
        outermost cells. Those not named span the first ``pop_size`` results. Parameters span their bounds, or
        ``loc`` +- 3 ``scale``.
    bins
        Cells per measure, one number for all or a list; ``None`` for about 1000 cells in all. An integer or categorical
        parameter has no more than its values.
    emitter
        ``"gaussian"`` or ``"cma-me"`` (needs ribs).
    pop_size
        Number of random individuals at the start.
    sigma
        Standard deviation of the noise, and CMA-ES's first, in encoded units: 1 is a bounded parameter's range;
        unbounded ones take it times 3.5.
    emitters
        Number of emitters of CMA-ME, which search side by side.

    References
    ----------
    .. [1] J.-B. Mouret, J. Clune, "Illuminating search spaces by mapping elites", arXiv:1504.04909, 2015.
    .. [2] M. C. Fontaine, J. Togelius, S. Nikolaidis, A. K. Hoover, "Covariance matrix adaptation for the rapid
       illumination of behavior space", GECCO 2020.
    .. [3] B. Tjanaka et al., "pyribs: a bare-bones Python library for quality diversity optimization", GECCO 2023.
    """

    source: ClassVar[str] = (
        "Mouret and Clune, arXiv:1504.04909, 2015; Fontaine, Togelius, Nikolaidis and Hoover, GECCO 2020"
    )
    max_objectives: int | None = None

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        measures: Sequence[str] | None = None,
        ranges: Mapping[str, Sequence[float]] | None = None,
        bins: int | Sequence[int] | None = None,
        emitter: str = "gaussian",
        pop_size: int = 50,
        sigma: float = 0.2,
        emitters: int = 5,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = check_count("pop_size", pop_size, 1)
        self.sigma = check_number("sigma", sigma, 1e-6, 10)
        self.emitters = check_count("emitters", emitters, 1)
        if emitter not in ("gaussian", "cma-me"):
            raise OptimizerError(f"emitter must be 'gaussian' or 'cma-me', got {emitter!r}")
        self.emitter = emitter
        self.measures = self._named(measures)
        self._objective = [list(self.objectives.names).index(m) if m in self._others else None for m in self.measures]
        self._dimension = [None if m in self._others else space.labels.index(m) for m in self.measures]
        self.bins = self._binned(bins)
        self._strides = np.append(np.cumprod(self.bins[:0:-1])[::-1], 1)  # of the cells' numbers
        self._low, self._high = self._ends(ranges)
        self._ready = bool(np.isfinite(self._low).all())
        self._early: list[_Elite] = []  # results that await the ranges
        self._cells: dict[int, int] = {}  # cell -> index into the elites
        self._elites: list[_Elite] = []
        self._operators = Operators(space)
        self._scale = self.sigma * np.where(space.bounded, 1.0, _WIDE)
        self._discrete = space.n_values > 0
        self._mixed = bool(self._discrete.any())
        # CMA-ME.
        self._ribs = self._library() if emitter == "cma-me" else None
        self._archive: Any = None
        self._unseen: list[_Elite] = []  # results that pyribs does not know yet
        self._batches: list[_Batch] = []
        self._turn = 0
        self._flying: dict[int, tuple[_Batch, int]] = {}

    @property
    def _others(self) -> tuple[str, ...]:
        return self.objectives.names[1:]

    def _named(self, measures: Sequence[str] | None) -> tuple[str, ...]:
        if measures is None:
            return self._others or self.space.labels[:2]
        known = [*self._others, *self.space.labels]
        listed = [] if isinstance(measures, str) else list(measures)
        if not listed or len(set(listed)) < len(listed) or not set(listed) <= set(known):
            shown = f"{known[:10]}{' and others' if len(known) > 10 else ''}"
            raise OptimizerError(f"measures must be a list of names, each once, out of {shown}, got {measures!r}")
        return tuple(listed)

    def _binned(self, bins: int | Sequence[int] | None) -> NDArray[np.int64]:
        k = len(self.measures)
        listed = [max(2, round(_CELLS ** (1 / k)))] if bins is None else bins
        listed = [listed] if isinstance(listed, int) else list(listed)
        listed = listed * k if len(listed) == 1 else listed
        if len(listed) != k:
            raise OptimizerError(f"bins must be one number or {k}, one for each of {list(self.measures)}, got {bins!r}")
        counts = [check_count("bins", n, 1) for n in listed]
        for i, dimension in enumerate(self._dimension):
            if dimension is not None and self.space.n_values[dimension]:
                counts[i] = min(counts[i], int(self.space.n_values[dimension]))
        if math.prod(counts) > _MOST_CELLS:
            raise OptimizerError(f"bins must make at most {_MOST_CELLS} cells, got {math.prod(counts)}")
        return np.array(counts, dtype=np.int64)

    def _ends(self, ranges: Mapping[str, Sequence[float]] | None) -> tuple[Floats, Floats]:
        """Return where each measure's cells begin and end, as costs or encoded; NaN where that is not yet known."""
        low, high = np.full(len(self.measures), np.nan), np.full(len(self.measures), np.nan)
        for i, dimension in enumerate(self._dimension):
            if dimension is not None:
                low[i], high[i] = (0.0, 1.0) if self.space.bounded[dimension] else (-_REACH, _REACH)
        spanned = [m for m in self.measures if m in self._others]
        for name, ends in (ranges or {}).items():
            if name not in spanned:
                raise OptimizerError(f"ranges must be of measures that are objectives, {spanned}, got {name!r}")
            if len(ends) != 2 or not ends[0] < ends[1] or not np.isfinite(ends).all():
                raise OptimizerError(f"ranges must be [low, high] with low < high, got {ends!r} for {name!r}")
            i = self.measures.index(name)
            sign = self._sign(i)
            low[i], high[i] = sorted(sign * float(end) for end in ends)
        return low, high

    def _sign(self, i: int) -> float:
        """Return what a measure's cost is to be multiplied by to give the objective, and the other way round."""
        return float(self.objectives[self._objective[i]].sign)

    def _library(self) -> Any:
        if "categorical" in self.space.kinds:
            raise OptimizerError("emitter 'cma-me' searches numbers only, the space has categoricals: take 'gaussian'")
        try:
            from ribs import archives, emitters
        except ImportError:
            raise OptimizerError("cma-me needs ribs: pip install 'l2l-dask[algorithms]'") from None
        return archives.GridArchive, emitters.EvolutionStrategyEmitter

    @property
    def elites(self) -> tuple[Ids, Floats, Floats, Floats]:
        """Ids (n,), vectors (n, dim), costs (n,) of the quality and measures (n, n_measures), in natural units."""
        n, elites = len(self._elites), self._elites
        x = np.array([elite.x for elite in elites]).reshape(n, self.space.dim)
        measured = np.array([elite.measures for elite in elites]).reshape(n, len(self.measures))
        natural = self.space.natural(x)
        for i, dimension in enumerate(self._dimension):
            measured[:, i] = natural[:, dimension] if dimension is not None else measured[:, i] * self._sign(i)
        ids = np.array([elite.id for elite in elites], dtype=np.int64)
        return ids, x, np.array([elite.cost for elite in elites]), measured

    def _ask(self, n: int) -> Candidates:
        x, info = np.empty((n, self.space.dim)), np.full((n, 2), _NOBODY, dtype=np.int64)
        for i in range(n):
            id = self.n_asked + i
            if id < self.pop_size or not self._elites:
                x[i] = self.space.sample(self.rng, 1)[0]
                continue
            emitted = self._emitted(id) if self._ribs is not None else None
            if emitted is not None:
                x[i] = emitted
                continue
            parent = self._elites[int(self.rng.random() * len(self._elites))]
            x[i], info[i, 0] = self._mutant(parent.x), parent.id
        generation = np.arange(self.n_asked, self.n_asked + n) // self.pop_size
        return Candidates(self._operators.repair(x), {"generation": generation, "parents": info})

    def _mutant(self, x: Floats) -> Floats:
        steps = self.rng.standard_normal(len(x)) * self._scale
        if not self._mixed:
            return x + steps
        picked = ~self._discrete | (self.rng.random(len(x)) < 1.0 / len(x))
        if not picked.any():
            picked[int(self.rng.random() * len(x))] = True
        where = picked.nonzero()[0]
        return self._operators.mutate(self.rng, x, where, steps[where])

    def _tell(self, evaluations: Evaluations) -> None:
        x, cost, ids = evaluations.x, evaluations.cost, evaluations.ids.tolist()
        measured = np.empty((len(ids), len(self.measures)))
        for k, (objective, dimension) in enumerate(zip(self._objective, self._dimension, strict=True)):
            measured[:, k] = cost[:, objective] if dimension is None else x[:, dimension]
        good = np.asarray(np.isfinite(cost).all(axis=1))
        elites = [
            _Elite(id, x[i].copy(), float(cost[i, 0]), measured[i]) if fine else None
            for i, (id, fine) in enumerate(zip(ids, good.tolist(), strict=True))
        ]
        self._keep([elite for elite in elites if elite is not None], measured[good])
        for id, elite in zip(ids, elites, strict=True):
            if id in self._flying:
                self._learn(*self._flying.pop(id), elite)
            elif elite is not None and self._archive is not None:
                self._unseen.append(elite)
        if len(self._unseen) >= _UNSEEN:
            self._show()

    def _keep(self, results: list[_Elite], measured: Floats) -> None:
        """Put results into their cells, each if it is the first there or better, once the ranges are known."""
        if not self._ready:
            self._early += results
            if len(self._early) >= self.pop_size:
                self._span()
            return
        place = np.floor((measured - self._low) / (self._high - self._low) * self.bins)
        place = np.minimum(np.maximum(place, 0), self.bins - 1).astype(np.int64)
        for elite, cell in zip(results, (place @ self._strides).tolist(), strict=True):
            index = self._cells.setdefault(cell, len(self._elites))
            if index == len(self._elites):
                self._elites.append(elite)
            elif elite.cost < self._elites[index].cost:
                self._elites[index] = elite

    def _span(self) -> None:
        """Let the ranges that nobody gave be those of the first results."""
        measured = np.array([elite.measures for elite in self._early])
        unknown = np.isnan(self._low)
        low, high = measured.min(axis=0), measured.max(axis=0)
        equal = low == high
        self._low = np.where(unknown, np.where(equal, low - 0.5, low), self._low)
        self._high = np.where(unknown, np.where(equal, high + 0.5, high), self._high)
        self._ready, early, self._early = True, self._early, []
        self._keep(early, measured)

    def _emitted(self, id: int) -> Floats | None:
        """Return the next solution of CMA-ME's emitters; None if all of them await results."""
        while len(self._batches) < self.emitters:
            self._batches.append(self._started())
        for _ in self._batches:
            batch = self._batches[self._turn % self.emitters]
            if batch.asked < len(batch.solutions):
                batch.asked += 1
                self._flying[id] = batch, batch.asked - 1
                inside: Floats = batch.inside[batch.asked - 1]
                return inside
            self._turn += 1
        return None

    def _started(self) -> _Batch:
        """Start an emitter at a random elite ([2]_)."""
        assert self._ribs is not None
        make_archive, make_emitter = self._ribs
        if self._archive is None:
            k = len(self.bins)
            seed = int(self.rng.integers(2**32))
            self._archive = make_archive(
                solution_dim=self.space.dim, dims=self.bins, ranges=[(0.0, 1.0)] * k, seed=seed
            )
            self._unseen = list(self._elites)
        self._show()
        start = self._elites[int(self.rng.random() * len(self._elites))].x / self._units
        seed = int(self.rng.integers(2**32))
        es = "cma_es" if self.space.dim <= _DENSE else "sep_cma_es"
        emitter = make_emitter(self._archive, x0=start, sigma0=self.sigma, ranker="2imp", es=es, seed=seed)
        return _Batch(emitter, *self._asked(emitter))

    def _asked(self, emitter: Any) -> tuple[Floats, Floats]:
        solutions = np.array(emitter.ask())
        return solutions, self.space.clip(solutions * self._units)

    @property
    def _units(self) -> Floats:
        return self._scale / self.sigma

    def _show(self) -> None:
        """Let pyribs know the results that are not of its emitters."""
        if self._unseen:
            self._added(self._unseen)
            self._unseen = []

    def _added(self, elites: list[_Elite]) -> Any:
        x = np.array([elite.x for elite in elites]) / self._units
        cost = np.array([elite.cost for elite in elites])
        return self._archive.add(x, -cost, self._unit([elite.measures for elite in elites]))

    def _unit(self, measures: list[Floats]) -> Floats:
        return np.clip((np.array(measures) - self._low) / (self._high - self._low), 0.0, 1.0)

    def _learn(self, batch: _Batch, row: int, elite: _Elite | None) -> None:
        batch.told += 1
        if elite is not None:
            batch.results[row] = elite
        if batch.told < len(batch.solutions):
            return
        self._show()
        n, rows = len(batch.solutions), sorted(batch.results)
        elites = [batch.results[i] for i in rows]
        status, value = np.zeros(n, dtype=np.int32), np.full(n, -np.inf)
        cost, measures = np.zeros(n), np.zeros((n, len(self.bins)))
        if rows:
            info = self._added(elites)
            status[rows], value[rows] = info["status"], info["value"]
            cost[rows], measures[rows] = [elite.cost for elite in elites], self._unit([e.measures for e in elites])
            value[~np.isin(np.arange(n), rows)] = value[rows].min() - 1.0
        value = np.where(np.isfinite(value), value, 0.0)
        batch.emitter.tell(batch.solutions, -cost, measures, {"status": status, "value": value})
        batch.solutions, batch.inside = self._asked(batch.emitter)
        batch.asked, batch.told, batch.results = 0, 0, {}

    def _adopt(self, ids: Ids, x: Floats) -> None:  # noqa: ARG002
        # The random generator has started anew, and so do the emitters; what they have in flight still finds its cell.
        self._batches, self._flying = [], {}
