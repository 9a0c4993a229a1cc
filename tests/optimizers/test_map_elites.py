"""MAPElites: the best of every cell of a grid of behaviours, by mutation or by CMA-ME."""

import sys
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, maximize, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.map_elites import MAPElites

SPACE = Space({"x": Real(0, 1, shape=(4,))})
COST = Objectives(minimize("cost"))
MEASURED = Objectives([minimize("cost"), minimize("rate"), maximize("cv")])


def build(space=SPACE, objectives=COST, **options):
    return MAPElites(space, objectives, **({"pop_size": 10} | options))


def tell(optimizer, candidates, cost, rows=slice(None)):
    cost = np.array(cost, dtype=float).reshape(-1, len(optimizer.objectives))
    optimizer.tell(Evaluations(candidates.ids[rows], candidates.x[rows], cost))


@pytest.mark.parametrize("options", [{"bins": 3, "pop_size": 1}, {"measures": ["loss"], "pop_size": 5}])
def test_it_keeps_the_contract_with_other_options(options):
    named = {name: default_spaces()[name] for name in ("two-point", "conditional", "unbounded")}
    if "measures" in options:
        named = {"named": Space({"loss": Categorical(["a", "b"]), "x": Real(0, 1)})}
    check_optimizer(partial(MAPElites, **options), spaces=named, evaluations=40)


def test_cma_me_keeps_the_contract():
    pytest.importorskip("ribs")
    spaces = {"numbers": Space({"n": Integer(1, 9), "w": Real(), "x": Real(0, 1, when={"n": [1, 2]})})}
    check_optimizer(partial(MAPElites, emitter="cma-me", pop_size=8, emitters=2), spaces=spaces, evaluations=60)


BAD = [
    ("pop_size", 0),
    ("sigma", 0.0),
    ("emitters", 0),
    ("emitter", "isoline"),
    ("bins", 0),
    ("bins", [3, 4, 5]),
    ("bins", 1001),
    ("measures", []),
    ("measures", "rate"),
    ("measures", ["cost"]),
    ("measures", ["rate", "rate"]),
    ("ranges", {"x[0]": [0, 1]}),
    ("ranges", {"rate": [1, 0]}),
    ("ranges", {"rate": [0, np.inf]}),
]


@pytest.mark.parametrize(("option", "value"), BAD, ids=str)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$|^{option} must make .*$"):
        build(objectives=MEASURED, **{option: value})


def test_cma_me_without_ribs_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ribs", None)
    with pytest.raises(OptimizerError, match=r"^cma-me needs ribs: pip install 'l2l-dask\[algorithms\]'$"):
        build(emitter="cma-me")


def test_cma_me_refuses_categoricals_and_names_what_takes_them():
    with pytest.raises(OptimizerError, match=r"^emitter 'cma-me' searches numbers only.*take 'gaussian'$"):
        build(Space({"c": Categorical(["x", "y"])}), emitter="cma-me")


RESULTS = st.lists(
    st.tuples(st.integers(0, 9), st.floats(-3, 3, allow_nan=False), st.floats(-3, 3, allow_nan=False)), max_size=40
)


@settings(max_examples=50, deadline=None)
@given(RESULTS)
def test_each_elite_is_the_best_of_its_cell_and_each_cell_has_one(results):
    optimizer = build(objectives=MEASURED, ranges={"rate": [-2, 2], "cv": [-1, 3]}, bins=[4, 2])
    best = {}
    for id, (cost, rate, cv) in enumerate(results):
        tell(optimizer, optimizer.ask(1), optimizer.objectives.cost(np.array([cost, rate, cv])))
        # Cells of width 1 from -2 and of 2 from -1; what is outside counts to the outermost. For the maximised measure
        # the cells are those of its negative: closed at their upper end.
        cell = int(np.clip(np.floor(rate + 2), 0, 3)), int(np.clip(np.floor((-cv + 3) / 2), 0, 1))
        if cell not in best or cost < best[cell][0]:
            best[cell] = (cost, id, rate, cv)
    ids, x, costs, measures = optimizer.elites
    found = zip(costs.tolist(), ids.tolist(), *measures.T.tolist(), strict=True)
    assert sorted(found) == sorted(best.values())
    assert len(x) == len(best)


