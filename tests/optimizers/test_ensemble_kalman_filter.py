"""EnsembleKalmanFilter: small cases by hand, Kalman's posterior with many members, and late results."""

from functools import partial

import numpy as np
import pytest

from l2l_dask import Evaluations, Integer, Objectives, Real, Space, minimize
from l2l_dask.errors import OptimizerError
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import default_spaces
from optimizers.ensemble_kalman_filter import EnsembleKalmanFilter, analysis

COST = Objectives(minimize("misfit"))
LINE = Space({"w": Real()})
OUTPUTS = {"observation": lambda x: np.array([x.sum(), x[0]]), "target": lambda x: np.array([0.9, 0.3])}
SPACES = {name: default_spaces()[name] for name in ("real", "logarithmic", "integer")}
SPACES["weights"] = Space({"w": Real(loc=1.0, scale=5.0, shape=(3,))})


def tell(optimizer, ids, x, observations, cost=None, **outputs):
    """Tell results; an observation of None is a failure."""
    failed = [g is None for g in observations]
    cost = np.where(failed, np.nan, np.zeros(len(failed)) if cost is None else cost)
    outputs = {"observation": observations} | outputs
    optimizer.tell(Evaluations(np.array(ids), np.array(x, dtype=float), cost[:, None], outputs))


def members(optimizer, u):
    """Hand over an ensemble instead of a random one."""
    ids = list(range(optimizer.n_asked, optimizer.n_asked + len(u)))
    optimizer.adopt(ids, u)
    return ids


def test_two_members_and_one_observation_move_as_computed_by_hand():
    # Means 1 and 2, C_pp = (4 + 4)/2 = 4, C_up = (2 + 2)/2 = 2, so the gain is 2 / (4 + 1) = 0.4.
    u = np.array([[0.0], [2.0]])
    optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=2, gamma=1.0, target=[3.0])
    tell(optimizer, members(optimizer, u), u, [np.array([0.0]), np.array([4.0])])
    asked = optimizer.ask(2)
    assert asked.x[:, 0] == pytest.approx([0.0 + 0.4 * 3.0, 2.0 - 0.4 * 1.0])
    assert asked.info["parents"].tolist() == [0, 1]
    assert optimizer.iteration == 1


def test_three_members_and_two_observations_move_as_computed_by_hand():
    # C_pp = diag(2, 6) / 3, C_up = (3, 9) / 3; with gamma = 1/3 the gain is (1 / 1, 3 / (7/3)).
    u, g = np.array([[0.0], [-3.0], [3.0]]), np.array([[-1.0, 1.0], [0.0, -2.0], [1.0, 1.0]])
    optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=3, gamma=1 / 3)
    tell(optimizer, members(optimizer, u), u, list(g), target=[np.array([1.0, 5.0])] * 3)
    expected = [0 + 1 * 2 + 9 / 7 * 4, -3 + 1 * 1 + 9 / 7 * 7, 3 + 1 * 0 + 9 / 7 * 4]
    assert optimizer.ask(3).x[:, 0] == pytest.approx(expected)


def test_more_observations_than_members_and_fewer_are_the_formula():
    rng = np.random.default_rng(0)
    for members_, numbers in ((4, 7), (7, 4), (5, 5)):
        u, g, y = (rng.standard_normal((members_, n)) for n in (3, numbers, numbers))
        c = np.cov(u.T, g.T, bias=True)
        gain = c[:3, 3:] @ np.linalg.inv(c[3:, 3:] + 0.3 * np.eye(numbers))
        assert analysis(u, g, y, 0.3) == pytest.approx(u + (y - g) @ gain.T)


@pytest.mark.parametrize(("size", "gamma", "numbers"), [(1e200, 0.5, 3), (1e6, 1e-8, 200), (1e8, 1e-300, 50)])
def test_large_observations_and_little_noise_move_the_members_to_where_the_target_is_met(size, gamma, numbers):
    rng = np.random.default_rng(0)
    u, model = rng.standard_normal((20, 2)), size * rng.standard_normal((2, numbers))
    met = np.array([0.3, -0.2])
    assert analysis(u, u @ model, np.tile(met @ model, (20, 1)), gamma) == pytest.approx(np.tile(met, (20, 1)))


def test_members_that_all_observe_the_same_stay():
    u = np.array([[0.0], [1.0]])
    assert analysis(u, np.ones((2, 3)), np.zeros((2, 3)), 0.5).tolist() == u.tolist()


def linear(dim, numbers, seed=1):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((numbers, dim)) / np.sqrt(dim), rng.standard_normal(numbers)


