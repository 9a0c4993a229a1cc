"""Exact resume: wherever a run was cut, it ends as if it had not been."""

import random
import re
import shutil
from typing import ClassVar

import numpy as np
import pytest

from l2l_dask import Categorical, Experiment, Integer, Objectives, Real, Space, maximize, minimize, registry
from l2l_dask.errors import ConfigError, LockedError, OptimizerError, ReplayError
from l2l_dask.evaluation import Status
from l2l_dask.executors import Simulated
from l2l_dask.registry import find, names
from l2l_dask.trajectory import INITIAL, OPTIMIZER, RETRY, Writer, load
from l2l_dask.trajectory.layout import Layout, read_json, write_json

OPTIMIZERS = names("optimizers")
# Cut anywhere: what has no state, a sequence, a grid, a barrier, a steady state, restarts, a model, chains.
CUT = ("random", "qmc", "grid", "genetic", "steady-state-ga", "cma-es", "surrogate-cma-es", "parallel-tempering")
RandomSearch = find("optimizers", "random")
NOT_REPEATED = {"submitted", "started", "finished", "worker", "host", "attempt"}
SPACE = Space(
    {
        "tau": Real(1, 100, log=True),
        "w": Real(-1, 1, shape=2),
        "n": Integer(1, 9),
        "kind": Categorical(["a", "b", "c"]),
        "rate": Real(0, 1, when={"kind": ["a", "b"]}),
    }
)
NUMBERS = Space({name: p for name, p in SPACE.items() if name not in ("kind", "rate")})
LOSS = minimize("loss")
LINE = Space({"a": Real(0, 1), "b": Real(0, 1)})
INITIAL_SETS = [
    {"tau": 2.0, "w": [0.5, -0.5], "n": 3, "kind": "c"},
    {"tau": 9.0, "w": [0, 0], "n": 1, "kind": "a", "rate": 0.5},
]
OPTIONS = {"genetic": {"pop_size": 10}, "steady-state-ga": {"pop_size": 12}, "qmc": {"engine": "halton"}}


def model(params, context):
    """Fail now and then, save now and then, and depend on the individual's own randomness."""
    if params["n"] > (3 if params.get("kind", "b") == "b" else 9):
        raise ValueError(f"no model with n = {params['n']}")
    if params["n"] < 3:
        context.save("trace", context.rng.random(3))
    return (
        abs(np.log(params["tau"]) - 2) + abs(params["w"]).sum() + params.get("rate", 0.3) + 0.1 * context.rng.random()
    )


def line(params):
    return params["a"] - params["b"]


def picky(params):
    if params["a"] < 0.3:
        raise ValueError("too small")
    return params["a"]


def experiment(store, function=line, optimizer="random", space=LINE, objectives=LOSS, evaluations=30, **more):
    options = {"seed": 3, "cluster": "serial", "max_failures_in_a_row": 0} | more
    return Experiment(
        function, optimizer, store=store, space=space, objectives=objectives, evaluations=evaluations, **options
    )


def repeated(trajectory):
    """Return all columns that a resumed run must have to the bit; ``saved`` without the epoch and the attempt."""
    columns = {
        name: v.tolist() if v.dtype.kind == "T" else v.tobytes() for name, v in trajectory.record.columns.items()
    }
    columns["saved"] = [re.sub(r"-\d+-\d+$", "", place) for place in columns["saved"]]
    arrays = [{name: a.tobytes() for name, a in trajectory.saved(i).items()} for i in range(len(trajectory))]
    return {name: values for name, values in columns.items() if name not in NOT_REPEATED} | {"arrays": arrays}


class Cutter:
    """Makes stores as a crash leaves them: the journal up to a byte, the arrays folded up to an earlier one."""

    def __init__(self, folder, made, client=None):
        self.folder, self.whole, self.empty = folder, Layout(folder / "whole.zarr"), folder / "empty.zarr"
        made(self.whole.root).create()
        shutil.copytree(self.whole.root, self.empty)
        self.trajectory = Experiment.resume(self.whole.root, client=client)
        self.journal = self.whole.journal(1).read_bytes()

    def cut(self, at, folded=0):
        store = self.folder / f"cut-{folded}-{at}.zarr"
        shutil.copytree(self.empty, store)
        layout = Layout(store)
        shutil.copytree(self.whole.saved, layout.saved, dirs_exist_ok=True)
        self._leave(layout, folded)
        Writer(store, self.trajectory.space).close(trim=False)
        layout.journal(2).unlink()
        self._leave(layout, at)
        return store

    def _leave(self, layout, at):
        layout.journal(1).write_bytes(self.journal[:at])
        write_json(layout.lease, read_json(self.whole.lease))


