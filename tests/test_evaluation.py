"""Objectives, what counts as a fitness, and the seeds."""

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

from l2l_dask import Objectives, Status, maximize, minimize
from l2l_dask.errors import EvaluationError, ObjectivesError
from l2l_dask.evaluation import Candidate, Evaluation, individual_seed, optimizer_rng
from l2l_dask.optimizee import Context

ONE = Objectives(minimize("rmse"))
TWO = Objectives([minimize("rmse"), maximize("accuracy")])


@pytest.mark.parametrize(
    "value",
    [
        0.5,
        np.float64(0.5),
        np.float32(0.5),
        np.float16(0.5),
        np.longdouble(0.5),
        Fraction(1, 2),
        np.array(0.5),
        np.array([0.5]),
        (0.5,),
        [0.5],
        [np.array(0.5)],
        {"rmse": 0.5},
        {"rmse": np.array(0.5)},
        {"rmse": 0.5, "more": "is ignored"},
    ],
    ids=repr,
)
def test_a_number_in_any_form_is_a_fitness(value):
    parsed = ONE.parse(value)
    assert parsed == (0.5,)
    assert type(parsed[0]) is float


@pytest.mark.parametrize(("value", "number"), [(3, 3.0), (np.int64(3), 3.0), (np.uint8(255), 255.0), (-0.0, 0.0)])
def test_integers_are_numbers(value, number):
    assert ONE.parse(value) == (number,)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "0.5",
        b"0.5",
        "abc",
        math.nan,
        math.inf,
        -math.inf,
        np.float32("nan"),
        np.array(np.inf),
        0.5j,
        Decimal("0.5"),
        (),
        [],
        {},
        {"mse": 0.5},
        {"rmse": None},
        {"rmse": math.nan},
        (0.5, 0.5),
        np.zeros(2),
        np.zeros((1, 1)),
        np.zeros(0),
        np.array(None),
        np.array("0.5"),
        {0.5},
        object(),
        lambda: 0.5,
    ],
    ids=lambda value: repr(value).partition(" at ")[0],
)
def test_anything_else_is_refused_with_what_was_expected_and_what_came(value):
    with pytest.raises(EvaluationError) as caught:
        ONE.parse(value)
    assert "expected a finite number for 'rmse'" in str(caught.value)
    assert repr(value)[:30] in str(caught.value)


@pytest.mark.parametrize("value", [(0.5, 2), [0.5, 2], np.array([0.5, 2]), {"accuracy": 2, "rmse": 0.5}], ids=repr)
def test_several_objectives_come_in_their_order_or_by_name(value):
    assert TWO.parse(value) == (0.5, 2.0)


@pytest.mark.parametrize("value", [0.5, (0.5,), (1, 2, 3), (0.5, math.nan), {"rmse": 0.5}, np.zeros((2, 1))], ids=repr)
def test_several_objectives_need_a_number_each(value):
    with pytest.raises(EvaluationError, match=r"finite numbers for \['rmse', 'accuracy'\]"):
        TWO.parse(value)


def test_a_dict_without_an_objective_says_which():
    with pytest.raises(EvaluationError, match="accuracy"):
        TWO.parse({"rmse": 0.5})


def test_a_long_value_is_quoted_in_short():
    with pytest.raises(EvaluationError) as caught:
        ONE.parse("x" * 10_000)
    assert len(str(caught.value)) < 200


def test_costs_are_fitness_with_the_sign_that_makes_them_smaller_when_better():
    fitness = np.array([[1.0, 2.0], [math.nan, -3.0]])
    np.testing.assert_array_equal(TWO.cost(fitness), [[1.0, -2.0], [math.nan, 3.0]])
    np.testing.assert_array_equal(TWO.cost(TWO.cost(fitness)), fitness)


@pytest.mark.parametrize(
    "objectives",
    [
        [minimize("rmse"), maximize("accuracy")],
        (minimize("rmse"), maximize("accuracy")),
        {"rmse": "minimize", "accuracy": "maximize"},
        TWO,
        [Objectives(minimize("rmse")), maximize("accuracy")],
    ],
    ids=repr,
)
def test_objectives_can_be_written_in_several_ways(objectives):
    assert Objectives(objectives) == TWO
    assert hash(Objectives(objectives)) == hash(TWO)
    assert Objectives(objectives).to_dict() == {"rmse": "minimize", "accuracy": "maximize"}


@pytest.mark.parametrize(
    "objectives",
    [[], {}, "rmse", None, ["rmse"], 3, [minimize("a"), maximize("a")], {"a": "minimise"}, {"": "minimize"}],
    ids=repr,
)
def test_objectives_without_name_or_direction_are_refused(objectives):
    with pytest.raises(ObjectivesError):
        Objectives(objectives)


def test_status_numbers_are_those_of_the_store():
    assert [(s.label, int(s)) for s in Status] == [
        ("pending", 0),
        ("done", 1),
        ("failed", 2),
        ("timed_out", 3),
        ("crashed", 4),
        ("stopped", 5),
        ("cancelled", 6),
    ]


def test_an_evaluations_seconds_are_from_start_to_end():
    assert Evaluation(0, Status.DONE, started=10.0, finished=12.5).seconds == 2.5
    assert math.isnan(Evaluation(0, Status.DONE).seconds)


# NumPy guarantees that SeedSequence and PCG64 give the same numbers on every machine and in every version.
def test_the_seeds_of_an_individual_are_the_same_on_every_machine():
    context = Context(Candidate(3, {}, seed=42))
    sequence = np.random.SeedSequence(42, spawn_key=(1, 3))
    assert context.seed == 1 + int(sequence.generate_state(1)[0]) % (2**31 - 2)
    assert context.rng.random() == np.random.default_rng(sequence).random()
    assert context.seed == 1_850_291_429
    assert Context(Candidate(3, {}, seed=42)).rng.integers(2**32) == 53_352_084


def test_the_optimizers_generator_is_the_same_on_every_machine():
    assert optimizer_rng(42).integers(2**32) == 875_098_520
    assert optimizer_rng(42, 1).integers(2**32) != 875_098_520


def test_another_attempt_at_an_individual_has_the_same_seeds():
    first, second = (Context(Candidate(3, {}, seed=42, attempt=attempt)) for attempt in (1, 2))
    assert first.seed == second.seed
    assert first.rng.random() == second.rng.random()


def test_seeds_of_individuals_and_experiments_differ_and_suit_simulators():
    seeds = [Context(Candidate(id, {}, seed=seed)).seed for seed in range(20) for id in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 1
    assert max(seeds) <= 2**31 - 2
    states = {tuple(individual_seed(seed, id).generate_state(4)) for seed in range(20) for id in range(50)}
    assert len(states) == 1000