@pytest.mark.parametrize(("perturbed", "n_batches"), [(False, 1), (True, 1), (True, 2)])
def test_many_members_of_a_linear_model_have_kalmans_posterior(perturbed, n_batches):
    # Prior N(0, 1), y = A u + noise of variance gamma: K = A' S^-1, S = A A' + gamma, posterior mean K y, covariance
    # I - K A. A sample of J has a mean m and a covariance I + D; to first order the ensemble's mean is off by
    # (I - K A)(D w + m), w = A' S^-1 y, where cov(D w) = (|w|^2 I + w w')/J and cov(m) = I/J; and by K eta, of variance
    # gamma K K'/J, if perturbed.
    # Cut into batches the posterior is the same if perturbed; if not, the second meets an ensemble that is too narrow.
    n, dim, numbers, gamma = 4000, 4, 3, 0.4
    a, y = linear(dim, numbers)
    a[2] = a[0] + 0.3 * a[2]  # so that the second batch tells much of what the first told
    space = Space({"w": Real(shape=(dim,))})
    given = {"pop_size": n, "gamma": gamma, "target": y.tolist(), "perturbed": perturbed, "n_batches": n_batches}
    optimizer = EnsembleKalmanFilter(space, COST, seed=1, **given)
    asked = optimizer.ask(n)
    tell(optimizer, asked.ids, asked.x, list(asked.x @ a.T))
    moved = optimizer.ensemble
    inverse = np.linalg.inv(a @ a.T + gamma * np.eye(numbers))
    k, w = a.T @ inverse, a.T @ inverse @ y
    left = np.eye(dim) - k @ a
    spread = left @ ((1 + w @ w) * np.eye(dim) + np.outer(w, w)) @ left.T + perturbed * gamma * k @ k.T
    assert (np.abs(moved.mean(axis=0) - k @ y) < 4.5 * np.sqrt(np.diag(spread) / n)).all()
    # A sample variance has the standard deviation sqrt(2/J); that of the gain at most doubles it.
    expected = np.diag(left if perturbed else left @ left.T)
    assert (np.abs(moved.var(axis=0) / expected - 1) < 4.5 * 2 * np.sqrt(2 / n)).all()


def run(optimizer, a, n, in_flight):
    """Evaluate a linear model, results in random order; return the ensemble's mean misfit."""
    rng, flying = np.random.default_rng(0), []
    while optimizer.n_asked < n or flying:
        while len(flying) < in_flight and optimizer.n_asked < n:
            c = optimizer.ask(1)
            if not len(c):
                break
            flying.append(c)
        c = flying.pop(rng.integers(len(flying)))
        tell(optimizer, c.ids, c.x, [a @ c.x[0] if c.ids[0] % 10 else None])


@pytest.mark.parametrize("in_flight", [1, 25, 120])
def test_late_results_and_failures_lead_to_the_misfit_that_the_textbook_reaches(in_flight):
    # Every tenth fails, and there are up to more in flight than members. Of the misfit of the prior's mean, 0, the
    # synchronous ensemble leaves less than a tenth, and the others not twice that.
    a, y = linear(315, 20)
    space = Space({"w": Real(shape=(315,))})
    given = {"pop_size": 60, "gamma": 0.05, "target": (3 * y).tolist()}
    misfits = []
    for synchronous in (True, False):
        optimizer = EnsembleKalmanFilter(space, COST, synchronous=synchronous, **given)
        run(optimizer, a, 900, 1 if synchronous else in_flight)
        misfits.append(np.linalg.norm(a @ optimizer.ensemble.mean(axis=0) - 3 * y) / np.linalg.norm(3 * y))
    assert misfits[0] < 0.1
    assert misfits[1] < 2 * misfits[0]


def test_one_after_the_other_it_is_the_textbooks_whether_it_waits_or_not():
    a, y = linear(5, 3)
    asked = []
    for synchronous in (True, False):
        space = Space({"w": Real(shape=(5,))})
        optimizer = EnsembleKalmanFilter(space, COST, pop_size=8, target=y.tolist(), synchronous=synchronous)
        asked.append([])
        for _ in range(40):
            c = optimizer.ask(1)
            asked[-1].append(c.x[0])
            tell(optimizer, c.ids, c.x, [a @ c.x[0]])
    assert np.array_equal(*asked)


def test_a_failed_member_is_replaced_by_a_draw_around_the_ensemble():
    optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=5, target=[0.0], synchronous=True)
    asked = optimizer.ask(9)
    assert len(asked) == 5
    assert len(optimizer.ask(1)) == 0
    observations = [*asked.x[:3], None, None]
    tell(optimizer, asked.ids, asked.x, observations)
    again = optimizer.ask(9)
    assert again.info["parents"].tolist() == [0, 1, 2, -1, -1]
    assert np.isfinite(again.x).all()
    assert len(set(again.x[:, 0].tolist())) == 5


