"""The space of an optimizee of the original L2L: found out, or given, and what optimizers make of it."""

import random

import numpy as np
import pytest

from l2l_dask import Integer, Real, Space, minimize, registry
from l2l_dask.errors import PluginError
from l2l_dask.evaluating import Where, evaluate_all
from l2l_dask.evaluation import Candidate, Evaluations, Objectives, Status
from l2l_dask.optimizee import Context
from l2l_dask.testing import check_optimizee
from optimizees import L2LTrajectory, from_l2l

OPTIMIZERS = registry.names("optimizers")


class Original:
    """What the base class of the original does, and no more."""

    def __init__(self, traj):
        traj.f_add_parameter_group("individual", "Contains parameters of the optimizee")

    def bounding_func(self, individual):
        return individual

    def simulate_(self, traj):
        return self.simulate(traj)


class Scalars(Original):
    """Two numbers, clipped; the fitness is the smaller the better."""

    def __init__(self, traj):
        super().__init__(traj)
        self.ind_idx, self.generation = traj.individual.ind_idx, traj.individual.generation
        self.random_state = np.random.RandomState(seed=np.uint32(7))
        for key, value in self.create_individual().items():
            traj.individual.f_add_parameter(key, value)
        traj.individual.f_add_parameter("seed", 7)

    def create_individual(self):
        return {"tau": self.random_state.rand() * 9 + 1, "gain": self.random_state.uniform(-2, 2)}

    def bounding_func(self, individual):
        return {"tau": np.clip(individual["tau"], 1.0, 10.0), "gain": max(-2.0, min(2.0, individual["gain"]))}

    def simulate(self, traj):
        self.ind_idx, self.generation = traj.individual.ind_idx, traj.individual.generation
        return (abs(traj.individual.tau - 3.0) + traj.individual.gain**2,)


class Arrays(Original):
    """A network's weights and delays, as one of the original's use cases has them, and no bounds for two others."""

    def create_individual(self):
        return {
            "weights": np.random.uniform(-20, 20, 4),
            "delays": np.random.randint(1, 7, 3),
            "free": np.random.normal(5.0, 2.0, (2, 2)),
            "mixed": [random.uniform(0, 1), random.uniform(0, 1000)],
        }

    def bounding_func(self, individual):
        return {
            "weights": np.clip(individual["weights"], -20, 20),
            "delays": np.clip(individual["delays"], 1.0, 7.0),
            "free": individual["free"],
            "mixed": np.clip(individual["mixed"], [0, 0], [1, 1000]),
        }

    def simulate(self, traj):
        ind = traj.individual
        assert ind.weights.shape == (4,)
        assert ind.free.shape == (2, 2)
        assert ind.mixed.shape == (2,)
        assert (ind.delays == np.rint(ind.delays)).all()
        return -float(np.abs(ind.weights).sum() + ind.delays.sum() + np.abs(ind.free).sum() + ind.mixed[1] / 100)


class Integers(Original):
    """Integers by their type, by rounding, and by their type without bounds; positions in a circle, which have none."""

    def create_individual(self):
        return {"n": 3, "m": 2.0, "free": 40, "angle": random.uniform(0, 6), "above": random.uniform(0, 6)}

    def bounding_func(self, individual):
        return {
            "n": int(min(max(individual["n"], 1), 8)),
            "m": float(np.round(np.clip(individual["m"], 0.5, 4.2))),
            "free": individual["free"],
            "angle": individual["angle"] % (2 * np.pi),
            "above": max(0.0, individual["above"]),
        }

    def simulate(self, traj):
        ind = traj.individual
        assert isinstance(ind.n, int)
        assert isinstance(ind.free, int)
        assert float(ind.m).is_integer()
        assert 0 <= ind.angle <= 2 * np.pi
        assert ind.above >= 0
        return ind.n + ind.m - abs(ind.free - 40) + np.sin(ind.angle) - ind.above


class Unbounded:
    """No base class and no bounding_func; two fitnesses."""

    def create_individual(self):
        return {"x": np.float64(np.random.normal(100.0, 5.0)), "y": np.random.normal(0.0, 0.01)}

    def simulate(self, traj):
        return ((traj.individual.x - 104.0) ** 2, traj.individual["y"])


