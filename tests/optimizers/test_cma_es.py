"""CMAES: the library's own updates; integers that stay alive, restarts, and updates by results of any generation."""

import math
from functools import partial
from types import SimpleNamespace

import cmaes
import numpy as np
import pytest
from scipy.stats import norm

from l2l_dask import Categorical, Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.evaluation import optimizer_rng
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers._cma import Margin, Strategy
from optimizers.cma_es import CMAES, Schedule

COST = Objectives(minimize("cost"))
BOX, FREE = Real(0, 1, shape=(5,)), Real(loc=0, scale=1, shape=(5,))


def build(space, **options):
    space = space if isinstance(space, Space) else Space({"x": space})
    return CMAES(space, COST, **options)


def tell(optimizer, ids, x, cost):
    optimizer.tell(Evaluations(np.array(ids), np.array(x), np.array(cost, dtype=float)[:, None]))


def ellipsoid(x):
    """A convex quadratic with its optimum, 0, at 0.3 in all dimensions."""
    return float((np.arange(1, len(x) + 1) ** 2 * (x - 0.3) ** 2).sum() + 0.5 * (x[0] - 0.3) * (x[-1] - 0.3))


def minimise(optimizer, function, n, in_flight=1):
    """Evaluate ``n`` vectors, one told at random of ``in_flight`` under way; return the vectors and their costs."""
    rng, waiting, vectors, costs = np.random.default_rng(optimizer.seed), [], [], []
    while len(costs) < n and not (optimizer.done and not waiting):
        while len(waiting) < in_flight and len(candidates := optimizer.ask(1)):
            waiting.append(candidates)
        c = waiting.pop(rng.integers(len(waiting)))
        vectors.append(c.x[0])
        costs.append(function(c.x[0]))
        tell(optimizer, c.ids, c.x, costs[-1:])
    return np.array(vectors), np.array(costs)


def draws_of(library, seed):
    """Let the library draw the numbers that the optimizer draws."""
    library._rng = SimpleNamespace(randn=optimizer_rng(seed).standard_normal)
    return library