def searched(name):
    """The space, or the numbers of it."""
    return NUMBERS if find("optimizers", name).unsuitable(SPACE, Objectives(LOSS)) else SPACE


@pytest.fixture(scope="module", params=CUT)
def cutter(request, tmp_path_factory):
    name = request.param
    space = searched(name)
    initial = [{key: value for key, value in params.items() if key in space} for params in INITIAL_SETS]

    def made(store):
        options = {"optimizer_options": OPTIONS.get(name, {}), "initial": initial, "evaluations": 120}
        return experiment(store, model, name, space, **options)

    return Cutter(tmp_path_factory.mktemp(name), made)


def test_the_run_that_is_cut_has_failures_saved_arrays_and_initial_sets(cutter):
    counts = cutter.trajectory.counts()
    assert counts["done"] + counts["failed"] == counts["total"] == 120
    assert counts["failed"] > 0
    assert any(cutter.trajectory.saved(i) for i in range(120))
    assert cutter.trajectory.record["origin"].tolist() == [INITIAL] * 2 + [OPTIMIZER] * 118
    assert (cutter.trajectory.record["told"] >= 0).all()


@pytest.mark.parametrize("number", range(6))
def test_a_run_that_was_cut_anywhere_ends_as_if_it_had_not_been(cutter, number):
    rng = random.Random(number)
    at = rng.randrange(len(cutter.journal) + 1) if number else rng.randrange(100)
    store = cutter.cut(at, rng.choice([0, rng.randrange(at + 1), at]))
    assert repeated(Experiment.resume(store)) == repeated(cutter.trajectory)


def test_a_run_that_was_cut_again_and_again_ends_as_if_it_had_not_been(cutter):
    """Each driver gets a little further; what it appends is cut again."""
    store, rng, layout = cutter.cut(0), random.Random(5), None
    for _ in range(4):
        with pytest.raises(KeyboardInterrupt):
            Experiment.resume(store, client=Interrupted(rng.randrange(1, 25)))
        layout = Layout(store)
        last = layout.journal(layout.epochs()[-1])
        last.write_bytes(last.read_bytes()[: -rng.randrange(1, 30)])
    assert repeated(Experiment.resume(store)) == repeated(cutter.trajectory)


class Interrupted(Simulated):
    """One worker that goes on for a while and is then interrupted, which leaves the arrays folded or not."""

    def __init__(self, evaluations):
        super().__init__(1, lambda candidate, rng: 1.0)
        self.left = evaluations

    def collect(self, timeout):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super().collect(timeout)


@pytest.mark.parametrize("number", range(3))
def test_with_many_workers_what_was_told_stays_and_all_else_is_evaluated_once(tmp_path, number):
    rng = random.Random(number)

    def workers():
        return Simulated(7, lambda candidate, rng: 0.5 + rng.random())

    def made(store):
        return experiment(store, model, "steady-state-ga", SPACE, evaluations=100)

    cutter = Cutter(tmp_path, made, workers())
    store = cutter.cut(rng.randrange(len(cutter.journal)))
    writer = Writer(store, SPACE)
    before = writer.record
    writer.close()
    ended = Experiment.resume(store, client=workers())
    told = before["told"] >= 0
    for name in before.columns:
        np.testing.assert_equal(ended.record[name][: len(told)][told].tolist(), before[name][told].tolist(), name)
    assert before["x"].tobytes() == ended.record["x"][: len(told)].tobytes()
    assert (ended.record["told"] >= 0).all()
    assert len(ended) == 100


def test_resuming_a_finished_store_changes_nothing(tmp_path):
    store = tmp_path / "a.zarr"
    before = experiment(store, picky).run()
    again = Experiment.resume(store)
    assert (again.state, before.state) == ("finished", "finished")
    assert before.record.columns.keys() == again.record.columns.keys()
    for name, column in before.record.columns.items():
        np.testing.assert_equal(again.record[name].tolist(), column.tolist(), name)


@pytest.fixture(params=OPTIMIZERS)
def name(request):
    """Every registered optimizer whose library is installed."""
    try:
        find("optimizers", request.param)(LINE, Objectives(LOSS))
    except OptimizerError as error:
        if "pip install" in str(error):
            pytest.skip(str(error))
        raise
    return request.param


