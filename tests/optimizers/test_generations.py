"""Generations: what algorithms share that draw from a distribution and update it from the results."""

import numpy as np
import pytest

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, maximize, minimize
from l2l_dask.errors import OptimizerError
from optimizers._generations import Generations
from optimizers.cross_entropy import CrossEntropy
from optimizers.evolution_strategies import EvolutionStrategies
from optimizers.gradient_descent import GradientDescent
from optimizers.natural_evolution_strategies import NaturalEvolutionStrategies
from optimizers.xnes import XNES

SPACE = Space({"x": Real(0, 1)})
COST = Objectives(minimize("cost"))


class Recorder(Generations):
    """Learns nothing, notes its draws by their number, and may want larger samples."""

    def __init__(self, space=SPACE, objectives=COST, *, more=(), **options):
        given = {"seed": 0, "pop_size": 4, "n_iteration": None, "stop_criterion": None, "synchronous": False}
        super().__init__(space, objectives, **(given | options))
        self.learned, self.more, self.draws, self.forgot = [], list(more), 0, 0

    def _draw(self):
        self.draws += 1
        return self.rng.random(self.space.dim) + 1, self.draws

    def _learn(self, results):
        self.learned.append(results)
        return self.more.pop(0) if self.more else 0

    def _note(self, x):
        return "adopted"

    def _forget(self):
        self.forgot += 1


def tell(optimizer, ids, cost):
    ids = np.array(ids)
    optimizer.tell(Evaluations(ids, np.full((len(ids), 1), 0.5), np.array(cost, dtype=float)[:, None]))


def test_asynchronous_every_pop_size_results_are_learned_from_whichever_generation_they_are_of():
    optimizer = Recorder()
    assert len(optimizer.ask(10)) == 10
    tell(optimizer, [9, 1, 3, 7], [4.0, 3.0, 2.0, 1.0])
    assert optimizer.learned[0].ids.tolist() == [7, 3, 1, 9]
    assert optimizer.learned[0].cost.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert optimizer.learned[0].notes == [8, 4, 2, 10]
    assert optimizer.ask(2).info["generation"].tolist() == [1, 1]
    tell(optimizer, [0, 10, 2], [1.0, 1.0, 1.0])
    assert len(optimizer.learned) == 1
    tell(optimizer, [11], [1.0])
    assert optimizer.learned[1].ids.tolist() == [0, 2, 10, 11]


def test_asynchronous_failures_do_not_count():
    optimizer = Recorder()
    optimizer.ask(6)
    tell(optimizer, range(5), [1.0, np.nan, 1.0, np.nan, 1.0])
    assert not optimizer.learned
    tell(optimizer, [5], [1.0])
    assert optimizer.learned[0].ids.tolist() == [0, 2, 4, 5]


def test_synchronous_a_generation_waits_until_all_of_the_one_before_are_told():
    optimizer = Recorder(synchronous=True)
    assert not optimizer.asynchronous
    assert len(optimizer.ask(3)) == 3
    assert len(optimizer.ask(3)) == 1
    tell(optimizer, [0, 1, 3], [1.0, 1.0, 1.0])
    assert not len(optimizer.ask(1))
    tell(optimizer, [2], [1.0])
    assert optimizer.ask(9).info["generation"].tolist() == [1] * 4


def test_synchronous_failures_shorten_a_generation_and_one_that_failed_is_drawn_again():
    optimizer = Recorder(synchronous=True)
    optimizer.ask(4)
    tell(optimizer, range(4), [np.nan, 2.0, np.nan, 1.0])
    assert optimizer.learned[0].ids.tolist() == [3, 1]
    optimizer.ask(4)
    tell(optimizer, range(4, 8), [np.nan] * 4)
    assert len(optimizer.learned) == 1
    assert len(optimizer.ask(9)) == 4


