"""QMC: scipy's own sequences, in order, whatever is adopted."""

import numpy as np
import pytest
from scipy.stats import norm, qmc

from l2l_dask import Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import optimizer_rng
from optimizers.qmc import QMC

SPACE = Space({"a": Real(0, 1), "b": Real(0, 1), "c": Real(0, 1)})
COST = Objectives(minimize("cost"))
ENGINES = {"sobol": qmc.Sobol, "halton": qmc.Halton}


@pytest.mark.parametrize("scramble", [True, False])
@pytest.mark.parametrize("engine", ENGINES)
def test_it_gives_scipys_own_sequence_however_it_is_asked(engine, scramble):
    optimizer = QMC(SPACE, COST, seed=5, engine=engine, scramble=scramble)
    x = np.concatenate([optimizer.ask(n).x for n in (1, 70, 3, 54)])
    expected = ENGINES[engine](3, scramble=scramble, rng=optimizer_rng(5)).random(128)
    assert np.array_equal(x, expected)


def test_each_latin_hypercube_has_one_point_in_every_stratum_of_every_dimension():
    optimizer = QMC(SPACE, COST, engine="latin", design_size=20)
    for _ in range(3):
        strata = np.floor(optimizer.ask(20).x * 20)
        assert (np.sort(strata, axis=0) == np.arange(20)[:, None]).all()


@pytest.mark.parametrize("engine", [*ENGINES, "latin"])
def test_unbounded_parameters_go_through_the_normal_quantile_function(engine):
    plain, free = Space({"a": Real(0, 1), "b": Real(0, 1)}), Space({"a": Real(0, 1), "b": Real(loc=3, scale=2)})
    unit = QMC(plain, COST, engine=engine).ask(50).x
    natural = free.natural(QMC(free, COST, engine=engine).ask(50).x)
    assert np.array_equal(natural[:, 0], unit[:, 0])
    assert natural[:, 1] == pytest.approx(norm.ppf(unit[:, 1], loc=3, scale=2), rel=1e-9)


def test_the_corner_in_which_an_unscrambled_sequence_starts_is_finite_without_bounds():
    x = QMC(Space({"w": Real()}), COST, scramble=False).ask(1).x
    assert x[0, 0] == pytest.approx(norm.ppf(2.0**-53))


def test_a_trusted_replay_goes_on_where_the_sequence_was():
    reference = QMC(SPACE, COST, seed=2).ask(100).x
    replayed = QMC(SPACE, COST, seed=2)
    replayed.adopt(range(70), reference[:70] * (1 + 1e-12))
    assert np.array_equal(replayed.ask(30).x, reference[70:])


def test_a_users_guesses_skip_nothing():
    reference = QMC(SPACE, COST, seed=2).ask(20).x
    optimizer = QMC(SPACE, COST, seed=2)
    optimizer.adopt([0, 1], [[0.5, 0.5, 0.5], reference[3]])
    assert np.array_equal(optimizer.ask(20).x, reference)


def test_guesses_before_a_replayed_record_do_not_hide_it():
    reference = QMC(SPACE, COST, seed=2).ask(20).x
    optimizer = QMC(SPACE, COST, seed=2)
    optimizer.adopt(range(6), np.concatenate([[[0.5, 0.5, 0.5]], reference[:5]]))
    assert np.array_equal(optimizer.ask(15).x, reference[5:])


def test_more_dimensions_than_sobol_has_are_refused_with_the_way_out():
    with pytest.raises(OptimizerError, match=r"^sobol has at most 21201 dimensions, got 21202: choose 'halton'$"):
        QMC(Space({"w": Real(0, 1, shape=(21202,))}), COST)