def observed(params, context):
    """A pit whose bottom is inside, no model's parabola, and seen: for those that learn from observations."""
    context.save("observation", [params["a"], params["a"] + params["b"]])
    context.save("target", [0.3, 0.9])
    return abs(params["a"] - 0.3) + abs(params["b"] - 0.6)


def test_a_larger_budget_goes_on_as_if_it_had_been_given_at_once(tmp_path, name):
    plugin = find("optimizers", name)
    told = {"evaluations": 60} if "evaluations" in registry.options(plugin) else {"n": 8} if name == "grid" else {}

    def made(store, evaluations):
        return experiment(tmp_path / store, observed, name, evaluations=evaluations, optimizer_options=told)

    made("a.zarr", 20).run()
    more = Experiment.resume(tmp_path / "a.zarr", evaluations=60)
    assert len(more) == 60
    if plugin.replay == "tell":
        return  # it goes on from the results, not from its state
    at_once = made("b.zarr", 60).run()
    assert repeated(more) == repeated(at_once)
    assert Experiment.resume(tmp_path / "a.zarr").counts() == more.counts(), "the larger budget is remembered"


def test_a_budget_below_what_there_is_is_refused_and_nothing_happens(tmp_path):
    before = experiment(tmp_path / "a.zarr").run()
    with pytest.raises(ConfigError, match=r"has 30 evaluations.*: expected at least as many, got 29"):
        Experiment.resume(tmp_path / "a.zarr", evaluations=29)
    assert repeated(load(tmp_path / "a.zarr")) == repeated(before)


class Changed(RandomSearch):
    """What somebody made of the code since: another draw."""

    def _ask(self, n):
        proposed = super()._ask(n)
        return type(proposed)(proposed.x * (1 - 1e-8))


class Rounded(RandomSearch):
    """The same on another processor: other last bits."""

    def _ask(self, n):
        proposed = super()._ask(n)
        return type(proposed)(np.nextafter(proposed.x, 1))


def test_changed_code_is_refused_with_what_to_do_and_the_store_stays_as_it_was(tmp_path):
    before = experiment(tmp_path / "a.zarr").run()
    said = r"individual 0 was asked with x\[0\] = [\d.]+, the replay asks for [\d.]+; .*--trust-record"
    with pytest.raises(ReplayError, match=said) as caught:
        Experiment.resume(tmp_path / "a.zarr", optimizer=Changed, evaluations=40)
    assert len(str(caught.value).splitlines()) == 1
    assert repeated(load(tmp_path / "a.zarr")) == repeated(before)


def test_another_processors_last_bits_are_no_change_and_what_is_recorded_stays(tmp_path):
    before = experiment(tmp_path / "a.zarr").run()
    more = Experiment.resume(tmp_path / "a.zarr", optimizer=Rounded, evaluations=40)
    assert more.record["x"][:30].tobytes() == before.record["x"].tobytes()
    assert len(more) == 40


def test_a_trusted_record_goes_on_and_is_not_proposed_again(tmp_path, name):
    before = experiment(tmp_path / "a.zarr", observed, name, evaluations=12).run()
    more = Experiment.resume(tmp_path / "a.zarr", trust_record=True, evaluations=24)
    x = more.record["x"]
    assert x[:12].tobytes() == before.record["x"].tobytes()
    assert (more.record["told"] >= 0).all()
    assert not any(np.isclose(x[12:], x[start : start + 12]).all() for start in range(12))
    if name != "genetic":  # whose children may be their parents' clones
        assert len(np.unique(x.round(12), axis=0)) == 24


def test_changed_code_goes_on_from_a_trusted_record(tmp_path):
    before = experiment(tmp_path / "a.zarr").run()
    more = Experiment.resume(tmp_path / "a.zarr", optimizer=Changed, evaluations=40, trust_record=True)
    assert more.record["x"][:30].tobytes() == before.record["x"].tobytes()
    assert len(np.unique(more.record["x"], axis=0)) == 40


class Broken(RandomSearch):
    """It cannot stand individual 5."""

    def _tell(self, evaluations):
        if 5 in evaluations.ids:
            raise ZeroDivisionError("five\nis too many")


