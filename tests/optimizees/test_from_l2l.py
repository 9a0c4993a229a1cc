"""An optimizee of the original L2L runs as it is: every optimizer, its fitness, its trajectory, its processes."""

import os
import pickle
import random
import sys
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

from l2l_dask import Experiment, Real, Space, maximize, minimize, registry
from l2l_dask.errors import EvaluationError, PluginError
from l2l_dask.evaluation import Candidate, Objectives
from l2l_dask.optimizee import Context
from l2l_dask.shipping import pack, unpack
from l2l_dask.testing import check_optimizee
from optimizees import L2LTrajectory, from_l2l

OPTIMIZERS = registry.names("optimizers")
OPTIONS = {
    "enkf": {"target": [0.0, 1.0], "pop_size": 8},
    "snpe": {"target": [0.0, 1.0], "n_initial": 20, "max_num_epochs": 2},
    "hyperband": {"direction": "maximize"},
}


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


class Unbounded:
    """No base class and no bounding_func; two fitnesses."""

    def create_individual(self):
        return {"x": np.float64(np.random.normal(100.0, 5.0)), "y": np.random.normal(0.0, 0.01)}

    def simulate(self, traj):
        return ((traj.individual.x - 104.0) ** 2, traj.individual["y"])


class Observed(Scalars):
    """What the original's ensemble Kalman filter wants."""

    def simulate(self, traj):
        out = [traj.individual.tau - 3.0, traj.individual.gain]
        return {"fitness": -np.abs(out).sum(), "model_out": out}


class Several(Scalars):
    """Several individuals in one call, as the original's multi-individual optimizers make them."""

    calls: ClassVar[list[int]] = []

    def simulate_(self, traj):
        type(self).calls.append(traj.inner_params)
        if traj.inner_params == 1:
            return (self.simulate(traj),)
        taus, gains, fitness = traj.individual.tau, traj.individual.gain, []
        assert len(taus) == len(gains) == traj.inner_params == traj.n_inner_params
        for traj.individual.tau, traj.individual.gain in zip(taus, gains, strict=True):
            fitness.append(self.simulate(traj))
        return fitness


class Noisy(Scalars):
    """Randomness from numpy's and Python's global state, and a folder changed."""

    def simulate(self, traj):
        os.chdir("/")
        return np.random.rand() + random.random() + traj.individual.gain


def evaluated(problem, params=None, seed=1, **more):
    context = Context(Candidate(0, problem.space.decode(np.full(problem.space.dim, 0.4)), seed, **more))
    return Objectives(problem.objectives).parse(problem.evaluate(params or context.candidate.params, context)), context


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_runs_an_original_optimizee(name, tmp_path):
    problem, where, options = from_l2l(Observed(L2LTrajectory())), tmp_path / "e.zarr", OPTIONS.get(name, {})
    if name == "snpe":
        pytest.importorskip("sbi", reason="pip install 'l2l-dask[sbi]'")
    ended = Experiment(
        problem, name, optimizer_options=options, store=where, evaluations=12, seed=1, cluster="serial"
    ).run()
    assert ended.state == "finished"
    assert ended.counts()["done"] == 12
    best = ended.best
    assert best.fitness["fitness"] == pytest.approx(-abs(best.params["tau"] - 3) - abs(best.params["gain"]))
    assert ended.saved(best.id)["observation"] == pytest.approx([best.params["tau"] - 3, best.params["gain"]])


