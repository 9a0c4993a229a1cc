"""ParticleSwarm: particles around the best places seen, asynchronous or by iterations."""

import copy
from functools import partial

import numpy as np
import pytest

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.particle_swarm import ParticleSwarm

SPACE = Space({"x": Real(0, 1, shape=(4,))})
FREE = Space({"w": Real(shape=(2,))})
COST = Objectives(minimize("cost"))


def build(space=SPACE, **options):
    return ParticleSwarm(space, COST, **({"pop_size": 10} | options))


def tell(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(cost, dtype=float)[:, None]))


def evaluate(optimizer, candidates):
    cost = ((candidates.x - 0.3) ** 2).sum(axis=1)
    tell(optimizer, candidates, cost)
    return cost


@pytest.mark.parametrize("given", [{"synchronous": True, "informants": 3}, {"pop_size": 1}])
def test_it_keeps_the_contract_with_other_options(given):
    spaces = {name: default_spaces()[name] for name in ("logarithmic", "integer")} | {
        "rest": Space({"w": Real(), "n": Integer(1, 9), "v": Real(0, 1, when={"n": [1, 2, 3]})})
    }
    check_optimizer(partial(ParticleSwarm, **given), spaces=spaces, evaluations=40)


@pytest.mark.parametrize(("option", "value"), [("pop_size", 0), ("phi", 3.9), ("informants", 0)], ids=str)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .*$"):
        build(**{option: value})


def test_categoricals_are_refused():
    with pytest.raises(OptimizerError, match="categorical"):
        build(Space({"c": Categorical(["x", "y"])}))


def test_the_constriction_factor_is_that_of_clerc_and_kennedy():
    assert build().chi == pytest.approx(0.7298, abs=5e-5)
    assert build(phi=4.0).chi == 1.0


def test_two_steps_of_one_particle_are_those_computed_by_hand():
    optimizer = build(FREE, pop_size=1)
    chi = 2 / (4.1 - 2 + np.sqrt(4.1**2 - 4 * 4.1))
    first = optimizer.ask(1)
    velocity = optimizer._v[0].copy()
    tell(optimizer, first, [1.0])
    # Its best place is where it is: both attractions vanish.
    second = optimizer.ask(1)
    assert second.x[0] == pytest.approx(first.x[0] + chi * velocity)
    tell(optimizer, second, [2.0])
    # That was worse: both attractions point back to the first place.
    u, w = copy.deepcopy(optimizer.rng).random((2, 2))
    third = optimizer.ask(1)
    back = first.x[0] - second.x[0]
    assert third.x[0] == pytest.approx(second.x[0] + chi * (chi * velocity + (u + w) * 4.1 / 2 * back))


def test_a_particle_is_attracted_by_its_own_best_place_and_the_best_of_all():
    optimizer = build(FREE, pop_size=2)
    first = optimizer.ask(2)
    tell(optimizer, first, [1.0, 2.0])
    x, velocity, rng = first.x[1], optimizer._v[1].copy(), copy.deepcopy(optimizer.rng)
    moved = optimizer.ask(2)
    rng.random((2, 2))
    _, w = rng.random((2, 2))
    assert moved.info["parents"].tolist() == [[0, 0], [1, 0]]
    assert moved.x[1] == pytest.approx(x + optimizer.chi * (velocity + w * 4.1 / 2 * (first.x[0] - x)))


def test_a_particle_moves_on_as_soon_as_its_own_result_comes():
    optimizer = build()
    first = optimizer.ask(10)
    tell(optimizer, first, range(10))
    second = optimizer.ask(10)
    optimizer.tell(Evaluations(second.ids[6:7], second.x[6:7], np.array([[-1.0]])))
    moved = optimizer.ask(1)
    assert moved.info["parents"].tolist() == [[int(second.ids[6])] * 2]  # and it knows its own result


def test_more_individuals_than_particles_are_moves_of_those_that_wait_longest():
    optimizer = build(pop_size=3)
    tell(optimizer, optimizer.ask(3), [3.0, 2.0, 1.0])
    many = optimizer.ask(9)
    assert many.info["parents"][:, 0].tolist() == [0, 1, 2] * 3
    assert len(np.unique(many.x, axis=0)) == 9
    optimizer.tell(Evaluations(many.ids[3:4], many.x[3:4], np.array([[9.0]])))
    assert optimizer.ask(2).info["parents"][:, 0].tolist() == [0, 1]