def test_an_optimizer_that_raised_is_one_line_on_resume_and_goes_on_once_it_is_put_right(tmp_path):
    failed = experiment(tmp_path / "a.zarr", optimizer=Broken, evaluations=9).run()
    assert failed.state == "failed"
    assert "in _tell" in failed.details["reason"], "the traceback is kept"
    with pytest.raises(OptimizerError, match=r"^the optimizer raised ZeroDivisionError: five is too many when"):
        Experiment.resume(tmp_path / "a.zarr", optimizer=Broken)
    assert load(tmp_path / "a.zarr").state == "failed"
    ended = Experiment.resume(tmp_path / "a.zarr", optimizer=RandomSearch)
    assert repeated(ended) == repeated(experiment(tmp_path / "b.zarr", evaluations=9).run())


class TellOnly(RandomSearch):
    """Costly to ask, so it is not asked again for what is recorded; it needs what its optimizee saved."""

    replay = "tell"
    needs = ("trace",)
    log: ClassVar = []

    def _ask(self, n):
        self.log.append(("ask", self.n_asked, n))
        return super()._ask(n)

    def _tell(self, evaluations):
        traces = [None if trace is None else trace.tolist() for trace in evaluations.outputs["trace"]]
        self.log.append(("tell", evaluations.ids.tolist(), evaluations.cost[:, 0].round(9).tolist(), traces))


def tracing(params, context):
    context.save("trace", [params["a"], context.id])
    if params["b"] < 0.3:
        raise ValueError("no")
    return params["a"]


def test_an_optimizer_that_is_costly_to_ask_is_told_alone_with_the_arrays_it_needs(tmp_path):
    TellOnly.log.clear()
    before = experiment(tmp_path / "a.zarr", tracing, TellOnly, objectives=maximize("gain"), evaluations=12).run()
    assert before.counts()["failed"] > 0
    tells = [entry for entry in TellOnly.log if entry[0] == "tell"]
    np.testing.assert_equal([entry[2] for entry in tells], -before.record["fitness"].round(9))
    TellOnly.log.clear()
    more = Experiment.resume(tmp_path / "a.zarr", optimizer=TellOnly, evaluations=14)
    assert repr(TellOnly.log[:12]) == repr(tells)
    assert [entry[:2] for entry in TellOnly.log[12:] if entry[0] == "ask"] == [("ask", 12), ("ask", 13)]
    assert len(np.unique(more.record["x"], axis=0)) == 14


def test_initial_sets_come_first_and_are_told_like_any_other(tmp_path):
    initial = [{"a": 0.25, "b": 0.75}, {"a": 1.0, "b": 0.0}]
    trajectory = experiment(tmp_path / "a.zarr", initial=initial, evaluations=5).run()
    assert [trajectory.individual(i).params for i in range(2)] == [pytest.approx(params) for params in initial]
    assert trajectory.record["origin"].tolist() == [INITIAL] * 2 + [OPTIMIZER] * 3
    assert (trajectory.record["told"] >= 0).all()


def test_a_retry_makes_new_rows_with_their_parents_once_and_the_old_ones_stay(tmp_path):
    store = tmp_path / "a.zarr"
    before = experiment(store, picky).run()
    failed = np.flatnonzero(before.record["status"] == Status.FAILED).tolist()
    assert failed
    after = Experiment.resume(store, optimizee=line, retry_failed=True)
    n = len(before)
    assert len(after) == n + len(failed)
    assert after.record["origin"][n:].tolist() == [RETRY] * len(failed)
    assert after.record["retry_of"].tolist() == [-1] * n + failed
    assert after.record["x"][n:].tobytes() == before.record["x"][failed].tobytes()
    assert (after.record["status"][n:] == Status.DONE).all()
    assert (after.record["told"] >= 0).all()
    assert after.record["status"][:n].tobytes() == before.record["status"].tobytes()
    assert len(Experiment.resume(store, optimizee=line, retry_failed=True)) == len(after)


def test_the_best_is_the_best_ever_whatever_happened_since(tmp_path):
    store = tmp_path / "a.zarr"
    objectives = Objectives(maximize("gain"))
    best = experiment(store, objectives=objectives).run().best
    later = Experiment.resume(store, optimizee=lambda params: line(params) - 5, evaluations=60)
    assert later.best == best
    assert best.fitness["gain"] == later.record["fitness"].max()


def test_a_running_store_is_not_resumed(tmp_path):
    handle = experiment(tmp_path / "a.zarr", evaluations=100_000).start()
    try:
        while not len(load(tmp_path / "a.zarr")):
            pass
        with pytest.raises(LockedError, match="is being written by process"):
            Experiment.resume(tmp_path / "a.zarr")
    finally:
        handle.stop(now=True)
        assert handle.wait(20).state == "stopped"