def test_an_observation_that_is_not_finite_is_a_failure():
    optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=2, target=[0.0])
    asked = optimizer.ask(3)
    tell(optimizer, asked.ids, asked.x, [np.array([1.0]), np.array([np.inf]), np.array([2.0])])
    assert optimizer.ask(2).info["parents"].tolist() == [0, 2]


def test_the_worst_are_replaced_by_the_best_with_noise():
    u = np.arange(10.0)[:, None]
    optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=10, gamma=1e12, target=[0.0], n_worst=0.2)
    tell(optimizer, members(optimizer, u), u, list(u), cost=np.abs(u[:, 0] - 4.2))
    moved = optimizer.ensemble[:, 0]
    # A gamma that large moves nobody. 9 and 8 are worst (4.8, 3.8 ties with 0's 4.2: 0), 4 and 5 the best.
    assert moved[1:9] == pytest.approx(u[1:9, 0], abs=1e-6)
    sd = u.std()
    assert 0 < abs(moved[9] - 4) < 4.5 * sd
    assert 0 < abs(moved[0] - 5) < 4.5 * sd


def test_members_are_reflected_at_bounds():
    space = Space({"a": Real(0, 1), "n": Integer(0, 3)})
    optimizer = EnsembleKalmanFilter(space, COST, pop_size=2, gamma=1e-9, target=[3.3])
    u = np.array([[0.1, 0.125], [0.9, 0.875]])
    tell(optimizer, members(optimizer, u), u, list(u[:, :1]))
    asked = optimizer.ask(2).x
    assert asked[:, 0] == pytest.approx([0.7, 0.7], abs=1e-6)  # 3.3, folded at 3, at 2 and at 1
    assert set(asked[:, 1].tolist()) <= {0.125, 0.375, 0.625, 0.875}


def test_the_target_is_a_list_a_file_or_what_the_optimizee_saves(tmp_path):
    np.save(tmp_path / "target.npy", np.array([[3.0]]))
    u, g = np.array([[0.0], [2.0]]), [np.array([0.0]), np.array([4.0])]
    for target in ([3.0], str(tmp_path / "target.npy"), None):
        optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=2, gamma=1.0, target=target)
        assert optimizer.needs == (("observation", "target") if target is None else ("observation",))
        tell(optimizer, members(optimizer, u), u, g, **({} if target else {"target": [np.array([3.0])] * 2}))
        assert optimizer.ask(2).x[:, 0] == pytest.approx([1.2, 1.6])


def test_an_observation_of_another_length_than_the_target_is_an_error_in_one_line():
    optimizer = EnsembleKalmanFilter(LINE, COST, target=[1.0, 2.0])
    asked = optimizer.ask(1)
    with pytest.raises(
        OptimizerError, match=r"^target has 2 numbers, expected as many as the observation, which has 3$"
    ):
        tell(optimizer, asked.ids, asked.x, [np.zeros(3)])


def test_it_is_done_after_its_iterations_or_at_its_goal():
    optimizer = EnsembleKalmanFilter(LINE, COST, pop_size=2, target=[0.0], n_iteration=2)
    for done in (False, True):
        asked = optimizer.ask(2)
        tell(optimizer, asked.ids, asked.x, list(asked.x))
        assert optimizer.done == done
    optimizer = EnsembleKalmanFilter(LINE, COST, target=[0.0], stop_criterion=0.5)
    asked = optimizer.ask(2)
    tell(optimizer, asked.ids[:1], asked.x[:1], [asked.x[0]], cost=[0.6])
    assert not optimizer.done
    tell(optimizer, asked.ids[1:], asked.x[1:], [asked.x[1]], cost=[0.5])
    assert optimizer.done


@pytest.mark.parametrize(
    "given",
    [
        {"pop_size": 10},
        {"pop_size": 7, "synchronous": True, "n_worst": 0.3, "perturbed": True, "target": [0.5, 0.5]},
        {"pop_size": 2, "n_batches": 2, "maxit": 2, "n_iteration": 4},
    ],
    ids=str,
)
def test_it_keeps_the_contract_with_other_options(given):
    check_optimizer(partial(EnsembleKalmanFilter, **given), spaces=SPACES, evaluations=40, outputs=OUTPUTS)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("pop_size", 1),
        ("gamma", 0),
        ("target", "nowhere.npy"),
        ("target", []),
        ("target", ["a"]),
        ("target", [float("nan")]),
        ("n_batches", 0),
        ("maxit", 0),
        ("n_worst", 1.0),
        ("n_iteration", 0),
        ("stop_criterion", "low"),
    ],
)
def test_a_bad_option_is_refused_in_one_line_that_names_it(option, value):
    with pytest.raises(OptimizerError, match=rf"^{option}\b.*must be.*$"):
        EnsembleKalmanFilter(LINE, COST, **{option: value})