def test_synchronous_the_adopted_take_places_and_are_learned_from():
    optimizer = Recorder(synchronous=True)
    optimizer.ask(1)
    optimizer.adopt([1, 2], [[0.1], [0.2]])
    assert optimizer.forgot == 1
    assert len(optimizer.ask(9)) == 1
    tell(optimizer, [0, 1, 3], [1.0, 2.0, 3.0])
    assert not len(optimizer.ask(1))
    tell(optimizer, [2], [4.0])
    assert optimizer.learned[0].notes == [1, "adopted", 2, "adopted"]


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_sample_grows_by_what_the_algorithm_wants(synchronous):
    optimizer = Recorder(more=[2, 1], synchronous=synchronous)
    optimizer.ask(4)
    tell(optimizer, range(4), [1.0] * 4)
    assert optimizer.generation == 0
    assert optimizer.ask(2).info["generation"].tolist() == [0, 0]
    tell(optimizer, [4, 5], [1.0] * 2)
    optimizer.ask(1)
    tell(optimizer, [6], [1.0])
    assert [len(results) for results in optimizer.learned] == [4, 6, 7]
    assert optimizer.generation == 1


@pytest.mark.parametrize(("objective", "enough", "not_enough"), [(minimize, 1.9, 2.1), (maximize, 2.1, 1.9)])
def test_it_is_done_at_a_fitness_in_the_users_direction(objective, enough, not_enough):
    objectives = Objectives(objective("f"))
    optimizer = Recorder(objectives=objectives, stop_criterion=2.0)
    optimizer.ask(2)
    tell(optimizer, [0], objectives.cost(np.array([not_enough])))
    assert not optimizer.done
    tell(optimizer, [1], objectives.cost(np.array([enough])))
    assert optimizer.done
    assert not len(optimizer.ask(1))


def test_it_is_done_after_n_iteration_updates_and_takes_late_results():
    optimizer = Recorder(n_iteration=2)
    optimizer.ask(10)
    tell(optimizer, range(8), [1.0] * 8)
    assert optimizer.done
    tell(optimizer, [8, 9], [1.0] * 2)
    assert len(optimizer.learned) == 2


def test_draws_are_reflected_at_the_bounds_and_integers_snapped():
    x = Recorder(Space({"x": Real(0, 1), "n": Integer(1, 4)})).ask(20).x
    assert ((x[:, 0] >= 0) & (x[:, 0] <= 1)).all()
    assert set(x[:, 1].tolist()) <= {0.125, 0.375, 0.625, 0.875}


@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        (EvolutionStrategies, {"fitness_shaping": False}),
        (NaturalEvolutionStrategies, {"fitness_shaping": False}),
        (XNES, {"fitness_shaping": False}),
        (GradientDescent, {"method": "classic"}),
        (GradientDescent, {"method": "adam"}),
        (CrossEntropy, {"temp_decay": 0.9, "pop_size": 5}),
    ],
)
def test_the_largest_float_as_a_penalty_does_no_harm(algorithm, options):
    optimizer = algorithm(Space({"w": Real(shape=(2,))}), COST, **options)
    for _ in range(50):
        candidates = optimizer.ask(4)
        cost = np.where(candidates.ids % 2, np.finfo(float).max, -np.finfo(float).max)
        optimizer.tell(Evaluations(candidates.ids, candidates.x, cost[:, None]))
    assert np.isfinite(optimizer.ask(4).x).all()


def test_what_is_noted_of_individuals_in_flight_is_given_back():
    optimizer = Recorder()
    optimizer.ask(8)
    tell(optimizer, range(8), [np.nan] * 8)
    assert not optimizer._notes


def test_an_integer_keeps_a_quarter_of_its_widest_bin_as_standard_deviation():
    space = Space({"n": Integer(0, 9), "m": Integer(1, 10, log=True), "x": Real(0, 1)})
    # The logarithmic one reaches from ln 0.5 to ln 10.5, its first bin from there to ln 1.5.
    widest = np.log(1.5 / 0.5) / np.log(10.5 / 0.5)
    assert Recorder(space)._least_sd[:2] == pytest.approx([0.1 / 4, widest / 4])
    assert 0 < Recorder(space)._least_sd[2] < 1e-6


@pytest.mark.parametrize(
    ("option", "value"), [("n_iteration", 0), ("stop_criterion", "good"), ("stop_criterion", np.nan)]
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        Recorder(**{option: value})