def test_its_elites_are_those_of_pyribs():
    archives = pytest.importorskip("ribs.archives")
    reference = archives.GridArchive(solution_dim=4, dims=[7, 5], ranges=[(0, 1), (-1, 1)])
    two = Objectives([maximize("quality"), minimize("u"), minimize("v")])
    optimizer = build(objectives=two, ranges={"u": [0, 1], "v": [-1, 1]}, bins=[7, 5], sigma=0.3)
    while optimizer.n_asked < 300:
        candidates = optimizer.ask(10)
        x = candidates.x
        quality, u, v = x[:, 2] - x[:, 3] ** 2, x[:, 0] * x[:, 1] * 1.5 - 0.1, np.sin(6 * x[:, 1])
        tell(optimizer, candidates, np.stack((-quality, u, v), axis=1))
        reference.add(x, quality, np.stack((u, v), axis=1))
    ours, theirs = optimizer.elites, reference.data(["solution", "objective", "measures"])
    order, other = np.argsort(ours[2]), np.argsort(-theirs["objective"])
    assert ours[2][order] == pytest.approx(-theirs["objective"][other])
    assert np.array_equal(ours[1][order], theirs["solution"][other])
    assert ours[3][order] == pytest.approx(theirs["measures"][other])


def test_measures_are_the_objectives_after_the_first_or_else_the_first_two_parameters():
    assert build(objectives=MEASURED).measures == ("rate", "cv")
    assert build().measures == ("x[0]", "x[1]")
    assert build(Space({"tau": Real(1, 9)})).measures == ("tau",)
    assert build(objectives=MEASURED, measures=["cv", "x[3]"]).measures == ("cv", "x[3]")


def test_there_are_about_a_thousand_cells_and_no_more_than_a_parameter_has_values():
    assert build().bins.tolist() == [32, 32]
    assert build(Space({"tau": Real(1, 9)})).bins.tolist() == [1000]
    space = Space({"n": Integer(1, 5), "c": Categorical(["x", "y", "z"]), "r": Real(0, 1)})
    assert build(space, measures=["n", "c", "r"]).bins.tolist() == [5, 3, 10]
    optimizer = build(space, measures=["n", "c"])
    tell(optimizer, optimizer.ask(100), np.zeros(100))
    assert len(optimizer.elites[0]) == 15
    assert sorted(map(tuple, optimizer.elites[3].tolist())) == [(n, c) for n in range(1, 6) for c in range(3)]


def test_ranges_that_nobody_gave_are_those_of_the_first_results():
    optimizer = build(objectives=Objectives([minimize("cost"), minimize("rate")]), bins=4, pop_size=5)
    tell(optimizer, optimizer.ask(6), [[1, np.nan], [1, 10], [1, 30], [1, 11], [1, 12], [1, 50]])
    # From 10 to 50 in four cells: 10, 11, 12 share the first; of the same quality the first stays.
    assert optimizer.elites[0].tolist() == [1, 2, 5]
    tell(optimizer, optimizer.ask(1), [[1, 999]])
    assert optimizer.elites[0].tolist() == [1, 2, 5]
    tell(optimizer, optimizer.ask(1), [[0, 999]])
    assert optimizer.elites[0].tolist() == [1, 2, 7]


def test_children_are_elites_plus_gaussian_noise():
    space = Space({"w": Real(shape=(1000,)), "x": Real(0, 1, shape=(1000,))})
    optimizer = build(space, bins=1, sigma=0.001, pop_size=1)
    first = optimizer.ask(1)
    tell(optimizer, first, [1.0])
    child = optimizer.ask(1)
    assert child.info["parents"].tolist() == [[0, -1]]
    steps = (child.x - first.x)[0]
    # Chi-square deviations of four standard errors; few elements are so near to a bound as to be reflected.
    assert abs(steps[:1000].std() / (0.001 * np.sqrt(12)) - 1) < 4 / np.sqrt(2000)
    assert abs(steps[1000:].std() / 0.001 - 1) < 4 / np.sqrt(2000)