def weights(size, dim):
    """Return the recombination weights: the tutorial's eq. 49 to 53, the positive half sums to 1."""
    raw = math.log((size + 1) / 2) - np.log(np.arange(1, size + 1))
    return raw[: size // 2] / raw[: size // 2].sum()


@pytest.mark.parametrize("parameter", [BOX, FREE, Real(0, 1), Real(0, 1, shape=(20,))], ids=str)
def test_each_generation_has_the_candidates_mean_sigma_and_covariance_of_the_library_exactly(parameter):
    optimizer = build(parameter, seed=3, synchronous=True, restarts="none")
    dim, bounded = optimizer.space.dim, optimizer.space.bounded[0]
    box = np.array([[0.0, 1.0]] * dim) if bounded else None
    library = draws_of(cmaes.CMA(np.full(dim, 0.5 * bounded), 0.3, bounds=box, n_max_resampling=2), 3)
    for generation in range(40):
        theirs = [library.ask() for _ in range(library.population_size)]
        ours = optimizer.ask(100)
        assert np.array_equal(ours.x, theirs)
        assert set(ours.info["generation"]) == {generation}
        library.tell([(x, ellipsoid(x)) for x in theirs])
        tell(optimizer, ours.ids, ours.x, [ellipsoid(x) for x in ours.x])
        stops = library.should_stop()  # looked at by ours after every fifth update
        assert optimizer.done == (stops and library.generation % 5 == 0)
        state = optimizer.strategy
        state.library._eigen_decomposition()  # which makes C symmetric: theirs did in should_stop
        assert np.array_equal(state.mean, library._mean)
        assert np.array_equal(state.library._C, library._C)
        assert state.sigma == library._sigma
        if optimizer.done:
            break
    assert library.generation > 20


def test_with_a_diagonal_covariance_it_is_the_librarys_separable_one():
    optimizer = build(FREE, seed=4, synchronous=True, separable=True)
    library = draws_of(cmaes.SepCMA(np.zeros(5), 0.3), 4)
    for _ in range(20):
        theirs = [library.ask() for _ in range(library.population_size)]
        ours = optimizer.ask(100)
        assert np.array_equal(ours.x, theirs)
        library.tell([(x, ellipsoid(x)) for x in theirs])
        tell(optimizer, ours.ids, ours.x, [ellipsoid(x) for x in ours.x])
    assert np.array_equal(optimizer.strategy.variances, library._C)


@pytest.mark.parametrize(("dim", "separable"), [(100, False), (101, True)])
def test_above_100_dimensions_the_covariance_is_diagonal(dim, separable):
    assert build(Real(0, 1, shape=(dim,))).strategy.separable == separable


def test_integers_have_the_librarys_margin():
    space = Space({"x": Real(0, 1, shape=(3,)), "n": Integer(0, 9), "b": Integer(0, 1, shape=(2,)), "k": Integer(0, 4)})
    n = space.n_values
    goal = np.array([0.3, 0.7, 0.1, 0.75, 0.25, 0.75, 0.9])

    def cost(x):
        return float((np.arange(1, 8) ** 2 * (x - goal) ** 2).sum())

    low, step = np.where(n > 0, 0.5 / np.maximum(n, 1), 0), np.where(n > 0, 1 / np.maximum(n, 1), 0)
    library = cmaes.CMAwM(np.full(7, 0.5), 0.3, np.stack([low, 1 - low], axis=1), step, n_max_resampling=2)
    draws_of(library._cma, 5)
    optimizer = build(space, seed=5, synchronous=True)
    for _ in range(100):
        theirs = [library.ask() for _ in range(library.population_size)]
        ours = optimizer.ask(100)
        np.testing.assert_allclose(ours.x, [x for x, _ in theirs], rtol=1e-7, atol=1e-10)
        library.tell([(raw, cost(x)) for x, raw in theirs])
        tell(optimizer, ours.ids, ours.x, [cost(x) for x in ours.x])
    np.testing.assert_allclose(optimizer.strategy._margin.factor, library._A[n > 0], rtol=1e-4)
    assert optimizer.strategy._margin.factor.max() > 10  # the integer's own deviation has shrunk; it is the margin's


def test_the_limits_of_a_logarithmic_integers_bins_are_those_of_its_encoding():
    space = Space({"n": Integer(1, 100, log=True), "k": Integer(-3, 4)})
    width = math.log(100.5) - math.log(0.5)
    for value in (1, 2, 50, 99, 100):
        low, up = Margin(space, 0.1).limits(space.encode({"n": value, "k": 0}))
        inner = min(max(value, 2), 99)  # at the ends, the two limits collapse to the one inside
        ends = {1: (1.5, 1.5), 100: (99.5, 99.5)}.get(value, (inner - 0.5, inner + 0.5))
        assert (low[0], up[0]) == pytest.approx([(math.log(e) - math.log(0.5)) / width for e in ends])
        assert (low[1], up[1]) == pytest.approx((3 / 8, 4 / 8))


@pytest.mark.parametrize("integer", [Integer(0, 9), Integer(1, 1000, log=True), Integer(0, 1)], ids=str)
def test_after_convergence_an_integer_still_changes_with_the_margins_probability(integer):
    space = Space({"x": Real(0, 1), "n": integer})
    optimizer = build(space, seed=1, pop_size=8, restarts="none")
    goal = space.encode({"x": 0.3, "n": integer.low + (integer.high - integer.low) // 2})
    minimise(optimizer, lambda x: float(((x - goal) ** 2).sum()), 800)
    state, margin = optimizer.strategy, optimizer.strategy._margin
    own = state.sigma * math.sqrt(state.variances[1])
    low, up = margin.limits(state.mean[1:])
    sd = own * margin.factor
    below, above = norm.cdf(low, state.mean[1:], sd)[0], norm.sf(up, state.mean[1:], sd)[0]
    alpha = 1 / (2 * 8)
    assert state.sigma < 1e-3
    least = alpha / 2 if low[0] < up[0] else alpha
    assert min(below, above) >= least * (1 - 1e-6)


def test_with_one_in_flight_the_asynchronous_one_is_the_textbooks():
    one, other = build(BOX, seed=2), build(BOX, seed=2, synchronous=True)
    assert np.array_equal(minimise(one, ellipsoid, 200)[0], minimise(other, ellipsoid, 200)[0])


def test_the_synchronous_one_waits_for_its_generation_and_the_asynchronous_one_never():
    assert len(build(BOX, synchronous=True).ask(100)) == 8  # 4 + 3 ln 5 = 8.8
    assert len(build(BOX).ask(100)) == 100


def test_late_results_compete_with_the_best_of_the_updates_since():
    """Worked by hand: 24 in flight, lambda 4, so that the best two of up to 24 / 8 = 3 updates compete."""
    optimizer = build(FREE, seed=6, pop_size=4)
    w = weights(4, 5)
    c = optimizer.ask(28)
    cost = np.arange(28.0)
    cost[4:8] = [0.5, 30, 31, 32]  # one of the second batch comes between the two best of the first
    cost[8:12] = 40 + np.arange(4.0)  # the third has none that is better
    x, longest = c.x, math.sqrt(5) + 10 / 7

    def injected(row, before):
        b, d = before["b"], before["d"]
        step = (row - before["mean"]) / before["sigma"]
        length = np.linalg.norm(b.T @ step / d)
        return before["mean"] + before["sigma"] * step * min(1, longest / length)

    def told(which):
        library = optimizer.strategy.library
        b, d = library._eigen_decomposition()
        before = {"mean": library._mean.copy(), "sigma": library._sigma, "b": b, "d": d}
        tell(optimizer, c.ids[which], x[which], cost[which])
        return before

    told(slice(0, 4))
    assert optimizer.strategy.mean == pytest.approx(w @ x[[0, 1]])
    before = told(slice(4, 8))
    assert optimizer.strategy.mean == pytest.approx(w @ [injected(x[i], before) for i in (0, 4)])
    before = told(slice(8, 12))
    assert optimizer.strategy.mean == pytest.approx(w @ [injected(x[i], before) for i in (0, 4)])
    for start in (12, 16, 20):  # 8, 4, 0 in flight: 1, 0 (half, to even), 0 earlier updates compete
        before = told(slice(start, start + 4))
    assert optimizer.strategy.mean == pytest.approx(w @ [injected(x[i], before) for i in (20, 21)])


@pytest.mark.parametrize("separable", [False, True])
def test_a_late_update_is_the_librarys_where_the_candidates_and_the_parents_are_of_the_present_distribution(separable):
    """Then the three steps that it tells apart are one, so that everything must be as the textbook has it."""
    ours, theirs = (Strategy(Space({"x": FREE}), np.zeros(5), 0.3, 8, separable=separable) for _ in range(2))
    rng = np.random.default_rng(0)
    for _ in range(30):
        raw = np.array([ours.draw(rng)[1] for _ in range(8)])
        raw = ours.clipped(raw)
        raw = raw[np.argsort([ellipsoid(x) for x in raw])]
        cost = np.array([ellipsoid(x) for x in raw])
        ours.tell_late(raw[:4], (raw - ours.mean) / ours.sigma, cost)
        theirs.tell(raw, cost)
        ours.library._eigen_decomposition(), theirs.library._eigen_decomposition()
        np.testing.assert_allclose(ours.mean, theirs.mean, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(ours.library._C, theirs.library._C, rtol=1e-7, atol=1e-9)
        assert ours.sigma == pytest.approx(theirs.sigma, rel=1e-9)
        assert ours.generation == theirs.generation


@pytest.mark.parametrize("a", [0.0, 0.7, 1.0])
def test_without_selection_the_step_size_stays_only_by_the_candidates_own_steps(a, monkeypatch):
    """Parents that never change: with a = 1 the path is a random walk of expected length chi_n, else it is too short.

    E log sigma changes by c / d (E|p| / chi_n - 1), with |p| = a chi_n where the parents are at the mean itself. The
    bound is four standard errors: |p| / chi_n deviates by 0.32, and forgets within 2 / c = 4 of the 1000 updates.
    """
    monkeypatch.setattr("optimizers._cma._OF_STEPS", a)
    strategy, rng = Strategy(Space({"x": FREE}), np.zeros(5), 0.3, 8), np.random.default_rng(1)
    parents, lib, n = np.zeros((4, 5)), strategy.library, 1000
    lib._c1 = lib._cmu = 0.0  # of C nothing is to be learned here
    for _ in range(n):
        strategy.tell_late(parents, rng.standard_normal((8, 5)), np.arange(8.0))
    rate = math.log(strategy.sigma / 0.3) / n / (lib._c_sigma / lib._d_sigma)
    assert rate == pytest.approx(a - 1, abs=4 * 0.32 * math.sqrt(4 / n))


def test_steps_of_injected_vectors_are_clipped_to_their_mahalanobis_length():
    strategy = Strategy(Space({"x": FREE}), np.zeros(5), 0.5)
    longest = math.sqrt(5) + 10 / 7
    rows = np.array([[100.0, 0, 0, 0, 0], [0.3, 0.4, 0, 0, 0]])
    np.testing.assert_allclose(strategy.clipped(rows), [[0.5 * longest, 0, 0, 0, 0], rows[1]])


def test_with_32_in_flight_it_is_ahead_of_generations_of_32():
    """After 600 evaluations of an ellipsoid."""
    space, gain = Real(0, 1, shape=(5,)), []
    for seed in range(5):
        ours, theirs = (
            minimise(build(space, seed=seed, **given), ellipsoid, 600, in_flight=32)[1].min()
            for given in ({}, {"synchronous": True, "pop_size": 32})
        )
        gain.append(math.log10(theirs / ours))
    assert np.median(gain) > 1, gain


def test_an_optimum_in_a_corner_is_reached_exactly():
    optimizer = build(Real(0, 1, shape=(4,)), seed=1)
    x, _ = minimise(optimizer, lambda x: float(x.sum()), 400)
    assert x.min() >= 0
    assert x.max() <= 1
    assert (x == 0).all(axis=1).any()


@pytest.mark.parametrize(
    ("given", "size"),
    [({"workers": 32}, 8), ({"workers": 130}, 33), ({"workers": 130, "synchronous": True}, 8)],
    ids=str,
)
def test_no_more_than_four_populations_are_in_flight(given, size):
    assert build(BOX, **given).pop_size == size
    assert build(BOX, pop_size=5, **given).pop_size == 5


def test_ipop_doubles_the_population_and_starts_elsewhere():
    optimizer = build(Real(0, 1, shape=(2,)), seed=3)
    sizes, means, run = [optimizer.strategy.pop_size], [optimizer.strategy.mean.copy()], 0
    while run < 3:
        minimise(optimizer, lambda x: float(((x - 0.3) ** 2).sum()), 1, in_flight=1)
        if optimizer.run > run:
            run = optimizer.run
            sizes.append(optimizer.strategy.pop_size)
            means.append(optimizer.strategy.mean.copy())
    assert sizes == [6, 12, 24, 48]  # 4 + 3 ln 2 = 6.08
    assert len({tuple(m) for m in means}) == 4


def test_bipop_spends_as_much_on_small_populations_as_on_large_ones():
    schedule, rng = Schedule(10, 0.3, bipop=True), np.random.default_rng(0)
    used, spent = 500, {"large": 0, "small": 0}
    large, last = 10, None
    for _ in range(60):
        size, sigma, most = schedule.next(rng, used)
        kind = "large" if most == math.inf else "small"
        if kind == "large":
            large *= 2
            last = used = 50 * size
            assert (size, sigma) == (large, 0.3)
            assert spent["small"] >= spent["large"]
        else:
            assert spent["small"] < spent["large"]
            assert 10 <= size <= large / 2
            assert 0.003 <= sigma <= 0.3
            assert most == last / 2
            used = min(int(most), 50 * size)
        spent[kind] += used
        if large > 1000:
            break
    assert large > 100


def test_without_restarts_it_is_done_when_it_has_converged():
    optimizer = build(Real(0, 1, shape=(2,)), restarts="none")
    costs = minimise(optimizer, lambda x: float(((x - 0.3) ** 2).sum()), 10_000, in_flight=4)[1]
    assert optimizer.done
    assert len(costs) < 3_000
    assert costs.min() < 1e-12


def test_results_of_an_earlier_run_do_not_count_in_the_next():
    optimizer = build(Real(0, 1, shape=(2,)), seed=3)
    old = optimizer.ask(40)
    optimizer._restart()
    tell(optimizer, old.ids, old.x, np.arange(40.0))
    assert optimizer.strategy.generation == 0
    new = optimizer.ask(12)
    tell(optimizer, new.ids, new.x, np.arange(12.0))
    assert optimizer.strategy.generation == 1
    assert optimizer.strategy.mean == pytest.approx(weights(12, 2) @ new.x[:6])


@pytest.mark.parametrize("synchronous", [False, True])
def test_a_failed_evaluation_is_replaced_by_another_draw(synchronous):
    optimizer = build(FREE, seed=1, pop_size=6, synchronous=synchronous)
    first = optimizer.ask(6)
    tell(optimizer, first.ids, first.x, [5, np.nan, 4, 3, np.nan, 2])
    assert optimizer.strategy.generation == 0
    more = optimizer.ask(2)
    assert len(optimizer.ask(1)) == (0 if synchronous else 1)
    tell(optimizer, more.ids, more.x, [1, 6])
    best = np.array([more.x[0], first.x[5], first.x[3]])
    assert optimizer.strategy.mean == pytest.approx(weights(6, 5) @ best)


@pytest.mark.parametrize("synchronous", [False, True])
def test_an_adopted_vector_takes_a_place_and_pulls_the_mean_no_further_than_the_clipped_step(synchronous):
    optimizer = build(FREE, seed=1, pop_size=6, synchronous=synchronous)
    guess = np.full((1, 5), 20.0)
    optimizer.adopt([0], guess)
    c = optimizer.ask(5)
    tell(optimizer, [0, *c.ids], [*guess, *c.x], [0, 1, 2, 3, 4, 5])
    step = 0.3 * (math.sqrt(5) + 10 / 7) * guess[0] / np.linalg.norm(guess)
    assert optimizer.strategy.mean == pytest.approx(weights(6, 5) @ [step, c.x[0], c.x[1]])


def test_a_plateau_neither_stalls_nor_degenerates():
    for space in (BOX, FREE, Space({"n": Integer(0, 1, shape=(3,))})):
        optimizer = build(space, seed=1)
        minimise(optimizer, lambda x: 1.0, 1500, in_flight=3)
        assert np.isfinite(optimizer.ask(3).x).all()
        assert optimizer.run > 0  # no progress is what the library stops at


def test_a_goal_and_a_number_of_updates_end_it():
    costs = minimise(build(BOX, stop_criterion=1e-3), ellipsoid, 5000)[1]
    assert costs[-1] <= 1e-3 < costs[:-1].min()
    assert len(minimise(build(BOX, n_iteration=4, pop_size=10), ellipsoid, 5000)[1]) == 40


def test_categoricals_are_refused_and_others_named():
    with pytest.raises(OptimizerError, match=r"CMAES searches .*'integer'"):
        build(Space({"c": Categorical(["a", "b"])}))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pop_size", 3),
        ("sigma", 0),
        ("restarts", "often"),
        ("separable", 1),
        ("n_iteration", 0),
        ("stop_criterion", "low"),
        ("workers", 0),
    ],
)
def test_an_option_out_of_range_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option}\b.*must be.*$"):
        build(BOX, **{option: value})


@pytest.mark.parametrize(
    "given",
    [{"synchronous": True}, {"pop_size": 4, "restarts": "bipop", "sigma": 1e-4}, {"separable": True, "workers": 30}],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    spaces = {
        "logarithmic": default_spaces()["logarithmic"],
        "unbounded": Space({"w": Real(loc=1.0, scale=5.0), "n": Integer(1, 9)}),
        "conditional": Space({"n": Integer(1, 3), "a": Real(0, 1, when={"n": [2, 3]})}),
    }
    check_optimizer(partial(CMAES, **given), spaces=spaces, evaluations=30)