MADE = [Scalars(L2LTrajectory()), Arrays(L2LTrajectory()), Integers(L2LTrajectory()), Unbounded()]


def evaluated(problem, params=None, seed=1, **more):
    context = Context(Candidate(0, problem.space.decode(np.full(problem.space.dim, 0.4)), seed, **more))
    return Objectives(problem.objectives).parse(problem.evaluate(params or context.candidate.params, context)), context


def problem_of(original, **options):
    weights = (1.0, -1.0) if isinstance(original, Unbounded) else None
    return from_l2l(original, **{"weights": weights} | options)


@pytest.mark.parametrize("original", MADE, ids=lambda original: type(original).__name__)
def test_every_optimizer_that_can_search_the_space_goes_on_with_what_it_is_told(original):
    problem, tried = problem_of(original), []
    for name in OPTIMIZERS:
        plugin = registry.find("optimizers", name)
        if plugin.needs or plugin.unsuitable(problem.space, problem.objectives):
            continue
        optimizer = registry.build(plugin, name, {}, space=problem.space, objectives=problem.objectives, seed=1)
        while optimizer.n_asked < 9:
            asked = optimizer.ask(3)
            candidates = [Candidate(i, problem.space.decode(x), 1) for i, x in zip(asked.ids, asked.x, strict=True)]
            ended = evaluate_all(problem, candidates, Where("", "", 0))
            assert [e.status for e in ended] == [Status.DONE] * len(ended), [e.error for e in ended]
            cost = problem.objectives.cost(np.array([e.fitness for e in ended]))
            optimizer.tell(Evaluations(asked.ids, asked.x, cost))
        tried.append(name)
    assert {"genetic", "gradient-descent", "parallel-tempering", "face", "nes", "cma-es", "nsga-2"} <= set(tried)
    assert ("grid" in tried) == problem.space.bounded.all()


def test_the_contract_of_an_optimizee_holds():
    check_optimizee(from_l2l(Arrays(L2LTrajectory())))


def test_bounds_are_those_of_bounding_func():
    assert dict(from_l2l(Scalars(L2LTrajectory())).space) == {"tau": Real(1, 10), "gain": Real(-2, 2)}


def test_shapes_are_kept_and_elements_with_other_bounds_are_parameters_of_their_own():
    space = from_l2l(Arrays(L2LTrajectory())).space
    assert space["weights"] == Real(-20, 20, shape=(4,))
    assert space["delays"] == Integer(1, 7, shape=(3,))
    assert (space["mixed_0"], space["mixed_1"]) == (Real(0, 1), Real(0, 1000))
    free = space["free"]
    assert (free.low, free.shape) == (None, (2, 2))
    assert free.loc == pytest.approx(5, abs=1)
    assert free.scale == pytest.approx(2, abs=0.5)
    assert list(space) == ["weights", "delays", "free", "mixed_0", "mixed_1"]


def test_integers_are_found_by_type_or_by_rounding_where_there_are_bounds():
    space = from_l2l(Integers(L2LTrajectory())).space
    assert space["n"] == Integer(1, 8)
    assert space["m"] == Integer(0, 4)
    assert space["free"] == Real(loc=40.0, scale=4.0)


@pytest.mark.parametrize(
    "bounding",
    [
        lambda x: x % (2 * np.pi),
        lambda x: max(0.0, x),
        lambda x: np.tanh(x),
        lambda x: x if abs(x) < 9 else random.uniform(-9, 9),
        lambda x: int(x) if abs(x) < 9 else 1 / 0,
        lambda x: 4.0,
    ],
)
def test_what_does_not_clip_tells_no_bounds(bounding):
    class Odd:
        def create_individual(self):
            return {"x": random.uniform(0, 6)}

        def bounding_func(self, individual):
            return {"x": bounding(individual["x"])}

        def simulate(self, traj):
            return traj.individual.x

    problem = from_l2l(Odd())
    assert problem.space["x"].low is None
    assert problem.space["x"].loc == pytest.approx(3, abs=1)
    assert evaluated(problem, {"x": 3.7})[0] == (bounding(3.7),)


