"""SurrogateCMAES: an exact model of quadratics, whose optimum it finds at once, with one and with many in flight."""

from functools import partial

import numpy as np
import pytest
from scipy.optimize import lsq_linear
from scipy.stats import kendalltau

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._lq_model import DIAGONAL, FULL, LINEAR, LQModel, coefficients, kendall_tau, stationary
from optimizers._surrogate_archive import Archive, Failures, Frame, positions
from optimizers.cma_es import CMAES
from optimizers.surrogate_cma_es import SurrogateCMAES

COST = Objectives(minimize("cost"))
SPACES = default_spaces()
BOX = Space({"x": Real(0, 1, shape=(5,))})


def told(optimizer, candidates, cost):
    optimizer.tell(Evaluations(candidates.ids, candidates.x, np.array(cost, dtype=float)[:, None]))


def minimise(optimizer, function, n, in_flight=1):
    """Evaluate ``n`` vectors, one told at random of ``in_flight`` under way; return the vectors and the costs."""
    rng, waiting, x, costs = np.random.default_rng(optimizer.seed), [], [], []
    while len(costs) < n:
        while len(waiting) < in_flight and len(costs) + len(waiting) < n:
            candidates = optimizer.ask(1)
            if not len(candidates):
                break
            waiting.append(candidates)
        c = waiting.pop(rng.integers(len(waiting)))
        x.append(c.x[0])
        costs.append(function(c.x[0]))
        told(optimizer, c, costs[-1:])
    return np.array(x), np.array(costs)


def until(costs, target):
    """Return the number of evaluations until ``target`` is reached."""
    assert (costs <= target).any(), costs.min()
    return 1 + int(np.argmax(costs <= target))


def ellipsoid(n=5, conditioning=1e4):
    """Return a rotated, convex quadratic function with its optimum 0 at a point within [0.3, 0.7]^n, and this."""
    rng = np.random.default_rng(n)
    rotation = np.linalg.qr(rng.standard_normal((n, n)))[0]
    hessian = (rotation * conditioning ** np.linspace(0, 1, n)) @ rotation.T
    optimum = rng.uniform(0.3, 0.7, n)
    return lambda x: float((x - optimum) @ hessian @ (x - optimum)), optimum


# The model


def test_the_full_model_has_the_value_gradient_and_hessian_of_a_quadratic():
    rng = np.random.default_rng(1)
    a = rng.standard_normal((4, 4))
    hessian, slope, constant = a + a.T, rng.standard_normal(4), 7.0
    z = rng.standard_normal((20, 4))
    f = constant + z @ slope + 0.5 * np.einsum("ki,ij,kj->k", z, hessian, z)
    best = np.argsort(f)
    model = LQModel(z[best], f[best], FULL)
    assert model.hessian == pytest.approx(hessian, abs=1e-8)
    assert model.gradient == pytest.approx(slope + hessian @ z[best[0]], abs=1e-8)  # at the best point
    new = rng.standard_normal((3, 4))
    expected = constant + new @ slope + 0.5 * np.einsum("ki,ij,kj->k", new, hessian, new)
    assert model.predict(new) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("kind", [LINEAR, DIAGONAL])
def test_the_smaller_models_are_exact_for_what_they_can_express(kind):
    rng = np.random.default_rng(2)
    z = rng.standard_normal((12, 3))
    curvature = np.array([1.0, 20.0, 3.0]) * (kind == DIAGONAL)
    f = z @ [1.0, -2.0, 3.0] + 0.5 * (z**2) @ curvature
    best = np.argsort(f)
    model = LQModel(z[best], f[best], kind)
    assert model.gradient == pytest.approx([1.0, -2.0, 3.0] + curvature * z[best[0]], abs=1e-8)
    assert model.curvature == pytest.approx(curvature, abs=1e-7)
    assert len(model.beta) == coefficients(3)[kind] == (4, 7, 10)[kind]


def test_the_fit_minimises_squares_weighted_by_20_for_the_best_to_1_for_the_worst():
    rng = np.random.default_rng(3)
    z, f = rng.standard_normal((9, 2)), np.sort(rng.standard_normal(9))
    design = np.column_stack([np.ones(9), z])
    w = np.linspace(20, 1, 9)
    expected = lsq_linear(design * w[:, None], f * w).x
    assert LQModel(z, f, LINEAR).predict(np.zeros((1, 2)))[0] == pytest.approx(expected[0])
    assert LQModel(z, f, LINEAR).gradient == pytest.approx(expected[1:])


