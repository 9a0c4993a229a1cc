"""check_optimizee: each broken rule is caught, and named."""

import os
import random
import threading
import time

import numpy as np
import pytest

from l2l_dask import FunctionOptimizee, Integer, Optimizee, Real, Space, Target, minimize, registry
from l2l_dask.testing import check_optimizee

DESCRIBES = "an optimizee describes itself"
IMPORTS = "the simulator is imported when it is used, not with the optimizee"
PICKLES = "an optimizee can be pickled at any time"
EVALUATES = "every parameter set of the space can be evaluated"
RETURNS = "evaluate() returns one finite number per objective"
KEEPS = "evaluate() does not modify its parameters"
PROCESS = "an evaluation leaves its process as it was"
REPRODUCIBLE = "the same parameters and seed give the same outcome"
FRESH = "an optimizee works in a fresh process"
BATCH = "evaluate_batch() equals evaluate()"
TARGETS = "targets() are what saved arrays should look like"


class Good(Optimizee):
    """Keeps every rule, and uses everything that the contract knows of."""

    space = Space({"x": Real(-1, 1, shape=(2,)), "n": Integer(1, 4)})
    objectives = minimize("f")
    batch_size = 2
    lock = None

    def setup(self):
        self.lock = threading.Lock()

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name != "lock"}

    def evaluate(self, params, context):
        (context.workdir / "scratch").touch()
        context.save("trace", np.full(3, params["x"].sum()))
        return {"f": params["n"] + context.rng.random()}

    def targets(self):
        return {"trace": Target(np.zeros(3))}


class NoSpace(Good):
    space = None


class NoObjectives(Good):
    objectives = "f"


class NoBatch(Good):
    batch_size = 0


class HoldsALock(Good):
    def __init__(self):
        self.held = threading.Lock()


class KeepsItsSetup(Good):
    def __getstate__(self):
        return self.__dict__


class KeepsItsLastEvaluation(Good):
    def evaluate(self, params, context):
        self.last = threading.Lock()
        return super().evaluate(params, context)


class Raises(Good):
    def evaluate(self, params, context):
        raise ZeroDivisionError("no luck")


class ReturnsNothing(Good):
    def evaluate(self, params, context):
        return None


class ReturnsNaN(Good):
    def evaluate(self, params, context):
        return float("nan")


class WritesIntoAnArray(Good):
    def evaluate(self, params, context):
        params["x"] *= 2
        return 0.0


class PopsAParameter(Good):
    def evaluate(self, params, context):
        return params.pop("n")


class SeedsNumpy(Good):
    def evaluate(self, params, context):
        np.random.seed(context.seed)
        return 0.0


class DrawsFromRandom(Good):
    def setup(self):
        random.random()


class ChangesTheFolder(Good):
    def evaluate(self, params, context):
        os.chdir(context.workdir.parent)
        return 0.0


class Remembers(Good):
    calls = 0

    def evaluate(self, params, context):
        self.calls += 1
        return self.calls


class UsesTheTime(Good):
    def evaluate(self, params, context):
        return time.perf_counter()


class SavesTheTime(Good):
    def evaluate(self, params, context):
        context.save("trace", [time.perf_counter()] * 3)
        return 0.0


class UsesTheProcessId(Good):
    def evaluate(self, params, context):
        return os.getpid()


class NeedsThisProcess(Good):
    here = os.getpid()

    def __getstate__(self):
        return {"made": os.getpid()}

    def evaluate(self, params, context):
        if getattr(self, "made", os.getpid()) != os.getpid():
            raise RuntimeError("this is another process")
        return super().evaluate(params, context)


class BatchesOtherwise(Good):
    def evaluate_batch(self, params, contexts):
        return [self.evaluate(params[0], c)["f"] + i for i, c in enumerate(contexts)]


class BatchesTooFew(Good):
    def evaluate_batch(self, params, contexts):
        return super().evaluate_batch(params, contexts)[:1]


class TargetNotSaved(Good):
    def targets(self):
        return {"voltage": Target(np.zeros(3))}


class TargetOfAnotherLength(Good):
    def targets(self):
        return {"trace": Target(np.zeros(4))}


class TargetNotFinite(Good):
    def targets(self):
        return {"trace": Target(np.array([0, np.nan, 0]))}


class TargetIsAMatrix(Good):
    def targets(self):
        return {"trace": Target(np.zeros((3, 1)))}


class TargetWithoutAStep(Good):
    def targets(self):
        return {"trace": Target(np.zeros(3), step=0)}


class TargetIsAnArray(Good):
    def targets(self):
        return {"trace": np.zeros(3)}


def refusal(optimizee, **options):
    with pytest.raises(AssertionError) as caught:
        check_optimizee(optimizee, **options)
    return str(caught.value)