def test_without_bounding_func_mean_and_spread_of_the_individuals_are_location_and_scale():
    space = from_l2l(Unbounded(), weights=(1, 1)).space
    assert space["x"].loc == pytest.approx(100, abs=3)
    assert space["x"].scale == pytest.approx(5, rel=0.4)
    assert space["y"].scale == pytest.approx(0.01, rel=0.4)


def test_an_array_without_bounds_is_cut_up_only_if_its_elements_differ_much():
    class Cell:
        def create_individual(self):
            return {"g": np.random.normal([1e-3, 50.0], [1e-4, 5.0]), "w": np.random.normal(0, 1, 500)}

        def simulate(self, traj):
            return (traj.individual.g[1] - 1000 * traj.individual.g[0] + traj.individual.w.sum(),)

    problem = from_l2l(Cell())
    assert list(problem.space) == ["g_0", "g_1", "w"]
    assert problem.space["g_0"].scale == pytest.approx(1e-4, rel=0.5)
    assert problem.space["w"].shape == (500,)
    given = problem.individual({"g_0": 0.002, "g_1": 40.0, "w": np.ones(500)})
    assert given["g"].tolist() == [0.002, 40.0]
    assert evaluated(problem)[1].candidate.params["g_1"] == pytest.approx(50, abs=15)


def test_bounds_that_are_given_replace_those_that_would_be_found():
    bounds = {"x": (90, 110), "y": Real(1e-4, 1e-1, log=True)}
    assert dict(from_l2l(Unbounded(), bounds=bounds).space) == {"x": Real(90, 110), "y": bounds["y"]}
    space = from_l2l(Arrays(L2LTrajectory()), bounds={"delays": (1, [7, 7, 4]), "free": (0, 1)}).space
    assert (space["delays_1"], space["delays_2"]) == (Integer(1, 7), Integer(1, 4))
    assert space["free"] == Real(0, 1, shape=(2, 2))


def test_a_space_that_is_given_is_taken_and_create_individual_may_want_arguments():
    class Wanting(Scalars):
        def create_individual(self, size):
            return {"tau": np.ones(size)}

    Wanting.__init__ = lambda self: None
    space = Space({"tau": Real(1, 100, log=True), "gain": Real(0, 1)})
    assert from_l2l(Wanting(), space=space).space is space
    with pytest.raises(PluginError, match=r"create_individual\(\) raised TypeError.*give space="):
        from_l2l(Wanting())


def test_a_space_that_lacks_a_parameter_is_refused_unless_the_trajectory_has_it():
    space = Space({"tau": Real(1, 10)})
    with pytest.raises(PluginError, match=r"expected \['tau', 'gain'\], .*'gain' is missing"):
        from_l2l(Scalars(L2LTrajectory()), space=space)
    problem = from_l2l(Scalars(L2LTrajectory()), space=space, trajectory={"individual.gain": 1.5})
    assert evaluated(problem, {"tau": 4.0})[0] == (1.0 + 1.5**2,)
    assert list(from_l2l(Scalars(L2LTrajectory()), trajectory={"individual.gain": 1.5}).space) == ["tau"]


def test_a_space_may_have_the_elements_of_an_array():
    space = Space(
        {"weights": Real(0, 1, shape=(4,)), "delays": Integer(1, 3, shape=(3,))}
        | {name: Real(0, 1) for name in ("free_0_0", "free_0_1", "free_1_0", "free_1_1", "mixed_0", "mixed_1")}
    )
    problem = from_l2l(Arrays(L2LTrajectory()), space=space)
    assert evaluated(problem)[1].candidate.params["free_1_1"] == pytest.approx(0.4)


def test_parameters_are_bounded_before_they_are_simulated():
    problem = from_l2l(Scalars(L2LTrajectory()), space=Space({"tau": Real(0, 100), "gain": Real(-9, 9)}))
    assert problem.individual({"tau": 50.0, "gain": -5.0}) == {"tau": 10.0, "gain": -2.0}
    assert evaluated(problem, {"tau": 50.0, "gain": -5.0})[0] == (7.0 + 4.0,)