def test_a_left_out_point_is_predicted_as_by_a_fit_without_it():
    rng = np.random.default_rng(4)
    z, f = rng.standard_normal((15, 2)), np.sort(rng.standard_normal(15))
    model = LQModel(z, f, DIAGONAL)
    design, w = np.column_stack([np.ones(15), z, z**2]), np.linspace(20, 1, 15)
    for i in (0, 7, 14):
        kept = np.arange(15) != i
        beta = np.linalg.lstsq(design[kept] * w[kept, None], (f * w)[kept], rcond=None)[0]
        assert model.left_out(np.array([i]))[0] == pytest.approx(design[i] @ beta)


def test_data_that_do_not_determine_the_model_still_give_one_that_fits_them():
    z = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]])  # says nothing of the second dimension
    model = LQModel(z, np.array([0.0, 1.0, 2.0]), LINEAR)
    assert model.gradient == pytest.approx([1.0, 0.0], abs=1e-6)
    assert LQModel(np.zeros((3, 2)), np.ones(3), LINEAR).predict(np.zeros((1, 2))) == pytest.approx([1.0])


def test_kendalls_tau_is_scipys():
    rng = np.random.default_rng(5)
    for n in (3, 10, 30):
        a, b = rng.standard_normal(n), rng.integers(0, 5, n).astype(float)  # with ties
        assert kendall_tau(a, b) == pytest.approx(kendalltau(a, b).statistic)
    assert kendall_tau(a, a**3) == pytest.approx(1)
    assert kendall_tau(a, np.ones(n)) == 0


def test_the_optimum_of_the_model_is_that_of_a_bounded_least_squares_solver():
    rng = np.random.default_rng(6)
    held = equal = 0
    for _ in range(20):
        a, b = np.eye(4) + 0.2 * rng.standard_normal((4, 4)), 1.5 * rng.standard_normal(4)
        reference = lsq_linear(a, b, bounds=(0, 1)).x
        x = np.full(4, 0.5)
        found = stationary(x, a.T @ (a @ x - b), a.T @ a, np.ones(4, dtype=bool))
        assert ((found > -1e-12) & (found < 1 + 1e-12)).all()
        held += ((found < 1e-9) | (found > 1 - 1e-9)).any()
        best, start, ours = (np.sum((a @ y - b) ** 2) for y in (reference, x, found))
        assert ours - best <= 0.1 * (start - best) + 1e-12  # elements are never released again
        equal += ours - best < 1e-9
    assert held > 5
    assert equal > 10  # of 20
    free = stationary(x, a.T @ (a @ x - b), a.T @ a, np.zeros(4, dtype=bool))
    assert free == pytest.approx(np.linalg.solve(a, b))


# What is remembered


def test_the_archive_keeps_the_last_results_and_the_best_of_all():
    archive = Archive(1, 100)
    for i in range(1000):
        archive.add(np.array([float(i)]), np.array([-float(i)]), float(abs(i - 300)))
    assert archive.x[:, 0].tolist() == list(range(900, 1000))
    assert archive.raw[:, 0].tolist() == [-i for i in range(900, 1000)]
    assert archive.cost.tolist() == [abs(i - 300) for i in range(900, 1000)]
    assert (archive.added, archive.forgotten, archive.best[0]) == (1000, 900, 0.0)
    assert archive.best[1].tolist() == [-300.0]
    assert max(len(a) for a in (archive._x, archive._raw, archive._cost)) <= 200


def test_the_nearest_are_those_of_least_mahalanobis_distance():
    optimizer = SurrogateCMAES(BOX, COST, seed=1)
    minimise(optimizer, ellipsoid()[0], 80)
    frame, archive, c = Frame(optimizer.strategy), optimizer._archive, optimizer.strategy.library
    difference = archive.x - c._mean
    distance = np.sqrt(np.einsum("ki,ij,kj->k", difference, np.linalg.inv(c._sigma**2 * c._C), difference))
    which, z = archive.nearest(frame, 10)
    assert set(which.tolist()) == set(np.argsort(distance)[:10].tolist())
    assert np.sqrt((z**2).sum(axis=1)) == pytest.approx(distance[which], rel=1e-6)
    assert (np.diff(archive.cost[which]) >= 0).all()
    assert frame.coloured(z) == pytest.approx(archive.x[which])
    assert positions(np.array([which[3], -5, which[0]]), which).tolist() == [3, -1, 0]


def test_gradient_and_hessian_follow_the_chain_rule():
    optimizer = SurrogateCMAES(BOX, COST, seed=1)
    minimise(optimizer, ellipsoid()[0], 60)
    frame = Frame(optimizer.strategy)
    jacobian = (frame.white(np.eye(5)) - frame.white(np.zeros((1, 5)))).T  # dz / dx
    g, h = np.arange(5.0), np.diag(np.arange(1.0, 6.0))
    assert frame.gradient(g) == pytest.approx(jacobian.T @ g)
    assert frame.hessian(h) == pytest.approx(jacobian.T @ h @ jacobian)


