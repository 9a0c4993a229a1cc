"""PymooAlgorithm: the library's own generations, handed out one by one."""

import sys
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.pymoo_algorithm import PymooAlgorithm, _known

pytest.importorskip("pymoo")
COST = Objectives(minimize("cost"))
TWO = Objectives([minimize("f"), minimize("g")])
THREE = Objectives([minimize("f"), minimize("g"), minimize("h")])
CUBE = Space({"x": Real(0, 1, shape=(4,))})


def tell(optimizer, ids, x, cost):
    optimizer.tell(Evaluations(np.array(ids), np.array(x), np.array(cost, dtype=float).reshape(len(ids), -1)))


def costs(x, n):
    """Conflicting objectives: squared distances from n points."""
    return np.stack([((x - 0.2 - 0.5 * i) ** 2).sum(axis=-1) for i in range(n)], axis=-1)


def minimised(algorithm, n, generations):
    """Let the library alone minimise; return all that it evaluated, in order."""
    from pymoo.core.problem import Problem
    from pymoo.optimize import minimize as pymoo_minimize

    seen = []

    class Recorded(Problem):
        def _evaluate(self, x, out, *args, **kwargs):
            seen.append(x.copy())
            out["F"] = costs(x, n)

    problem = Recorded(n_var=4, n_obj=n, xl=np.zeros(4), xu=np.ones(4))
    pymoo_minimize(problem, algorithm, ("n_gen", generations), seed=5, copy_algorithm=False)
    return np.concatenate(seen)


@pytest.mark.parametrize(
    ("name", "options", "objectives"),
    [
        ("DE", {"pop_size": 12}, COST),
        ("PSO", {"pop_size": 8}, COST),
        ("GA", {"pop_size": 10, "n_offsprings": 4}, COST),
        ("CMAES", {"pop_size": 6}, COST),
        ("NSGA2", {"pop_size": 10}, TWO),
        ("SMSEMOA", {"pop_size": 8}, TWO),
    ],
)
def test_it_proposes_what_the_library_alone_evaluates(name, options, objectives):
    expected = minimised(_known()[name](**options), len(objectives), 6)
    optimizer = PymooAlgorithm(CUBE, objectives, seed=5, algorithm=name, algorithm_options=options)
    rng, waiting, proposed = np.random.default_rng(0), {}, []
    while len(proposed) < len(expected):
        asked = optimizer.ask(min(3, len(expected) - len(proposed)))
        proposed += list(asked.x)
        waiting.update(zip(asked.ids.tolist(), asked.x, strict=True))
        if not len(asked) or rng.random() < 0.3:
            i = int(rng.choice(list(waiting)))
            x = waiting.pop(i)
            tell(optimizer, [i], [x], costs(x[None], len(objectives)))
    np.testing.assert_array_equal(proposed, expected)


def test_reference_directions_are_made_where_they_are_needed():
    # Of 12 partitions there are 14 over 2 = 91, of 13 there are 15 over 2 = 105, which is more than a hundred.
    assert len(PymooAlgorithm(CUBE, THREE, algorithm="NSGA3")._algorithm.ref_dirs) == 91
    given = {"ref_dirs": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "pop_size": 4}
    assert len(PymooAlgorithm(CUBE, THREE, algorithm="NSGA3", algorithm_options=given).ask(50)) == 4


def test_the_next_generation_waits_for_all_of_the_last():
    optimizer = PymooAlgorithm(CUBE, COST, algorithm_options={"pop_size": 6})
    assert not optimizer.asynchronous
    first = optimizer.ask(10)
    assert first.info["generation"].tolist() == [1] * 6
    tell(optimizer, first.ids[:5], first.x[:5], [1.0] * 5)
    assert len(optimizer.ask(1)) == 0
    tell(optimizer, first.ids[5:], first.x[5:], [1.0])
    assert optimizer.ask(1).info["generation"].tolist() == [2]


def test_a_failure_is_worse_than_any_success():
    optimizer = PymooAlgorithm(CUBE, TWO, algorithm_options={"pop_size": 4})
    first = optimizer.ask(4)
    tell(optimizer, first.ids, first.x, [[1e9, 1.0], [np.nan, 0.0], [1.0, 1e9], [2.0, 2.0]])
    population = optimizer._algorithm.pop
    assert sorted(population.get("F").max(axis=1)) == [2.0, 1e9, 1e9, 1e100]
    assert population.get("rank").tolist().count(0) == 3