def test_an_optimizee_that_keeps_every_rule_passes():
    check_optimizee(Good())


def test_a_function_passes():
    check_optimizee(FunctionOptimizee(lambda params: params["x"] ** 2, Space({"x": Real(0, 1)}), minimize("f")))


@pytest.mark.parametrize(
    ("broken", "rule", "advice"),
    [
        (NoSpace, DESCRIBES, "self.space must be a Space"),
        (NoObjectives, DESCRIBES, "self.objectives: expected minimize('name')"),
        (NoBatch, DESCRIBES, "batch_size must be a positive integer, got 0"),
        (HoldsALock, PICKLES, "before setup() it cannot"),
        (KeepsItsSetup, PICKLES, "after setup() it cannot"),
        (KeepsItsLastEvaluation, PICKLES, "after evaluate() it cannot"),
        (Raises, EVALUATES, "ZeroDivisionError: no luck"),
        (ReturnsNothing, RETURNS, "expected a finite number for 'f', got None"),
        (ReturnsNaN, RETURNS, "got nan"),
        (WritesIntoAnArray, KEEPS, "work on a copy"),
        (PopsAParameter, KEEPS, "work on a copy"),
        (SeedsNumpy, PROCESS, "evaluate() changed random"),
        (DrawsFromRandom, PROCESS, "setup() changed random"),
        (ChangesTheFolder, PROCESS, "evaluate() changed cwd"),
        (Remembers, REPRODUCIBLE, "evaluated twice"),
        (UsesTheTime, REPRODUCIBLE, "evaluated twice"),
        (SavesTheTime, REPRODUCIBLE, "different values in the saved array 'trace'"),
        (UsesTheProcessId, REPRODUCIBLE, "here and in a fresh process"),
        (NeedsThisProcess, FRESH, "this is another process"),
        (BatchesOtherwise, BATCH, "alone and in a batch"),
        (BatchesTooFew, BATCH, "it returned 1 values for 2 parameter sets"),
        (TargetNotSaved, TARGETS, "no array 'voltage' is saved"),
        (TargetOfAnotherLength, TARGETS, "'trace' has shape (4,), the saved array (3,)"),
        (TargetNotFinite, TARGETS, "one-dimensional, finite"),
        (TargetIsAMatrix, TARGETS, "one-dimensional, finite"),
        (TargetWithoutAStep, TARGETS, "needs step > 0"),
        (TargetIsAnArray, TARGETS, "expected {name: Target(values, ..)}"),
    ],
)
def test_a_broken_rule_is_named(broken, rule, advice, monkeypatch):
    monkeypatch.chdir(os.getcwd())
    message = refusal(broken())
    assert message.startswith(f"{broken.__name__} breaks the rule '{rule}': ")
    assert advice in message


def test_what_is_no_optimizee_is_refused():
    assert DESCRIBES in refusal(lambda params: 0.0)


def test_a_change_of_the_process_can_be_declared(monkeypatch):
    class Moves(Good):
        def evaluate(self, params, context):
            os.chdir(context.workdir.parent)
            return super().evaluate(params, context)

    monkeypatch.chdir(os.getcwd())
    check_optimizee(Moves(), changes=["cwd"])


PLUGIN = """
from l2l_dask import Optimizee, Real, Space, minimize
{top}
class Cell(Optimizee):
    space, objectives = Space({{"x": Real(0, 1)}}), minimize("f")
    def evaluate(self, params, context):
        {inside}
        return params["x"]
"""


@pytest.mark.parametrize("lazily", [True, False])
def test_a_simulator_imported_with_the_optimizee_is_found(lazily, tmp_path):
    simulator = f"pretended_simulator_{lazily}".lower()  # a module of its own: this process keeps what it imported
    lines = {"top": "", "inside": f"import {simulator}"}
    (tmp_path / f"{simulator}.py").touch()
    if not lazily:
        lines = {"top": lines["inside"], "inside": "pass"}
    (tmp_path / "cell.py").write_text(PLUGIN.format(**lines))
    cell = registry.load_file(tmp_path / "cell.py").Cell()
    if lazily:
        check_optimizee(cell, simulator=simulator, samples=1)
    else:
        message = refusal(cell, simulator=simulator)
        assert IMPORTS in message
        assert "do so in setup() or evaluate()" in message


def test_parameter_sets_can_be_given():
    class Picky(Good):
        def evaluate(self, params, context):
            if params["n"] != 3:
                raise ValueError("only 3")
            return super().evaluate(params, context)

    check_optimizee(Picky(), samples=[{"x": np.zeros(2), "n": 3}])
    assert EVALUATES in refusal(Picky(), samples=[{"x": np.zeros(2), "n": 2}])


def test_no_samples_are_an_error_of_the_caller():
    with pytest.raises(ValueError, match="at least one sample"):
        check_optimizee(Good(), samples=0)