# The search


def test_a_quadratic_is_solved_soon_after_the_full_model_is_determined():
    # 21 coefficients, 1.5 times as many points: 32 evaluations. Then the model is exact, and each step to its optimum
    # goes at least as far as the longest of a few draws: 30 more are ample, and plain CMA-ES needs ten times as many.
    function, optimum = ellipsoid()
    x, costs = minimise(SurrogateCMAES(BOX, COST, seed=1), function, 80)
    assert until(costs, 1e-8) <= 62
    assert x[np.argmin(costs)] == pytest.approx(optimum, abs=1e-4)


@pytest.mark.parametrize("seed", [1, 2])
def test_it_needs_less_than_a_third_of_the_evaluations_of_cma_es(seed):
    function, _ = ellipsoid()
    _, plain = minimise(CMAES(BOX, COST, seed=seed), function, 450)
    _, ours = minimise(SurrogateCMAES(BOX, COST, seed=seed), function, 150)
    assert until(ours, 1e-8) <= 150 < 450 < (until(plain, 1e-8) if plain.min() <= 1e-8 else np.inf)


def test_with_32_in_flight_it_solves_a_quadratic_within_a_few_rounds_more():
    function, _ = ellipsoid()
    _, costs = minimise(SurrogateCMAES(BOX, COST, seed=1), function, 320, in_flight=32)
    assert until(costs, 1e-8) <= 320  # 32 to start with, and 9 times 32 results


def test_an_optimum_in_a_corner_of_the_box_is_met_exactly():
    slope = np.array([-3.0, 1.0, -0.1, 2.0, 0.5])
    _, costs = minimise(SurrogateCMAES(BOX, COST, seed=1), lambda x: float(x @ slope), 40)
    assert costs.min() == pytest.approx(slope[slope < 0].sum(), abs=1e-12)


def test_by_generations_it_awaits_the_best_by_the_model_and_solves_a_quadratic_too():
    optimizer = SurrogateCMAES(BOX, COST, seed=1, synchronous=True)
    assert not optimizer.asynchronous
    first = optimizer.ask(8)
    assert len(first) == 4  # 1, and as many as the model needs to be fitted
    assert len(optimizer.ask(1)) == 0
    function, _ = ellipsoid()
    told(optimizer, first, [function(x) for x in first.x])
    _, costs = minimise(optimizer, function, 120, in_flight=32)
    assert until(costs, 1e-8) <= 120


def test_by_generations_a_model_that_is_never_trusted_leaves_plain_cma_es():
    optimizer = SurrogateCMAES(BOX, COST, seed=1, synchronous=True, tau=1.0)
    rng = np.random.default_rng(1)
    minimise(optimizer, lambda _: rng.standard_normal(), 80)
    assert optimizer.generation == 10  # 8 results for each


def test_noise_is_survived():
    function, optimum = ellipsoid(conditioning=10)
    rng = np.random.default_rng(1)
    x, _ = minimise(SurrogateCMAES(BOX, COST, seed=1), lambda x: function(x) + 0.01 * rng.standard_normal(), 300)
    # The mean of 40 draws at random is 0.5 away from the optimum; at a distance of 0.1 the noise is that of the cost.
    assert np.linalg.norm(x[-40:].mean(axis=0) - optimum) < 0.15


@pytest.mark.parametrize("synchronous", [False, True])
def test_every_second_failure_costs_little_more_than_itself(synchronous):
    function, _ = ellipsoid(3, 100)
    optimizer = SurrogateCMAES(Space({"x": Real(0, 1, shape=(3,))}), COST, seed=1, synchronous=synchronous)
    _, costs = minimise(optimizer, lambda x: np.nan if optimizer.n_asked % 2 else function(x), 250)
    assert np.nanmin(costs) < 1e-6


@pytest.mark.parametrize("in_flight", [1, 16])
def test_an_optimum_at_the_edge_of_a_region_where_it_fails_is_found_and_no_twenty_fail_in_a_row(in_flight):
    def cliff(x):
        return np.nan if x[0] > 0.5 else -x[0] + (x[1] - 0.3) ** 2 + (x[2] - 0.6) ** 2

    bests = []
    for seed in range(3):
        optimizer = SurrogateCMAES(Space({"x": Real(0, 1, shape=(3,))}), COST, seed=seed)
        _, costs = minimise(optimizer, cliff, 300, in_flight)
        bests.append(np.nanmin(costs))
        row = "".join("x" if np.isnan(cost) else " " for cost in costs)
        assert max(map(len, row.split())) < 20  # where a search gives up by default
    # Of -0.5. Of 150 random successes 1 in 150 is expected where x[0] > 0.5 - t, t > (x[1] - .3)^2 + (x[2] - .6)^2:
    # the volume of that is 2 (pi / 2) t^2 = 1 / 150, t = 0.046.
    assert np.median(bests) < -0.5 + 0.046 / 2


