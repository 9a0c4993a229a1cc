"""Which parameters matter: by how much a model of the search predicts worse once a parameter is shuffled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from l2l_dask.errors import ConfigError
from l2l_dask.space import Floats
from l2l_dask.trajectory import Trajectory

MOST_ROWS, FEWEST_ROWS, MOST_DIMENSIONS = 3_000, 30, 1_000
_TREES, _SHUFFLES = 100, 5


@dataclass(frozen=True)
class Importance:
    """What each parameter counts for, the most important first.

    Attributes
    ----------
    names, mean, sd
        By how much the share of variance that is explained falls when the parameter is shuffled, and how much that
        scatters.
    score
        That share, R2, on individuals that the model was not made from: near 0, the numbers mean nothing.
    rows, of
        How many individuals it was made from, of how many that are done.
    """

    names: list[str]
    mean: Floats
    sd: Floats
    score: float
    rows: int
    of: int

    def __str__(self) -> str:
        worth = "" if self.score > 0.3 else " The forest explains little: do not rely on the order."
        return (
            f"Permutation importance of a random forest ({_TREES} trees) for the rank of the fitness, made from "
            f"{self.rows:,} of {self.of:,} individuals that are done. On a third of them, held out, it explains "
            f"R² = {self.score:.2f} of the variance; a bar says how much of that is lost when the parameter is "
            f"shuffled.{worth}"
        )


def importance(trajectory: Trajectory, objective: int = 0) -> Importance:
    """Find out which parameters matter for an objective; that takes seconds.

    Raises
    ------
    ConfigError
        If there is too little to learn from, or scikit-learn is not installed.
    """
    try:
        from scipy.stats import rankdata
        from sklearn.ensemble import RandomForestRegressor
        from sklearn.inspection import permutation_importance
    except ImportError:
        raise ConfigError("importance needs scikit-learn: install l2l-dask[algorithms]") from None
    cost = trajectory.cost[:, objective]
    done = np.flatnonzero(np.isfinite(cost))
    if len(done) < FEWEST_ROWS:
        raise ConfigError(f"importance needs at least {FEWEST_ROWS} individuals that are done, there are {len(done)}")
    rng = np.random.default_rng(0)
    rows = rng.permutation(done if len(done) <= MOST_ROWS else rng.choice(done, MOST_ROWS, replace=False))
    active = ~np.isnan(trajectory.record["params"][rows])
    x = np.where(active, trajectory.space.snap(trajectory.record["x"][rows]), -1.0)[:, :MOST_DIMENSIONS]
    # Ranks, as a single failed fit of 1e30 would be all that a squared error sees; equals have the same.
    y = rankdata(cost[rows]) / len(rows)
    cut = len(rows) // 3
    forest = RandomForestRegressor(_TREES, min_samples_leaf=2, max_features=0.5, random_state=0).fit(x[cut:], y[cut:])
    found = permutation_importance(forest, x[:cut], y[:cut], n_repeats=_SHUFFLES, random_state=0)
    order = np.argsort(-found.importances_mean, kind="stable")
    return Importance(
        [trajectory.space.labels[j] for j in order.tolist()],
        found.importances_mean[order],
        found.importances_std[order],
        float(forest.score(x[:cut], y[:cut])),
        len(rows),
        len(done),
    )
