"""NevergradOptimizer: the library's own proposals on every kind of parameter, asynchronous, resumable."""

import sys
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.nevergrad_optimizer import _OWN_RANDOMNESS, NevergradOptimizer

ng = pytest.importorskip("nevergrad")
COST = Objectives(minimize("cost"))
TWO = Objectives([minimize("f"), minimize("g")])
CUBE = Space({"x": Real(0, 1, shape=(3,))})
MIXED = Space({"a": Real(0, 1), "n": Integer(-3, 12), "c": Categorical(["x", "y", "z"]), "w": Real(scale=2.0)})


def tell(optimizer, ids, x, cost):
    optimizer.tell(Evaluations(np.array(ids), np.array(x), np.array(cost, dtype=float).reshape(len(ids), -1)))


def seeded(parametrization):
    parametrization.random_state = np.random.RandomState(5)
    return parametrization


def assert_same(optimizer, alone, value_of, rounds=50):
    """Lead both through the same asks and results, told in another order, one of them always in flight."""
    rng, waiting = np.random.default_rng(0), []
    for i in range(rounds):
        ours, theirs = optimizer.ask(1), alone.ask()
        np.testing.assert_allclose(optimizer.space.natural(ours.x[0]), value_of(theirs.value), rtol=1e-12, atol=1e-12)
        waiting.append((i, ours.x[0], theirs))
        if len(waiting) > 2:
            for _ in range(2):
                i, x, candidate = waiting.pop(rng.integers(len(waiting)))
                cost = rng.random()
                tell(optimizer, [i], [x], [cost])
                alone.tell(candidate, cost)


@pytest.mark.parametrize("name", ["OnePlusOne", "TwoPointsDE", "CMA", "TBPSA"])
def test_it_proposes_what_the_library_alone_proposes(name):
    alone = ng.optimizers.registry[name](seeded(ng.p.Array(shape=(3,), lower=0.0, upper=1.0)), num_workers=4)
    assert_same(NevergradOptimizer(CUBE, COST, seed=5, optimizer=name, workers=4), alone, lambda value: value)


def test_each_kind_of_parameter_is_nevergrads_own():
    parametrization = ng.p.Dict(
        real=ng.p.Array(shape=(1,), lower=0.0, upper=1.0),
        free=ng.p.Array(shape=(1,)),
        integer=ng.p.Array(init=[5.0], lower=[-3.0], upper=[12.0]).set_integer_casting(),
        **{"choice c": ng.p.Choice(range(3), repetitions=1)},
    )
    alone = ng.optimizers.registry["TwoPointsDE"](seeded(parametrization), num_workers=1)
    assert_same(
        NevergradOptimizer(MIXED, COST, seed=5),
        alone,
        lambda v: [v["real"][0], v["integer"][0], v["choice c"][0], 2.0 * v["free"][0]],
    )


def test_a_family_takes_options():
    alone = ng.families.DifferentialEvolution(crossover="onepoint", popsize=7)(
        seeded(ng.p.Array(shape=(3,), lower=0.0, upper=1.0))
    )
    options = {"crossover": "onepoint", "popsize": 7}
    ours = NevergradOptimizer(CUBE, COST, seed=5, optimizer="DifferentialEvolution", optimizer_options=options)
    assert_same(ours, alone, lambda value: value)


def losses(optimizer):
    """Record what the library is told."""
    told, original = [], optimizer._optimizer.tell

    def record(candidate, loss):
        told.append(loss)
        original(candidate, loss)

    optimizer._optimizer.tell = record
    return told


def test_a_failed_evaluation_is_told_the_worst_so_far_and_passed_over_before():
    optimizer = NevergradOptimizer(CUBE, COST)
    told = losses(optimizer)
    x = optimizer.ask(6).x
    tell(optimizer, range(6), x, [np.nan, 2.0, 7.0, np.nan, 9.0, np.nan])
    assert told == [2.0, 7.0, 7.0, 9.0, 9.0]


def test_a_failure_of_two_objectives_is_told_the_worst_of_each():
    optimizer = NevergradOptimizer(CUBE, TWO)
    told = losses(optimizer)
    x = optimizer.ask(3).x
    tell(optimizer, range(3), x, [[1.0, 5.0], [3.0, 2.0], [np.nan, np.nan]])
    assert told == [[1.0, 5.0], [3.0, 2.0], [3.0, 5.0]]


