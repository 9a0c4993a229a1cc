"""The optimizees that the original L2L comes with run as they are, where it is installed.

Its licence is the GPL: it is no dependency of this project. ``pip install --no-deps l2lforhpc`` installs it.
"""

import pkgutil
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from l2l_dask import Experiment, Real
from l2l_dask.testing import check_optimizee
from optimizees import L2LTrajectory, from_l2l

PAGE = Path(__file__).parents[2] / "docs" / "migrating-from-l2l.md"


def original(name):
    return pytest.importorskip(f"l2l.optimizees.{name}", reason="the original is not installed: pip install l2lforhpc")


@pytest.mark.parametrize("n_inner_params", [1, 3])
@pytest.mark.parametrize("function", ["Rastrigin2d", "Ackley10d", "Shekel2d", "Michalewicz2d"])
def test_the_original_s_own_functions_run_as_they_are(function, n_inner_params, tmp_path):
    functions = original("functions")
    (_, made), _ = functions.BenchmarkedFunctions().get_function_by_name(function, noise=n_inner_params == 1)
    theirs = functions.FunctionGeneratorOptimizee(L2LTrajectory(), made, seed=100)
    problem = from_l2l(theirs, weights=(-0.1,), n_inner_params=n_inner_params)
    low, high = map(float, theirs.bound)
    assert dict(problem.space) == {"coords": Real(low, high, shape=(theirs.dims,))}
    check_optimizee(problem)
    ended = Experiment(problem, "genetic", store=tmp_path / "e.zarr", evaluations=60, cluster="serial").run()
    assert ended.counts()["done"] == 60
    best = ended.best
    value = made.cost_function(best.params["coords"], random_state=np.random.RandomState(100))  # the same in each
    assert best.fitness["fitness"] == pytest.approx(-0.1 * value)


def test_the_original_s_digits_classifier_runs_as_it_is(tmp_path):
    mnist = original("mnist")
    parameters = mnist.MNISTOptimizeeParameters(n_hidden=3, seed=1, use_small_mnist=True)
    problem = from_l2l(mnist.MNISTOptimizee(L2LTrajectory(), parameters))
    assert problem.space["weights"].shape == (3 * 64 + 10 * 3,)
    ended = Experiment(problem, "es", store=tmp_path / "e.zarr", evaluations=40, cluster="serial").run()
    assert ended.counts()["done"] == 40
    assert 0.05 < ended.best.fitness["fitness"] <= 1


def test_the_original_s_test_cases_run_as_they_are(tmp_path):
    waiting, failing = original("active_wait"), original("test_cases.optimizee_testcase")
    theirs = waiting.AWOptimizee(L2LTrajectory(), waiting.AWOptimizeeParameters(difficulty=100.0))
    for n in (1, 2):
        store, problem = tmp_path / f"waiting-{n}.zarr", from_l2l(theirs, n_inner_params=n)
        ended = Experiment(problem, "random", store=store, evaluations=4, cluster="serial").run()
        assert ended.record["fitness"].tolist() == [[0.0]] * 4
    theirs = failing.TestcaseOptimizee(L2LTrajectory(), failing.TestcaseOptimizeeParameters(exit_code=3))
    experiment = Experiment(from_l2l(theirs), "random", store=tmp_path / "e.zarr", evaluations=2, retries=2, workers=1)
    ended = experiment.run()  # it ends its process until the third attempt
    assert ended.counts()["done"] == 2
    assert ended.record["attempt"].tolist() == [3, 3]


def test_the_page_for_its_users_has_every_optimizer_and_every_parameter_of_it():
    optimizers = pytest.importorskip("l2l.optimizers", reason="the original is not installed: pip install l2lforhpc")
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    for found in pkgutil.iter_modules(optimizers.__path__):
        if found.name == "optimizer":
            continue
        module = import_module(f"l2l.optimizers.{found.name}.optimizer")
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        (name,) = (value.__name__ for value in own if isinstance(value, type) and value.__name__.endswith("Optimizer"))
        (row,) = (row for row in rows if row.split("|")[1].strip(" `").startswith(name))
        for fields in {getattr(value, "_fields", ()) for value in own}:
            for field in set(fields) - {"seed", "n_iteration", "stop_criterion"}:
                assert f"`{field}`" in row or row.split("|")[3].startswith(" the same"), (name, field)