def test_integers_and_categoricals_change_with_probability_one_over_dim_and_one_at_least():
    space = Space({"n": Integer(1, 50, shape=(5,)), "c": Categorical(list("abc"), shape=(5,))})
    optimizer = build(space, bins=1, pop_size=1)
    first = optimizer.ask(1)
    tell(optimizer, first, [1.0])
    changed = (optimizer.ask(1000).x != first.x).sum(axis=1)
    assert changed.min() == 1
    # Binomial(10, 1/10), and 1 where that is 0.
    assert abs(changed.mean() - (1 + 0.9**10)) < 4 * np.sqrt(0.9 / 1000)


def cells_and_score(optimizer, problem, n, batch=8):
    while optimizer.n_asked < n:
        candidates = optimizer.ask(batch)
        tell(optimizer, candidates, problem(candidates.x))
    costs = optimizer.elites[2]
    return len(costs), (1 - costs).sum()


def halves(x):
    """Return the variance, and the means of both halves: at random these hardly leave 1/2."""
    half = x.shape[1] // 2
    return np.stack((x.var(axis=1), x[:, :half].mean(axis=1), x[:, half:].mean(axis=1)), axis=1)


@pytest.mark.parametrize("emitter", ["gaussian", "cma-me"])
def test_it_fills_a_third_more_cells_than_random_search_and_better(emitter):
    if emitter == "cma-me":
        pytest.importorskip("ribs")
    space = Space({"x": Real(0, 1, shape=(40,))})
    objectives = Objectives([minimize("cost"), minimize("u"), minimize("v")])
    options = {"ranges": {"u": [0, 1], "v": [0, 1]}, "bins": 10}
    chance = cells_and_score(build(space, objectives, pop_size=2000, **options), halves, 2000)
    found = cells_and_score(build(space, objectives, pop_size=50, emitter=emitter, **options), halves, 2000)
    assert found[0] > 4 / 3 * chance[0]
    assert found[1] > 4 / 3 * chance[1]


def test_cma_me_learns_when_a_batch_is_whole_and_mutates_elites_while_all_wait():
    pytest.importorskip("ribs")
    optimizer = build(emitter="cma-me", emitters=2, pop_size=5)
    tell(optimizer, optimizer.ask(5), np.arange(5))
    size = 4 + int(3 * np.log(4))  # CMA-ES's default for four dimensions
    first = optimizer.ask(2 * size + 3)
    assert (first.info["parents"][:, 0] >= 0).tolist() == [False] * 2 * size + [True] * 3
    tell(optimizer, first, np.ones(size - 1), slice(0, size - 1))
    assert (optimizer.ask(2).info["parents"][:, 0] >= 0).all()
    tell(optimizer, first, [np.nan], slice(size - 1, size))
    again = optimizer.ask(size + 1)
    assert (again.info["parents"][:, 0] >= 0).tolist() == [False] * size + [True]
    assert optimizer._batches[0].emitter.itrs == 1
    assert optimizer._batches[1].emitter.itrs == 0


def test_an_adoption_starts_the_emitters_anew_and_what_was_in_flight_still_finds_its_cell():
    pytest.importorskip("ribs")
    optimizer, unmoved = (build(emitter="cma-me", emitters=1, pop_size=5, bins=1) for _ in range(2))
    for either in (unmoved, optimizer):
        tell(either, either.ask(5), np.arange(5))
        flying = either.ask(3)
    optimizer.adopt([8], [[0.5] * 4])
    tell(optimizer, flying, [3.0, -1.0, np.nan])
    assert optimizer.elites[0].tolist() == [6]
    assert not np.array_equal(optimizer.ask(1).x, unmoved.ask(1).x)