def test_results_of_any_move_and_of_adopted_individuals_become_best_places():
    optimizer = build(pop_size=2)
    tell(optimizer, optimizer.ask(2), [3.0, 2.0])
    flying = optimizer.ask(6)
    for i, cost in ((5, 1.0), (2, 2.5), (0, 9.0)):
        optimizer.tell(Evaluations(flying.ids[i : i + 1], flying.x[i : i + 1], np.array([[cost]])))
    ids, x, cost = optimizer.swarm
    assert cost.tolist() == [2.5, 1.0]
    assert ids.tolist() == [int(flying.ids[2]), int(flying.ids[5])]
    assert np.array_equal(x, flying.x[[2, 5]])
    optimizer.adopt([8], [[0.5] * 4])
    optimizer.tell(Evaluations(np.array([8]), np.full((1, 4), 0.5), np.array([[0.0]])))
    assert optimizer.swarm[2].tolist() == [0.0, 1.0]


def test_an_iteration_waits_for_all_particles_and_only_then_knows_their_results():
    optimizer = build(synchronous=True)
    first = optimizer.ask(25)
    assert len(first) == 10
    optimizer.tell(Evaluations(first.ids[:9], first.x[:9], np.ones((9, 1))))
    assert not len(optimizer.ask(1))
    optimizer.tell(Evaluations(first.ids[9:], first.x[9:], np.zeros((1, 1))))
    second = optimizer.ask(25)
    assert second.info["parents"].tolist() == [[i, 9] for i in range(10)]
    assert second.info["generation"].tolist() == [1] * 10


def test_who_would_leave_a_bound_stops_there_and_turns():
    optimizer = build(Space({"x": Real(0, 1), "w": Real()}), pop_size=1)
    tell(optimizer, optimizer.ask(1), [1.0])
    optimizer._v[0] = [-5.0, -5.0]
    x = optimizer._x[0].copy()
    moved = optimizer.ask(1)
    assert moved.x[0] == pytest.approx([0.0, x[1] - optimizer.chi * 5])
    assert optimizer._v[0] == pytest.approx([0.5 * optimizer.chi * 5, -optimizer.chi * 5])


def test_informants_are_drawn_anew_when_an_iteration_has_not_improved_the_best():
    optimizer = build(informants=2, pop_size=50)
    tell(optimizer, optimizer.ask(50), range(50, 0, -1))
    links = optimizer._links.copy()
    assert links.diagonal().all()
    # 2 draws with replacement out of 50 inform 1 - (1 - 1/50)^2 of the 49 others.
    expected = 49 * 50 * (1 - (1 - 1 / 50) ** 2)
    assert abs(links.sum() - 50 - expected) < 4 * np.sqrt(expected)
    tell(optimizer, optimizer.ask(50), [0.5] * 50)
    assert np.array_equal(optimizer._links, links)
    tell(optimizer, optimizer.ask(50), [99] * 50)
    assert not np.array_equal(optimizer._links, links)
    best = optimizer.swarm[2].argmin()
    particles = {int(id): i for i, id in enumerate(optimizer.swarm[0])}
    for own, attracts in optimizer.ask(50).info["parents"].tolist():
        informed = optimizer._links[particles[own]]
        assert informed[particles[attracts]]
        assert (optimizer.swarm[2][particles[attracts]] <= optimizer.swarm[2][informed]).all()
        assert not informed[best] or optimizer.swarm[2][particles[attracts]] == optimizer.swarm[2][best]


def test_a_particle_without_a_best_place_starts_anew_and_one_with_flies_on():
    optimizer = build(pop_size=2)
    first = optimizer.ask(2)
    tell(optimizer, first, [1.0, np.nan])
    second = optimizer.ask(2)
    assert second.info["parents"].tolist() == [[0, 0], [-1, -1]]
    tell(optimizer, second, [np.nan, 2.0])
    assert optimizer.ask(2).info["parents"].tolist() == [[0, 0], [3, 0]]


def test_integers_fly_by_less_than_one_between_evaluations():
    space = Space({"n": Integer(0, 3, shape=(3,))})
    optimizer = build(space)
    for _ in range(20):
        candidates = optimizer.ask(5)
        assert np.array_equal(candidates.x, space.snap(candidates.x))
        evaluate(optimizer, candidates)
    x = optimizer.swarm[1]
    assert not np.array_equal(x, space.snap(x))


@pytest.mark.parametrize("given", [{}, {"informants": 3}, {"synchronous": True}])
def test_it_finds_what_random_search_finds_with_probability_below_a_millionth(given):
    # The best of N uniform vectors is within r of an inner point of the cube with probability at most N V_d r^d; d = 4
    # (V = pi^2 / 2), N = 1000 and 1e-6 make r^4 = 1e-6 / (500 pi^2).
    for seed in range(2):
        optimizer = ParticleSwarm(SPACE, COST, seed=seed, **given)
        best = np.inf
        while optimizer.n_asked < 1000:
            best = min(best, evaluate(optimizer, optimizer.ask(8)).min())
        assert np.sqrt(best) < (1e-6 / (500 * np.pi**2)) ** 0.25