@pytest.mark.parametrize(
    ("original", "options"),
    [(Noisy, {}), (Observed, {}), (Several, {"n_inner_params": 3})],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_contract_of_an_optimizee_holds(original, options):
    check_optimizee(from_l2l(original(L2LTrajectory()), **options))


def test_the_search_finds_the_optimum_and_the_weights_say_the_direction(tmp_path):
    problem = from_l2l(Scalars(L2LTrajectory()), weights=(-0.5,))
    ended = Experiment(
        problem, "steady-state-ga", store=tmp_path / "e.zarr", evaluations=300, seed=1, cluster="serial"
    ).run()
    assert ended.best.params["tau"] == pytest.approx(3.0, abs=0.2)
    assert ended.best.fitness["fitness"] == pytest.approx(0, abs=0.1)


def test_the_trajectory_has_what_optimizees_read():
    seen = {}

    class Reading(Scalars):
        def simulate(self, traj):
            ind = traj.individual
            seen.update(
                item=ind["tau"] == ind.tau == traj["individual.tau"] == traj.par.individual.tau,
                params=ind.params["individual.tau"] == ind.params.get("individual.tau") == ind.tau,
                keys=set(ind.keys) == set(ind.keys()) == {f"individual.{name}" for name in ("tau", "gain", "targets")},
                listed=traj.individuals[ind.generation][0] is ind,
                numbers=(ind.ind_idx, ind.generation, traj.retry, traj.ind_idx),
                more=(traj.n_batches, traj.par["n_batches"], traj.parameters.n_batches, ind.targets),
                nothing=(ind.delays, traj.nothing),
                shown="tau" in f"{traj} {ind}",
            )
            traj.f_add_result("x", 1)
            traj.f_add_parameter_group("group", "comment")
            traj.f_add_parameter_to_group("group", "a", 2)
            seen["group"] = (traj.group.params["a"], traj.group.a)
            return (0.0,)

    trajectory = {"n_batches": 10, "individual.targets": [1, 0]}
    problem = from_l2l(Reading(L2LTrajectory()), trajectory=trajectory)
    problem.evaluate({"tau": 2.0, "gain": 1.0}, Context(Candidate(7, {}, 1, {"generation": np.int64(3)}, attempt=2)))
    assert seen == {
        "item": True,
        "params": True,
        "keys": True,
        "listed": True,
        "numbers": (7, 3, 1, 7),
        "more": (10, 10, 10, [1, 0]),
        "nothing": (None, None),
        "shown": True,
        "group": (2, 2),
    }


def test_a_trajectory_can_be_pickled_with_an_optimizee_that_keeps_it():
    traj = L2LTrajectory({"n": 1})
    original = Scalars(traj)
    original.traj = traj
    copy = pickle.loads(pickle.dumps(original))
    assert (copy.traj.n, copy.traj.individual.params["seed"]) == (1, 7)
    assert evaluated(from_l2l(original))[0] == evaluated(from_l2l(copy))[0]


@pytest.mark.parametrize("fitness", [2.0, (2.0,), [2], np.array([2.0]), np.float32(2), ((2.0,),), np.array(2)])
def test_a_fitness_is_a_number_or_a_tuple_of_one(fitness):
    class One(Scalars):
        def simulate(self, traj):
            return fitness

    assert evaluated(from_l2l(One(L2LTrajectory())))[0] == (2.0,)
    assert evaluated(from_l2l(One(L2LTrajectory()), weights=(-3,)))[0] == (-6.0,)


def test_several_fitnesses_are_one_by_their_weights_or_several_objectives(tmp_path):
    params = {"x": 100.0, "y": 0.5}
    assert evaluated(from_l2l(Unbounded(), weights=(1.0, -2.0)), params)[0] == (16.0 - 1.0,)
    problem = from_l2l(Unbounded(), objectives=[minimize("error"), maximize("y")], bounds={"x": (90, 110)})
    assert evaluated(problem, params)[0] == (16.0, 0.5)
    front = Experiment(problem, "nsga-2", store=tmp_path / "e.zarr", evaluations=20, cluster="serial").run().front
    assert set(front[0].fitness) == {"error", "y"}


@pytest.mark.parametrize(
    ("fitness", "options", "message"),
    [
        ((1.0, 2.0), {}, r"fitness of 2 number\(s\), for 1 objective\(s\): give weights="),
        ((1.0,), {"weights": (1, 1)}, r"fitness of 1 number\(s\), for 2 weight\(s\)"),
        (None, {}, "expected a number or a tuple of numbers, got None"),
        ("good", {}, "expected a number or a tuple of numbers, got 'good'"),
        ((1.0, [1.0, 2.0]), {}, "observation=True if it returns"),
        (1.0, {"observation": True}, r"expected \(fitness, observation\), got 1.0"),
        ((1.0, [[1], [1, 2]]), {"observation": True}, r"array of numbers as observation, got \[\[1\], \[1, 2\]\]"),
        ({"fitness": 1.0, "model_out": "bad"}, {}, "expected an array of numbers as observation, got 'bad'"),
        ({"loss": 1.0}, {}, r"expected a fitness, got a dict of \['loss'\]"),
        (1.0, {"n_inner_params": 2}, "expected 2 fitnesses, n_inner_params, got 1.0"),
        ((1.0,), {"n_inner_params": 2}, "expected 2 fitnesses"),
    ],
)
def test_a_fitness_that_does_not_fit_is_an_error_that_says_what_to_do(fitness, options, message):
    class Odd(Scalars):
        def simulate(self, traj):
            return fitness

    with pytest.raises(EvaluationError, match=message):
        evaluated(from_l2l(Odd(L2LTrajectory()), **options))


def test_an_observation_is_saved_under_the_name_that_optimizers_need():
    class Inferred:
        def create_individual(self, n=1):
            return {"tau": 1.0}, "the prior that these are drawn from"

        def simulate(self, traj):
            return (-1.0, [traj.individual.tau, 5])

    fitness, context = evaluated(from_l2l(Inferred(), observation=True), {"tau": 2.0})
    assert (fitness, context.saved["observation"].tolist()) == ((-1.0,), [2.0, 5.0])


def test_what_a_dict_has_beside_the_fitness_is_saved_if_it_is_an_array():
    class Talkative(Scalars):
        def simulate(self, traj):
            return {"fitness": (1.0,), "model_out": [[1, 2]], "target": [3, 4], "net": object(), "rag": [[1], [1, 2]]}

    saved = evaluated(from_l2l(Talkative(L2LTrajectory())))[1].saved
    assert {name: array.tolist() for name, array in saved.items()} == {"observation": [[1.0, 2.0]], "target": [3, 4]}


def test_several_individuals_are_simulated_in_one_call_and_always_as_many(tmp_path):
    Several.calls.clear()
    several, one = from_l2l(Several(L2LTrajectory()), n_inner_params=4), from_l2l(Several(L2LTrajectory()))
    ended = Experiment(several, "random", store=tmp_path / "e.zarr", evaluations=10, cluster="serial").run()
    assert ended.counts()["done"] == 10
    assert set(Several.calls) == {4}
    assert len(Several.calls) <= 4
    for i in (0, 9):
        assert evaluated(one, ended.individual(i).params)[0][0] == ended.individual(i).fitness["fitness"]


def test_how_many_individuals_may_be_an_integer_of_numpy():
    assert from_l2l(Several(L2LTrajectory()), samples=np.int64(8), n_inner_params=np.int64(4)).batch_size == 4


def test_simulate_is_called_where_simulate__is_something_else():
    class Own(Scalars):
        def simulate_(self):
            raise AssertionError("this is the optimizee's own")

        def simulate(self, traj):
            return list(traj.individual.tau)

    problem = from_l2l(Own(L2LTrajectory()), n_inner_params=2)
    contexts = [Context(Candidate(i, {"tau": 3.0 + i, "gain": 0.0}, 1)) for i in (0, 1)]
    assert problem.evaluate_batch([c.candidate.params for c in contexts], contexts) == [(3.0,), (4.0,)]


def test_one_that_raises_among_several_fails_alone(tmp_path):
    class Fragile(Several):
        def simulate(self, traj):
            if traj.individual.gain > 1.5:
                raise ZeroDivisionError("too much gain")
            return super().simulate(traj)

    problem = from_l2l(Fragile(L2LTrajectory()), n_inner_params=3)
    ended = Experiment(problem, "random", store=tmp_path / "e.zarr", evaluations=12, seed=2, cluster="serial").run()
    gains = ended.record["params"][:, list(problem.space).index("gain")]
    assert 0 < ended.counts()["failed"] == (gains > 1.5).sum() < 12
    failed = int(np.flatnonzero(gains > 1.5)[0])
    assert ended.error(failed).startswith("ZeroDivisionError: too much gain")


def test_randomness_comes_from_the_seed_and_the_surroundings_are_left_alone(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    problem, got = from_l2l(Noisy(L2LTrajectory())), []
    for before, seed in ((5, 1), (6, 1), (7, 2)):
        np.random.seed(before)
        random.seed(before)
        states = np.random.get_state()[1].tolist(), random.getstate()
        got.append(evaluated(problem, seed=seed)[0])
        assert (np.random.get_state()[1].tolist(), random.getstate()) == states
    assert got[0] == got[1] != got[2]
    assert Path.cwd() == tmp_path


def test_each_evaluation_starts_from_the_optimizee_as_it_was():
    class Counting(Scalars):
        def simulate(self, traj):
            self.n = getattr(self, "n", 0) + 1
            return self.n + self.random_state.rand()

    original = Counting(L2LTrajectory())
    problem = from_l2l(original)
    assert evaluated(problem, seed=1)[0] == evaluated(problem, seed=2)[0]
    assert not hasattr(original, "n")
    reseeded = from_l2l(original, reseed=True)
    first, again, other = (evaluated(reseeded, seed=seed)[0] for seed in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("name", ["individual.seen", "seen"])
def test_what_the_trajectory_is_given_is_as_new_in_each_evaluation(name):
    class Appending(Scalars):
        def simulate(self, traj):
            seen = traj.individual.seen if traj.seen is None else traj.seen
            seen.append(1)
            return len(seen)

    problem = from_l2l(Appending(L2LTrajectory()), trajectory={name: []})
    assert [evaluated(problem)[0], evaluated(problem)[0]] == [(1.0,), (1.0,)]


def test_files_in_relative_paths_are_those_of_the_current_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("data.txt").write_text("2.5")

    class Files(Scalars):
        def simulate(self, traj):
            Path(f"ind_{traj.individual.generation}_{traj.individual.ind_idx}.txt").write_text("here")
            return float(Path("data.txt").read_text())

    assert evaluated(from_l2l(Files(L2LTrajectory())))[0] == (2.5,)
    assert Path("ind_0_0.txt").read_text() == "here"


def test_a_module_of_the_user_travels_with_its_optimizee(tmp_path, monkeypatch):
    (tmp_path / "their_constants.py").write_text("BEST = 0.25\n")
    (tmp_path / "their_optimizee.py").write_text(
        "import their_constants\nclass Theirs:\n"
        "    def create_individual(self):\n        return {'x': 0.5}\n"
        "    def simulate(self, traj):\n        return -abs(traj.individual.x - their_constants.BEST)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    import their_optimizee

    packed = pack(from_l2l(their_optimizee.Theirs(), bounds={"x": (0, 1)}))
    for name in ("their_optimizee", "their_constants"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(tmp_path)])
    assert evaluated(unpack(packed), {"x": 0.5})[0] == (-0.25,)


def test_what_simulate_raises_is_a_failed_individual_with_its_reason(tmp_path):
    class Raising(Scalars):
        def simulate(self, traj):
            raise ValueError("no spikes")

    problem = from_l2l(Raising(L2LTrajectory()))
    ended = Experiment(problem, "random", store=tmp_path / "e.zarr", evaluations=2, cluster="serial").run()
    assert ended.counts()["failed"] == 2
    assert ended.error(0).startswith("ValueError: no spikes")
    assert "in simulate" in ended.error(0)


@pytest.mark.parametrize("options", [{}, {"space": Space({"tau": Real(1, 10), "gain": Real(-2, 2)})}])
def test_an_optimizee_that_cannot_be_copied_is_refused(options):
    original = Scalars(L2LTrajectory())
    original.file = open(os.devnull)  # noqa: SIM115
    with original.file, pytest.raises(PluginError, match="Scalars cannot be copied for each evaluation: TypeError"):
        from_l2l(original, **options)