def test_adopted_individuals_are_told_as_not_asked():
    optimizer = NevergradOptimizer(MIXED, COST)
    optimizer.ask(2)
    given = {"a": 1.0, "n": 12, "c": "z", "w": 40.0}
    x = MIXED.encode(given)[None]
    optimizer.adopt([2], x)
    tell(optimizer, [2], x, [0.25])
    assert optimizer._optimizer.num_tell_not_asked == 1
    best = optimizer._optimizer.current_bests["minimum"]
    assert best.mean == 0.25
    assert MIXED.decode(optimizer._kinds.encoded(best.parameter.value)) == pytest.approx(given)


def test_the_experiments_budget_and_workers_are_the_librarys():
    optimizer = NevergradOptimizer(CUBE, COST, evaluations=321, workers=7)
    assert (optimizer._optimizer.budget, optimizer._optimizer.num_workers) == (321, 7)


def test_one_evaluation_at_a_time_where_the_library_allows_for_no_more():
    optimizer = NevergradOptimizer(CUBE, COST, optimizer="Cobyla", evaluations=50, workers=8)
    assert not optimizer.asynchronous
    first = optimizer.ask(5)
    assert len(first) == 1
    assert len(optimizer.ask(5)) == 0
    tell(optimizer, first.ids, first.x, [np.nan])
    assert len(optimizer.ask(5)) == 1


@pytest.mark.parametrize("name", [*sorted(_OWN_RANDOMNESS), "LognormalDiscreteOnePlusOne"])
def test_the_global_generator_is_left_in_the_middle_of_a_pair(name):
    before = np.random.get_state()
    try:
        np.random.seed(3)
        np.random.standard_normal(3)  # keeps the second of a pair
        state = np.random.get_state()
        optimizer = NevergradOptimizer(CUBE, COST, optimizer=name, evaluations=100)
        for i in range(45):
            x = optimizer.ask(1).x
            tell(optimizer, [i], x, [float(((x - 0.3) ** 2).sum())])
        assert repr(np.random.get_state()) == repr(state)
        assert state[3] == 1
    finally:
        np.random.set_state(before)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"optimizer": "TwoPointDE"}, r"^optimizer must be .* did you mean TwoPointsDE"),
        ({"optimizer": "cma-es"}, r"^optimizer must be .* did you mean .*CMA"),
        ({"optimizer": "no.such:Thing"}, r"^optimizer must be .*ModuleNotFoundError"),
        ({"optimizer": "NGOpt"}, r"^optimizer 'NGOpt' of Nevergrad raised .* expected .*evaluations="),
        ({"optimizer": "DifferentialEvolution", "optimizer_options": {"pop": 3}}, r"^optimizer_options must be .*pop"),
        ({"optimizer_options": {"popsize": 3}}, r"^optimizer_options must be empty"),
        ({"optimizer_options": {"budget": 3}}, r"^optimizer_options must leave out \['budget'\]"),
        ({"evaluations": 0}, r"^evaluations must be"),
        ({"workers": 1.5}, r"^workers must be"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(given, message):
    with pytest.raises(OptimizerError, match=message) as raised:
        NevergradOptimizer(CUBE, COST, **given)
    assert "\n" not in str(raised.value)


def test_a_missing_library_is_named_with_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nevergrad", None)
    with pytest.raises(OptimizerError, match=r"^nevergrad needs nevergrad: pip install 'l2l-dask\[algorithms\]'$"):
        NevergradOptimizer(CUBE, COST)


@pytest.mark.parametrize(
    ("space", "given"),
    [
        ("real", {"optimizer": "CMA"}),
        ("mixed", {"optimizer": "OnePlusOne"}),
        ("integer", {"optimizer": "LognormalDiscreteOnePlusOne"}),
        ("one-dimensional", {"optimizer": "PSO", "workers": 4}),
        ("one-dimensional", {"optimizer": "Powell", "evaluations": 100}),
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_optimizers(space, given):
    check_optimizer(partial(NevergradOptimizer, **given), spaces={space: default_spaces()[space]}, evaluations=16)