def test_the_adopted_take_places_once_they_are_evaluated():
    optimizer = PymooAlgorithm(CUBE, COST, algorithm="GA", algorithm_options={"pop_size": 4})
    first = optimizer.ask(2)
    x = np.full((3, 4), [[0.1], [0.2], [0.3]])
    optimizer.adopt([2, 3, 4], x)
    tell(optimizer, [2, 3], x[:2], [0.5, np.nan])  # one takes a place, the other failed
    last = optimizer.ask(5)
    assert len(last) == 1
    tell(optimizer, [*first.ids, *last.ids], [*first.x, *last.x], [1.0, 2.0, 3.0])
    population = optimizer._algorithm.pop
    assert sorted(population.get("F")[:, 0]) == [0.5, 1.0, 2.0, 3.0]
    assert population.get("X")[population.get("F")[:, 0] == 0.5].tolist() == [[0.1] * 4]
    optimizer.ask(1)
    tell(optimizer, [4], x[2:], [0.25])  # however late
    assert len(optimizer.ask(5)) == 2


def test_integers_and_categoricals_are_the_centres_of_their_bins():
    space = Space({"n": Integer(1, 5), "c": Categorical(["x", "y"])})
    x = PymooAlgorithm(space, COST).ask(100).x
    assert set(np.round(x[:, 0], 12)) == {0.1, 0.3, 0.5, 0.7, 0.9}
    assert set(x[:, 1]) == {0.25, 0.75}


def test_an_unbounded_parameter_is_searched_within_five_scales():
    x = PymooAlgorithm(Space({"w": Real(loc=10.0, scale=2.0)}), COST).ask(100).x
    assert -5 <= x.min() < -4
    assert 4 < x.max() <= 5


def test_it_is_done_when_the_algorithm_has_converged():
    space = Space({"x": Real(0, 1, shape=(2,))})
    optimizer = PymooAlgorithm(space, COST, algorithm="CMAES", algorithm_options={"tolfun": 1e-3, "tolx": 1e-3})
    while not optimizer.done:
        asked = optimizer.ask(100)
        tell(optimizer, asked.ids, asked.x, costs(asked.x, 1))
    assert 20 < optimizer.n_asked < 1000
    assert len(optimizer.ask(1)) == 0


@pytest.mark.parametrize("name", ["GA", "DE", "PSO", "CMAES", "NelderMead"])
def test_an_algorithm_for_one_objective_refuses_two(name):
    with pytest.raises(OptimizerError, match=rf"^{name} takes 1 objective\(s\), got 2: choose .*NSGA2"):
        PymooAlgorithm(CUBE, TWO, algorithm=name)


@pytest.mark.parametrize("name", ["MOEAD", "SMSEMOA"])
def test_an_algorithm_for_several_objectives_refuses_one(name):
    with pytest.raises(OptimizerError, match=rf"^{name} needs at least 2 objectives, got 1: choose GA"):
        PymooAlgorithm(CUBE, COST, algorithm=name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"algorithm": "nsga"}, r"^algorithm must be .* did you mean .*NSGA2"),
        ({"algorithm": "PatternSerch"}, r"^algorithm must be .* did you mean PatternSearch"),
        ({"algorithm": "no.such:Thing"}, r"^algorithm must be .*ModuleNotFoundError"),
        ({"algorithm": "json:loads"}, r"^algorithm"),
        ({"algorithm_options": {"seed": 1}}, r"^algorithm_options must leave out \['seed'\]"),
        ({"algorithm_options": 4}, r"^algorithm_options must be a table"),
        ({"algorithm_options": {"pop_size": "many"}}, r"^algorithm"),
        (
            {"algorithm_options": {"survivors": 3}},
            r"^algorithm_options must be some of .*pop_size.*got \['survivors'\]",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(given, message):
    with pytest.raises(OptimizerError, match=message) as raised:
        PymooAlgorithm(CUBE, COST, **given)
    assert "\n" not in str(raised.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(OptimizerError, match=r"^pymoo needs pymoo: pip install 'l2l-dask\[algorithms\]'$"):
        PymooAlgorithm(CUBE, COST)


@pytest.mark.parametrize(
    ("space", "given"),
    [
        ("mixed", {"algorithm": "DE", "algorithm_options": {"pop_size": 6}}),
        ("unbounded", {"algorithm": "PSO", "algorithm_options": {"pop_size": 5}}),
        ("real", {"algorithm": "CMAES"}),
        ("conditional", {"algorithm_options": {"pop_size": 6}}),
        ("two-point", {"algorithm_options": {"pop_size": 6}}),
        ("real", {"algorithm": "NelderMead"}),
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_algorithms(space, given):
    check_optimizer(partial(PymooAlgorithm, **given), spaces={space: default_spaces()[space]}, evaluations=20)
