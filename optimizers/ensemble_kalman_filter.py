"""Ensemble Kalman inversion: an ensemble of parameters is moved by what it gets wrong in its observations."""

from __future__ import annotations

import math
from typing import ClassVar, NamedTuple

import numpy as np

from l2l_dask.evaluation import Candidates, Evaluations, Ids, Objectives
from l2l_dask.optimizer import Optimizer
from l2l_dask.space import Floats, Space
from optimizers._observations import Target
from optimizers._operators import Operators, reflected
from optimizers._options import check_count, check_number, checked_goal

_NOBODY = -1
_RANK = 1e-12  # relative: observations vary no less than that in any direction that counts


class _Result(NamedTuple):
    cost: float
    id: int
    u: Floats
    g: Floats
    y: Floats


class EnsembleKalmanFilter(Optimizer):
    r"""Ensemble Kalman inversion: gradient-free fitting of observations, for thousands of parameters.

    The optimizee saves what it observes, ``context.save("observation", g)``. With the ensemble's covariances
    :math:`C^{pp} = \mathrm{cov}(g, g)` and :math:`C^{up} = \mathrm{cov}(u, g)` (with 1/J) each member moves by

    .. math:: u_j \leftarrow u_j + C^{up} (C^{pp} + \Gamma)^{-1} (y_j - g_j), \quad \Gamma = \gamma I

    ([1]_, section 2, the analysis step; [2]_; :math:`y_j = y`, or :math:`y + \eta_j, \eta_j \sim N(0, \Gamma)`).
    Fitness is not used, but for the replacement of the worst and to report the best. The ensemble stays in the span of
    the first one, so it should be large where little is known; it contracts where the observations tell.

    Asynchronous, an update is made of any ``pop_size`` results, whichever iteration they were proposed in: each is a
    true pair (u, g), which is all that the covariances and the step of a member need, and each is used once. A late
    one, from before an update, widens the ensemble in the direction of the last step, so that the next is somewhat
    longer. Nobody waits: what is asked beyond the ensemble's members is drawn from a Gaussian of the ensemble's mean
    and covariance. With ``synchronous=True`` the results of all members are awaited: the textbook.

    Failed members are replaced by draws from that Gaussian. Bounded parameters are reflected at their bounds.

    Parameters
    ----------
    pop_size
        Members J of the ensemble.
    gamma
        Variance of the observations' noise, in their own units squared: the larger, the smaller the steps.
    target
        What is to be observed: numbers, or the path of a .npy file of them; ``None`` if the optimizee saves it too,
        ``context.save("target", y)``, which may then differ between individuals.
    perturbed
        Whether each member has a target with noise of its own, which keeps the ensemble as wide as it should be.
    n_batches
        Parts into which the observations are cut, assimilated one after the other; as many as there are observations is
        the original's ``online``. After each part the later ones' observations are corrected by their covariance.
    maxit
        Passes over the observations in each update, corrected likewise: like a smaller ``gamma``.
    n_worst
        Share of the members that are replaced, after each update, by copies of the best with noise of the ensemble's
        standard deviation.
    n_iteration
        Updates after which it is done; ``None`` for as many as the experiment's evaluations allow.
    stop_criterion
        A fitness, in the user's direction, at which it is done.
    synchronous
        Whether to await all members before an update.

    References
    ----------
    .. [1] M. A. Iglesias, K. J. H. Law, A. M. Stuart, "Ensemble Kalman methods for inverse problems", Inverse Problems
       29, 2013.
    .. [2] C. Schillings, A. M. Stuart, "Analysis of the ensemble Kalman filter for inverse problems", SIAM Journal on
       Numerical Analysis 55(3), 2017.
    """

    source: ClassVar[str] = "Iglesias, Law and Stuart, Inverse Problems 29, 2013"
    spaces: ClassVar[frozenset[str]] = frozenset({"real", "integer", "unbounded"})
    needs: tuple[str, ...] = ("observation", "target")

    def __init__(
        self,
        space: Space,
        objectives: Objectives,
        *,
        seed: int = 0,
        pop_size: int = 100,
        gamma: float = 0.5,
        target: list[float] | str | None = None,
        perturbed: bool = False,
        n_batches: int = 1,
        maxit: int = 1,
        n_worst: float = 0.0,
        n_iteration: int | None = None,
        stop_criterion: float | None = None,
        synchronous: bool = False,
    ) -> None:
        super().__init__(space, objectives, seed=seed)
        self.pop_size = check_count("pop_size", pop_size, 2)
        self.gamma = check_number("gamma", gamma, 1e-300, 1e300)
        self.perturbed = bool(perturbed)
        self.n_batches = check_count("n_batches", n_batches, 1)
        self.maxit = check_count("maxit", maxit, 1)
        self.n_worst = check_number("n_worst", n_worst, 0.0, 0.9)
        self.n_iteration = None if n_iteration is None else check_count("n_iteration", n_iteration, 1)
        self._goal = checked_goal(self.objectives, stop_criterion)
        self._target = Target(target)
        self.needs = self._target.needs
        self.asynchronous = not synchronous
        self.iteration = 0
        self._operators, self._stopped = Operators(space), False
        self._ensemble: Floats | None = None  # of the last update; before it there is the space alone
        self._members: list[tuple[Floats, int]] = []  # of the ensemble and not yet asked, in reverse, with their origin
        self._places = pop_size  # of the iteration, not yet taken, if synchronous
        self._flying: dict[int, Floats] = {}
        self._results: list[_Result] = []

    @property
    def ensemble(self) -> Floats | None:
        """The (pop_size, dim) members after the last update, encoded; None before the first."""
        return None if self._ensemble is None else self._ensemble.copy()

    @property
    def done(self) -> bool:
        return self._stopped or (self.n_iteration is not None and self.iteration >= self.n_iteration)

    def _ask(self, n: int) -> Candidates:
        if self.done:
            n = 0
        elif not self.asynchronous:
            n = min(n, self._places)
            self._places -= n
        rows, origins = np.empty((n, self.space.dim)), np.full(n, _NOBODY, dtype=np.int64)
        for i in range(n):
            if self._members:
                rows[i], origins[i] = self._members.pop()
            else:
                rows[i] = self._drawn()
            self._flying[self.n_asked + i] = rows[i]
        info = {"generation": np.full(n, self.iteration, dtype=np.int64), "parents": origins}
        return Candidates(self._operators.repair(rows), info)

    def _drawn(self) -> Floats:
        """Draw from a Gaussian of the ensemble's mean and covariance, or from the space before there is one."""
        if self._ensemble is None:
            founder: Floats = self.space.sample(self.rng, 1)[0]
            return founder
        mean = self._ensemble.mean(axis=0)
        weights = self.rng.standard_normal(len(self._ensemble)) / math.sqrt(len(self._ensemble))
        drawn: Floats = mean + weights @ (self._ensemble - mean)
        return self._inside(drawn)

    def _inside(self, u: Floats) -> Floats:
        """Reflect at the bounds, however far beyond; integers keep what they have between two values."""
        return reflected(u, self.space.bounded)

    def _adopt(self, ids: Ids, x: Floats) -> None:
        for id, row in zip(ids.tolist(), x, strict=True):
            self._flying[id] = row

    def _tell(self, evaluations: Evaluations) -> None:
        for i, id in enumerate(evaluations.ids.tolist()):
            u, cost = self._flying.pop(id), float(evaluations.cost[i, 0])
            pair = self._target.pair(evaluations, i)
            if pair is None or self.done:
                continue
            self._results.append(_Result(cost, id, u, *pair))
            if cost <= self._goal:
                self._stopped = True
            elif self.asynchronous and len(self._results) >= self.pop_size:
                self._update()
        if not (self.asynchronous or self.done or self._places or self._flying):
            self._update()

    def _update(self) -> None:
        """Move the members that have results; draw others in the place of those that failed."""
        self._places, self.iteration = self.pop_size, self.iteration + 1
        results, self._results = self._results[-self.pop_size :], []
        if len(results) < 2 or len({len(r.g) for r in results}) > 1:
            self._members = []
            return
        u, g, y = (np.array(column) for column in zip(*(r[2:] for r in results), strict=True))
        if self.perturbed:
            y = y + math.sqrt(self.gamma) * self.rng.standard_normal(y.shape)
        u = self._inside(self._assimilated(u, g, y))
        self._replace_worst(u, np.array([r.cost for r in results]))
        self._ensemble = u
        extra = [self._drawn() for _ in range(self.pop_size - len(u))]
        self._ensemble = np.vstack([u, *extra])
        origins = [r.id for r in results] + [_NOBODY] * len(extra)
        self._members = list(zip(self._ensemble, origins, strict=True))[::-1]

    def _assimilated(self, u: Floats, g: Floats, y: Floats) -> Floats:
        """Return the members after the analysis step, part by part of the observations."""
        batches = [part for part in np.array_split(np.arange(g.shape[1]), self.n_batches) if len(part)]
        last = self.maxit * len(batches) - 1
        z = np.hstack([u, g]) if last else u  # observations that are still to come are moved like parameters
        for step in range(last + 1):
            part = batches[step % len(batches)]
            seen = z[:, u.shape[1] + part] if last else g
            z = analysis(z, seen, y[:, part], self.gamma)
        moved: Floats = z[:, : u.shape[1]]
        return moved

    def _replace_worst(self, u: Floats, cost: Floats) -> None:
        n = min(int(self.n_worst * len(u)), len(u) // 2)
        if n:
            order, sd = np.argsort(cost, kind="stable"), u.std(axis=0)
            noise = sd * self.rng.standard_normal((n, u.shape[1]))
            u[order[::-1][:n]] = self._inside(u[order[:n]] + noise)


def analysis(u: Floats, g: Floats, y: Floats, gamma: float) -> Floats:
    r"""Return :math:`u + C^{up} (C^{pp} + \gamma I)^{-1} (y - g)`, row by row ([1]_, section 2).

    With deviations U, G (rows) of J members, :math:`C^{up} = U^T G / J` and :math:`C^{pp} = G^T G / J`. With the
    singular values of :math:`G = P S Q^T` a member moves by :math:`U^T P\,S (S^2 + \gamma J)^{-1} Q^T (y - g)`, which
    squares no observation and is exact however small gamma is.

    Parameters
    ----------
    u : (J, d) array
    g, y : (J, m) array
    """
    du, dg = u - u.mean(axis=0), g - g.mean(axis=0)
    left, singular, right = np.linalg.svd(dg, full_matrices=False)
    seen = singular > _RANK * singular[0]
    left, singular, right = left[:, seen], singular[seen], right[seen]
    factors = 1.0 / (singular + gamma * len(u) / singular)
    moved: Floats = u + ((y - g) @ right.T * factors) @ (left.T @ du)
    return moved