def test_failure_is_likely_by_the_distances_to_the_nearest_failure_and_success():
    frame = Frame(SurrogateCMAES(Space({"x": Real(0, 1, shape=(2,))}), COST, sigma=0.25).strategy)
    failures = Failures()
    failures.note(np.array([1.0, 0.0]), failed=True)
    x = np.array([[0.25, 0.0], [0.5, 0.0], [1.0, 0.0], [0.0, 0.0]])
    likely = failures.likely(frame, x, np.array([[0.0, 0.0], [-5.0, 0.0]]))
    assert likely == pytest.approx([0.25, 0.5, 1.0, 0.0])


def test_failures_follow_places_where_neighbours_share_their_fate_and_not_where_they_alternate():
    frame = Frame(SurrogateCMAES(BOX, COST).strategy)
    by_half, by_turns = Failures(), Failures()
    for i in range(40):
        by_half.note(np.full(5, i / 40), failed=i >= 20)
        by_turns.note(np.full(5, i / 40), failed=i % 2 == 1)
    assert by_half.follow_places(frame)
    assert not by_turns.follow_places(frame)
    assert not Failures().follow_places(frame)


def test_integers_are_found_and_vectors_of_integers_only_are_not_asked_twice():
    space = Space({"n": Integer(0, 20, shape=(3,))})
    x, costs = minimise(
        SurrogateCMAES(space, COST, seed=1), lambda x: float(((21 * x - 4.5) ** 2).sum()), 60, in_flight=4
    )
    assert costs.min() == 0  # the middle of the bin of 4
    assert len({row.tobytes() for row in x}) == 60
    mixed = Space({"n": Integer(1, 9), "x": Real(0, 1)})
    _, costs = minimise(
        SurrogateCMAES(mixed, COST, seed=1), lambda x: 10 * (9 * x[0] - 6.5) ** 2 + (x[1] - 0.2) ** 2, 80
    )
    assert costs.min() < 1e-6


def test_unbounded_parameters_are_followed_wherever_they_go():
    space = Space({"w": Real(loc=0, scale=1, shape=(3,))})
    _, costs = minimise(SurrogateCMAES(space, COST, seed=1), lambda x: float(((x - 50) ** 2).sum()), 150)
    assert costs.min() < 1e-8


def test_a_run_that_has_converged_is_followed_by_one_of_twice_the_population():
    optimizer = SurrogateCMAES(Space({"x": Real(0, 1, shape=(2,))}), COST, seed=1)
    minimise(optimizer, lambda x: float(((x - 0.3) ** 2).sum()), 300)
    assert optimizer.run >= 1
    assert optimizer.pop_size == 6 * 2**optimizer.run
    once = SurrogateCMAES(Space({"x": Real(0, 1, shape=(2,))}), COST, seed=1, restarts=False)
    while not once.done:
        c = once.ask(1)
        told(once, c, [float(((c.x[0] - 0.3) ** 2).sum())])
    assert once.n_asked < 300


def test_it_is_done_at_the_fitness_or_after_the_updates_that_were_wanted():
    optimizer = SurrogateCMAES(BOX, Objectives(minimize("cost")), seed=1, stop_criterion=0.5)
    _, costs = minimise(optimizer, lambda x: float(len(x) - 0.1 * optimizer.n_asked), 45)
    assert optimizer.done
    assert costs[-1] == pytest.approx(0.5)
    few = SurrogateCMAES(BOX, COST, seed=1, n_iteration=2)
    while not few.done:
        c = few.ask(1)
        told(few, c, [float(c.x.sum())])
    assert few.generation == 2


@pytest.mark.parametrize("given", [{"synchronous": True}, {"pop_size": 4, "restarts": False, "tau": 0.0}], ids=str)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(SurrogateCMAES, **given), spaces={"logarithmic": SPACES["logarithmic"]}, evaluations=40)


@pytest.mark.parametrize(
    ("option", "value"),
    [("pop_size", 3), ("sigma", 0), ("tau", 1.1), ("restarts", 2), ("synchronous", "no"), ("n_iteration", 0)],
)
def test_a_bad_option_is_refused(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option} must be .* got"):
        SurrogateCMAES(BOX, COST, **{option: value})


def test_categoricals_are_refused_as_no_quadratic_is_true_of_them():
    with pytest.raises(OptimizerError, match="categorical"):
        SurrogateCMAES(Space({"x": Real(0, 1), "c": Categorical(["a", "b"])}), COST)
