"""Particle swarm optimization, asynchronous or by iterations."""

from __future__ import annotations

import math
from collections import deque
from typing import ClassVar

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._options import check_count, check_number

_NOBODY = -1
_FAR = 1e9  # in units of an unbounded parameter's scale: on a plateau it must not drift to infinity


class ParticleSwarm(Optimizer):
    r"""Particle swarm: particles fly around the best places that they and their informants have seen.

    A particle at x with velocity v moves by the constricted form ([1]_, type 1'')

    .. math:: v \leftarrow \chi\,(v + U(0, \varphi/2)\,(p - x) + U(0, \varphi/2)\,(g - x)), \quad x \leftarrow x + v,
       \qquad \chi = \frac{2}{|2 - \varphi - \sqrt{\varphi^2 - 4\varphi}|}, \quad \varphi > 4,

    element by element, where p is the best place that it has seen and g the best that its informants have: itself and
    ``informants`` others, drawn anew whenever an iteration did not improve the best of all ([2]_). Who
    would leave a bound stops there and turns: :math:`v \leftarrow -v / 2` ([2]_).

    Asynchronous [3]_, a particle moves on as soon as its own result comes, with what is known of the others by then. If
    more individuals are in flight than there are particles, those that have waited longest move on without their
    result: nobody waits. ``synchronous=True`` gives the textbook's iterations: all particles move once, and all are
    awaited.

    Integers are reals that are rounded only to be evaluated; categoricals have no directions and are refused. A
    particle whose individual failed keeps its best place and flies on; one that has none starts anew.

    Parameters
    ----------
    pop_size
        Number of particles. Larger is slower and surer: 40 where evaluations are counted in tens of thousands.
    phi
        Sum of the largest weights of the two attractions, above 4: with 4.1 the constriction factor is 0.7298 and both
        weights are up to 1.496.
    informants
        How many others inform each particle on average; ``None`` for all: faster, and sooner trapped.
    synchronous
        Whether to wait for all particles of an iteration.

    References
    ----------
    .. [1] M. Clerc, J. Kennedy, "The particle swarm: explosion, stability, and convergence in a multidimensional
       complex space", IEEE Transactions on Evolutionary Computation 6(1), 2002.
    .. [2] M. Clerc, "Standard particle swarm optimisation", HAL hal-00764996, 2012.
    .. [3] B.-I. Koh, A. D. George, R. T. Haftka, B. J. Fregly, "Parallel asynchronous particle swarm optimization",
       International Journal for Numerical Methods in Engineering 67(4), 2006.
    """

    source: ClassVar[str] = (
        "Clerc and Kennedy, IEEE Transactions on Evolutionary Computation 6, 2002; "
        "Koh, George, Haftka and Fregly, International Journal for Numerical Methods in Engineering 67, 2006"
    )
    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "conditional", "unbounded"})

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int = 12,
        phi: float = 4.1,
        informants: int | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = check_count("pop_size", pop_size, 1)
        self.phi = check_number("phi", phi, 4, 100)
        self.informants = None if informants is None else check_count("informants", informants, 1)
        self.asynchronous = not synchronous
        self.chi = 2.0 / abs(2.0 - phi - math.sqrt(phi**2 - 4.0 * phi))
        self._free = ~space.bounded if not space.bounded.all() else None
        self._discrete = bool((space.n_values > 0).any())
        # Particle -> where it is, its velocity, its best place, that one's cost (inf for none) and id.
        shape = pop_size, space.dim
        self._x, self._v, self._best = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        self._cost = np.full(pop_size, math.inf)
        self._ids = np.full(pop_size, _NOBODY, dtype=np.int64)
        self._links = np.eye(pop_size, dtype=bool)  # [i, j]: j informs i
        self._best_of_all = 0
        self._ready = deque(range(pop_size))  # particles whose results have come
        self._moves = [0] * pop_size  # when each has moved last
        self._flying: dict[int, tuple[int, Floats]] = {}  # id -> particle and its place, integers not rounded
        self.generation = 0  # iterations: as many results as there are particles
        self._results = self._clock = 0
        self._improved = True
        # With a barrier: moves of the iteration not yet taken, and its results.
        self._places = pop_size
        self._gathered: list[tuple[int, Floats, float]] = []

    @property
    def swarm(self) -> tuple[Ids, Floats, Floats]:
        """Ids (pop_size,), vectors (pop_size, dim), integers not rounded, and costs (pop_size,) of the best places.

        The cost is infinite where a particle has seen none yet.
        """
        return self._ids.copy(), self._best.copy(), self._cost.copy()

    def _ask(self, n: int) -> Candidates:
        if not self.asynchronous:
            n = min(n, self._places)
            self._places -= n
        x, parents = np.empty((n, self.space.dim)), np.full((n, 2), _NOBODY, dtype=np.int64)
        for row in range(n):
            i = self._ready.popleft() if self._ready else self._moves.index(min(self._moves))
            self._clock += 1
            self._moves[i] = self._clock
            if math.isinf(self._cost[i]):
                self._start(i)
            else:
                parents[row] = self._move(i)
            x[row] = self._x[i]
            self._flying[self.n_asked + row] = i, x[row]
        info = {"generation": np.full(n, self.generation, dtype=np.int64), "parents": parents}
        return Candidates(self.space.snap(x) if self._discrete else x, info)

    def _start(self, i: int) -> None:
        """Put a particle at random, with the velocity to another random place ([2]_)."""
        place, elsewhere = self.space.sample(self.rng, 2)
        self._x[i], self._v[i] = place, elsewhere - place

    def _move(self, i: int) -> tuple[int, int]:
        """Let a particle fly one step; return the ids of the two places that attract it."""
        g = self._best_of_all
        if self.informants is not None:
            g = int(np.where(self._links[i], self._cost, math.inf).argmin())
        u = self.rng.random((2, self.space.dim))
        u *= 0.5 * self.phi
        x = self._x[i]
        v = self.chi * (self._v[i] + u[0] * (self._best[i] - x) + u[1] * (self._best[g] - x))
        x = x + v
        inside = np.minimum(np.maximum(x, 0.0), 1.0)
        if self._free is not None:
            inside[self._free] = np.clip(x[self._free], -_FAR, _FAR)
        self._v[i] = np.where(inside == x, v, -0.5 * v)
        self._x[i] = inside
        return int(self._ids[i]), int(self._ids[g])

    def _tell(self, evaluations: Evaluations) -> None:
        for i, (id, cost) in enumerate(zip(evaluations.ids.tolist(), evaluations.cost[:, 0].tolist(), strict=True)):
            self._results += 1
            if not self.asynchronous:
                self._gathered.append((id, evaluations.x[i], cost))
                continue
            self._learn(id, evaluations.x[i], cost)
            if self._results >= self.pop_size:
                self._turn()
        if not (self.asynchronous or self._places or self._untold):
            for result in self._gathered:
                self._learn(*result)
            self._gathered = []
            self._turn()
            self._places = self.pop_size

    def _learn(self, id: int, x: Floats, cost: float) -> None:
        """Take a result to the particle that it belongs to, or else to the one with the worst place."""
        if id in self._flying:
            i, x = self._flying.pop(id)
            if i not in self._ready:
                self._ready.append(i)
        else:
            i = int(self._cost.argmax())
            if math.isfinite(cost) and math.isinf(self._cost[i]):
                self._x[i], self._v[i] = x, 0.0
        if not math.isfinite(cost) or cost > self._cost[i]:
            return
        if cost < self._cost[self._best_of_all]:
            self._best_of_all, self._improved = i, True
        self._best[i], self._cost[i], self._ids[i] = x, cost, id

    def _turn(self) -> None:
        """Count an iteration, and draw who informs whom if it, or nothing yet, has not improved the best of all."""
        self._results = 0
        self.generation += 1
        if self.informants is not None and (not self._improved or self.generation == 1):
            self._links = np.eye(self.pop_size, dtype=bool)
            listeners = self.rng.integers(self.pop_size, size=(self.pop_size, self.informants))
            self._links[listeners, np.arange(self.pop_size)[:, None]] = True
        self._improved = False