def test_a_bounding_func_that_works_in_place_leaves_the_optimizer_s_parameters_alone():
    class InPlace(Arrays):
        def bounding_func(self, individual):
            for value in individual.values():
                np.clip(value, 0, 1, out=value)
            return individual

        def create_individual(self):
            return {"weights": np.random.rand(4)}

        def simulate(self, traj):
            return traj.individual.weights.sum()

    params = {"weights": np.array([-1.0, 0.5, 1.0, 2.0])}
    assert evaluated(from_l2l(InPlace(L2LTrajectory())), params)[0] == (2.5,)
    assert params["weights"].tolist() == [-1.0, 0.5, 1.0, 2.0]


def test_the_space_is_the_same_whenever_it_is_asked_for():
    once = from_l2l(Arrays(L2LTrajectory())).space.to_dict()
    np.random.seed(99)
    random.seed(99)
    assert from_l2l(Arrays(L2LTrajectory())).space.to_dict() == once


def test_numbers_arrive_as_numpys_and_integers_as_python_s():
    types = {}

    class Typed(Integers):
        def simulate(self, traj):
            types.update(n=type(traj.individual.n), free=type(traj.individual.free), angle=type(traj.individual.angle))
            return 0

    evaluated(from_l2l(Typed(L2LTrajectory())))
    assert types == {"n": int, "free": int, "angle": np.float64}


class Broken(Scalars):
    def __init__(self, made):
        self.made = made

    def create_individual(self):
        return self.made.pop() if isinstance(self.made, list) else self.made


@pytest.mark.parametrize(
    ("original", "options", "message"),
    [
        (Scalars, {}, r"expected an object with simulate\(traj\)"),
        (len, {}, r"expected an object with simulate\(traj\)"),
        (Broken({}), {}, "create_individual: expected a dict of numbers and arrays, got {}"),
        (Broken([1.0]), {"samples": 1}, "create_individual: expected a dict"),
        (Broken({"kind": "lif"}), {}, "expected finite numbers for 'kind', got 'lif': give space="),
        (Broken({"on": True}), {}, "expected finite numbers for 'on', got True"),
        (Broken({"x": np.inf}), {}, "expected finite numbers for 'x', got inf"),
        (Broken({"x": [[1], [1, 2]]}), {}, "expected finite numbers for 'x'"),
        (Broken([{"x": [1.0]}, {"x": 1.0}]), {"samples": 2}, "expected the same names and shapes each time"),
        (Broken({"x": [1.0, 2.0], "x_0": 1.0}), {"bounds": {"x": (0, [3, 4])}}, "need the name 'x_0', which is taken"),
        (MADE[0], {"bounds": {"tua": (0, 1)}}, r"bounds: expected some of \['gain', 'tau'\], got 'tua'"),
        (MADE[0], {"bounds": {"tau": (1, 0)}}, r"bounds: expected \(low, high\) for 'tau'"),
        (MADE[0], {"bounds": {"tau": 3}}, r"bounds: expected \(low, high\) for 'tau'"),
        (MADE[0], {"bounds": {"tau": Real(0, 1, shape=(2,))}}, r"'tau' has the shape \(\), got a parameter of shape"),
        (MADE[0], {"bounds": {}, "space": Space({"tau": Real(0, 1)})}, "give space or bounds, not both"),
        (MADE[0], {"weights": (1,), "objectives": minimize("f")}, "give weights, for one objective, or objectives"),
        (MADE[0], {"weights": ()}, r"weights: expected one number for each component of the fitness, got \(\)"),
        (MADE[0], {"weights": "high"}, "weights: expected one number"),
        (MADE[0], {"samples": 0}, "samples: expected an integer from 1 on, got 0"),
        (MADE[0], {"n_inner_params": 1.5}, "n_inner_params: expected an integer from 1 on, got 1.5"),
        (MADE[0], {"trajectory": {"individual.tau": 1, "individual.gain": 1}}, "there is nothing to search"),
    ],
)
def test_what_cannot_be_is_refused_with_what_to_do(original, options, message):
    with pytest.raises(PluginError, match=message):
        from_l2l(original, **options)
