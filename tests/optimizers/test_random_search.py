"""RandomSearch: uniform where bounded, normal where not, whatever it is told."""

import numpy as np
from scipy.stats import kstest

from l2l_dask import Objectives, Real, Space, minimize
from optimizers.random_search import RandomSearch


def test_bounded_dimensions_are_uniform_and_unbounded_ones_normal():
    space = Space({"a": Real(2, 3), "w": Real(loc=4, scale=2)})
    x = RandomSearch(space, Objectives(minimize("cost")), seed=3).ask(2000).x
    natural = space.natural(x)
    # A Kolmogorov-Smirnov test at the 0.1 % level, of one fixed sample.
    assert kstest(natural[:, 0], "uniform", args=(2, 1)).pvalue > 1e-3
    assert kstest(natural[:, 1], "norm", args=(4, 2)).pvalue > 1e-3
    assert abs(np.corrcoef(x.T)[0, 1]) < 4 / np.sqrt(2000)


def test_different_seeds_give_different_candidates():
    space, cost = Space({"a": Real(0, 1)}), Objectives(minimize("cost"))
    first, second = (RandomSearch(space, cost, seed=seed).ask(10).x for seed in (1, 2))
    assert not np.isin(first, second).any()
