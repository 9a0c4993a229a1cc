"""Early stopping on learning curves, where evaluations run in place: what is seen, what is stopped, what is resumed."""

import math

import numpy as np
import pytest

from l2l_dask import Experiment, Optimizee, Real, Space, minimize
from l2l_dask.cli.show import counted, summary
from l2l_dask.errors import ReplayError, StoreError
from l2l_dask.evaluation import Evaluation, Status
from l2l_dask.executors import Simulated
from l2l_dask.loop import (
    Arrived,
    Asked,
    Capacity,
    Keep,
    Loop,
    Observe,
    Observed,
    Policy,
    Reported,
    Stop,
    Submit,
    Tell,
    Told,
)
from l2l_dask.registry import find
from l2l_dask.reports import CURVE
from l2l_dask.trajectory import Writer, load
from l2l_dask.trajectory.journal import Journal

RandomSearch = find("optimizers", "random")
SPACE = Space({"x": Real(0, 1)})
STEPS = 5


class Strict(RandomSearch):
    """Stops whoever reports more than 0.5 at step 2 or later, and notes all that it is shown."""

    limit = 0.5

    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.shown, self.told = {}, {}

    def _tell(self, evaluations):
        self.told.update(zip(evaluations.ids.tolist(), evaluations.cost[:, 0].tolist(), strict=True))

    def _observe(self, reports):
        for id, points in reports.items():
            assert id not in self.told, "reports come before the result"
            self.shown.setdefault(id, []).extend(points)
        return [id for id, points in reports.items() if any(s >= 2 and v > self.limit for s, v in points)]


def curve(params, context):
    for step in range(1, STEPS + 1):
        context.report(step, params["x"])
    return params["x"]


def search(function, store, optimizer=Strict, **options):
    options = {"space": SPACE, "objectives": minimize("f"), "evaluations": 30, "seed": 2, "cluster": "serial"} | options
    if isinstance(function, Optimizee):
        del options["space"], options["objectives"]
    return Experiment(function, optimizer, store=store, **options)


def poor(trajectory):
    return trajectory.record["params"][:, 0] > 0.5


def test_who_is_stopped_ends_at_that_report_without_a_fitness_and_keeps_its_curve(tmp_path):
    ended = search(curve, tmp_path / "a.zarr").run()
    status, fitness = ended.record["status"], ended.record["fitness"][:, 0]
    assert 5 < poor(ended).sum() < 25
    np.testing.assert_array_equal(status == Status.STOPPED, poor(ended))
    np.testing.assert_array_equal(status == Status.DONE, ~poor(ended))
    np.testing.assert_array_equal(np.isnan(fitness), poor(ended))
    for id in range(len(ended)):
        assert len(ended.saved(id)[CURVE]) == (2 if poor(ended)[id] else STEPS)
        assert ended.error(id) == ""
    assert (ended.record["told"] >= 0).all()


def test_the_optimizer_sees_every_point_once_and_is_told_nan_of_those_stopped(tmp_path):
    strict = []

    class Kept(Strict):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            strict.append(self)

    ended = search(curve, tmp_path / "a.zarr", Kept).run()
    seen = strict[-1]
    for id, x in enumerate(ended.record["params"][:, 0].tolist()):
        assert seen.shown[id] == [(s, x) for s in range(1, 3 if x > 0.5 else STEPS + 1)]
        assert math.isnan(seen.told[id]) if x > 0.5 else seen.told[id] == x


def test_show_counts_the_stopped_and_the_best_is_one_that_was_not(tmp_path):
    def flattering(params, context):
        """Looks worse the better it is."""
        context.report(2, 1 - params["x"])
        return params["x"]

    ended = search(flattering, tmp_path / "a.zarr").run()
    x = ended.record["params"][:, 0]
    stopped = int((x < 0.5).sum())
    assert ended.counts()["stopped"] == stopped > 0
    assert f"{stopped} stopped" in counted(summary(ended)["evaluations"])
    assert ended.best.fitness["f"] == x[x >= 0.5].min()


def test_to_be_stopped_is_no_failure_and_is_not_retried(tmp_path):
    def always(params, context):
        context.report(2, 1.0)

    ended = search(always, tmp_path / "a.zarr", max_failures_in_a_row=3, retries=2).run()
    assert ended.state == "finished"
    assert ended.counts()["stopped"] == 30
    assert set(ended.record["attempt"].tolist()) == {1}
    assert ended.best is None


def swallowing_exceptions(params, context, log):
    try:
        for step in range(STEPS):
            context.report(step, params["x"])
    except Exception:
        log.append("swallowed")
    finally:
        log.append("cleared up")
    return params["x"]


def test_a_handler_of_exceptions_does_not_swallow_the_stop_and_finally_is_obeyed(tmp_path):
    log = []
    ended = search(lambda params, context: swallowing_exceptions(params, context, log), tmp_path / "a.zarr").run()
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))
    assert log == ["cleared up"] * 30


@pytest.mark.parametrize("after", ["returns", "raises"])
def test_whoever_swallows_the_stop_is_stopped_whatever_it_makes_of_it(tmp_path, after):
    def stubborn(params, context):
        try:
            return curve(params, context)
        except BaseException:
            if after == "raises":
                raise ValueError("no time") from None
            return -1.0

    ended = search(stubborn, tmp_path / "a.zarr").run()
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))
    assert ended.best.fitness["f"] >= 0


def test_the_best_are_evaluated_again_in_full_whatever_they_report(tmp_path):
    def turns_bad(params, context):
        for step in range(1, STEPS + 1):
            context.report(step, 1.0 if context.id >= 30 else 0.0)
        return params["x"]

    ended = search(turns_bad, tmp_path / "a.zarr", final=2, final_repeats=3).run()
    assert ended.counts()["done"] == 32


def test_of_repeats_the_first_is_watched_and_a_stop_ends_them_all(tmp_path):
    def repeated(params, context):
        context.report(1, params["x"])
        if context.repeat == 0:
            context.report(2, params["x"])
        return params["x"] + context.repeat

    ended = search(repeated, tmp_path / "a.zarr", repeats=3).run()
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))
    done = ~poor(ended)
    np.testing.assert_allclose(ended.record["fitness"][done, 0], ended.record["params"][done, 0] + 1)
    assert {len(ended.saved(id)[CURVE]) for id in range(30)} == {2}


class Batch(Optimizee):
    """Takes ten at once; leaves off, or not, computing those that are stopped."""

    space, objectives, batch_size = SPACE, minimize("f"), 10

    def __init__(self, leaves_off, offset=0.0):
        self.leaves_off, self.offset, self.steps = leaves_off, offset, []

    def evaluate(self, params, context):
        raise NotImplementedError

    def evaluate_batch(self, params, contexts):
        for step in range(1, STEPS + 1):
            self.steps.append(step)
            for p, context in zip(params, contexts, strict=True):
                if not (self.leaves_off and context.stopped):
                    context.report(step, p["x"] + self.offset)
        return [None if self.leaves_off and c.stopped else p["x"] for p, c in zip(params, contexts, strict=True)]


def test_a_batch_may_leave_off_computing_those_of_it_that_are_stopped(tmp_path):
    ended = search(Batch(leaves_off=True), tmp_path / "a.zarr").run()
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))
    assert [len(ended.saved(id)[CURVE]) for id in range(30)] == [2 if bad else STEPS for bad in poor(ended)]


def test_what_a_batch_computed_to_the_end_all_the_same_counts(tmp_path):
    ended = search(Batch(leaves_off=False), tmp_path / "a.zarr").run()
    assert ended.counts()["done"] == 30


def test_a_batch_all_of_which_is_stopped_ends_at_once(tmp_path):
    batch = Batch(leaves_off=True, offset=1.0)
    ended = search(batch, tmp_path / "a.zarr").run()
    assert ended.counts()["stopped"] == 30
    assert batch.steps == [1, 2] * 3


def test_an_exception_of_the_observer_ends_the_search_with_one_line(tmp_path):
    class Broken(Strict):
        def _observe(self, reports):
            raise ValueError("I cannot look")

    ended = search(curve, tmp_path / "a.zarr", Broken).run()
    assert ended.state == "failed"
    assert ended.details["reason"].startswith("the optimizer raised ValueError: I cannot look")
    assert ended.counts()["pending"] == 1


def test_a_disk_that_fails_within_an_evaluation_is_no_failure_of_that(tmp_path, monkeypatch):
    append = Journal.append

    def failing(journal, *, durable):
        if any(b"observe" in record for record in journal._pending):
            raise StoreError("no space left")
        append(journal, durable=durable)

    monkeypatch.setattr(Journal, "append", failing)
    with pytest.raises(StoreError, match="no space left"):
        search(curve, tmp_path / "a.zarr").run()
    monkeypatch.undo()
    ended = Experiment.resume(tmp_path / "a.zarr")
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))
    assert ended.counts()["failed"] == 0


def test_an_optimizer_that_does_not_look_causes_no_events_and_hears_nothing(tmp_path):
    ended = search(curve, tmp_path / "a.zarr", RandomSearch).run()
    assert ended.counts()["done"] == 30
    writer = Writer(tmp_path / "a.zarr", SPACE)
    assert list(writer.record.observations()) == []
    assert [e.number for e in writer.record.events()] == list(range(60))
    assert b"observe" not in b"".join(path.read_bytes() for path in (tmp_path / "a.zarr/.l2l").glob("*.log"))
    writer.close()


def test_every_look_is_an_event_with_what_was_shown_and_decided(tmp_path):
    search(curve, tmp_path / "a.zarr", evaluations=6).run()
    writer = Writer(tmp_path / "a.zarr", SPACE)
    record = writer.record
    writer.close()
    expected = []
    for id, x in enumerate(record["params"][:, 0].tolist()):
        looks = [({id: [(s, x)]}, (id,) if s == 2 and x > 0.5 else ()) for s in range(1, 3 if x > 0.5 else STEPS + 1)]
        expected += ["ask", *looks, "tell"]
    found = [(e.reports, e.stop) if e.reports else "tell" if e.tell else "ask" for e in record.events()]
    assert found == expected
    assert [e.number for e in record.events()] == list(range(len(expected)))


def test_a_longer_budget_goes_on_exactly_as_a_search_that_had_it_from_the_start(tmp_path):
    search(curve, tmp_path / "a.zarr", evaluations=11).run()
    longer = Experiment.resume(tmp_path / "a.zarr", evaluations=30)
    whole = search(curve, tmp_path / "b.zarr").run()
    for name in ("x", "fitness", "status", "asked", "told"):
        np.testing.assert_array_equal(longer.record[name], whole.record[name])


def test_an_observer_that_decides_otherwise_is_noticed_and_the_record_can_be_trusted(tmp_path):
    search(curve, tmp_path / "a.zarr").run()

    class Milder(Strict):
        limit = 0.9

    with pytest.raises(ReplayError, match=r"event \d+ stopped \[\d+\], the replay \[\]; its code"):
        Experiment.resume(tmp_path / "a.zarr", evaluations=40, optimizer=Milder)
    trusted = Experiment.resume(tmp_path / "a.zarr", evaluations=40, optimizer=Milder, trust_record=True)
    later = trusted.record["params"][30:, 0]
    np.testing.assert_array_equal(trusted.record["status"][30:] == Status.STOPPED, later > 0.9)


def test_reports_of_a_result_that_was_not_told_are_seen_before_it_is():
    loop = Loop(Policy(9))
    assert loop.handle(Capacity(2)) != []
    loop.handle(Asked(0, 2))
    loop.handle(Reported({1: ((1.0, 5.0),)}))
    done = Evaluation(1, Status.DONE, 1, (0.0,))
    assert loop.handle(Arrived((done,)))[0] == Keep((done,))
    assert loop.handle(Observed((0, 1)))[:2] == [Stop((0,)), Tell((1,))]


def test_a_stop_that_comes_after_the_end_changes_nothing():
    loop = Loop(Policy(1))
    loop.handle(Capacity(1))
    assert loop.handle(Asked(0, 1, done=True)) == [Submit((0,))]
    assert loop.handle(Reported({0: ((1.0, 5.0),)})) == [Observe({0: ((1.0, 5.0),)})]
    done = Evaluation(0, Status.DONE, 1, (0.0,))
    assert loop.handle(Arrived((done,))) == [Keep((done,))]
    assert loop.handle(Observed((0,))) == [Tell((0,))]


def test_a_report_that_comes_after_its_individual_was_told_is_not_looked_at():
    loop = Loop(Policy(9))
    loop.handle(Capacity(1))
    loop.handle(Asked(0, 1))
    crashed = Evaluation(0, Status.FAILED, 1, error="E")
    assert loop.handle(Arrived((crashed,))) == [Keep((crashed,)), Tell((0,))]
    loop.handle(Reported({0: ((1.0, 0.0),)}))
    assert not [i for i in loop.handle(Told()) if isinstance(i, Observe)]


def test_results_are_told_in_between_however_much_is_reported():
    loop = Loop(Policy(9))
    loop.handle(Capacity(3))
    loop.handle(Asked(0, 3))
    loop.handle(Reported({0: ((1.0, 0.0),)}))
    loop.handle(Arrived((Evaluation(1, Status.DONE, 1, (0.0,)),)))
    loop.handle(Reported({0: ((2.0, 0.0),)}))
    assert loop.handle(Observed(())) == [Tell((1,))]


def test_on_a_virtual_cluster_a_stop_frees_its_worker_at_that_report(tmp_path, monkeypatch):
    """Ten seconds each and five reports: those stopped at the second take 10 / 6 * 2 seconds."""
    from l2l_dask import running

    virtual = Simulated(3, lambda candidate, rng: 10.0)
    monkeypatch.setattr(running, "Serial", lambda *_, **__: virtual)
    ended = search(curve, tmp_path / "a.zarr").run()
    took = ended.record["finished"] - ended.record["started"]
    np.testing.assert_allclose(took, np.where(poor(ended), 10 / 6 * 2, 10))
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))
    assert [len(ended.saved(id)[CURVE]) for id in range(30)] == [2 if bad else STEPS for bad in poor(ended)]
    assert virtual.now < 30 * 10 / 3
    assert len(load(tmp_path / "a.zarr")) == 30


def many_segments(patch):
    patch.setattr("l2l_dask.trajectory.writer._SEGMENT_BYTES", 2000)
    patch.setattr("l2l_dask.trajectory.writer._SHARE", 1)
    patch.setattr("l2l_dask.driver._FOLD", -1.0)


def test_a_journal_that_lost_what_was_seen_is_noticed_and_the_record_can_be_trusted(tmp_path, monkeypatch, caplog):
    with monkeypatch.context() as patch:
        many_segments(patch)
        search(curve, tmp_path / "a.zarr").run()
    segments = sorted((tmp_path / "a.zarr/.l2l").glob("journal-*.log"))
    assert len(segments) > 3
    segments[1].unlink()
    with pytest.raises(ReplayError, match=r"event \d+, at which it looked at learning curves, is lost.*--trust-record"):
        Experiment.resume(tmp_path / "a.zarr", evaluations=40, optimizer=Strict)
    assert "looks at learning curves are lost" in caplog.text
    ended = Experiment.resume(tmp_path / "a.zarr", evaluations=40, optimizer=Strict, trust_record=True)
    np.testing.assert_array_equal(ended.record["status"] == Status.STOPPED, poor(ended))


def test_what_was_seen_is_resumed_from_all_segments_of_the_journal(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        many_segments(patch)
        search(curve, tmp_path / "a.zarr", evaluations=12).run()
    for _ in range(2):  # the second finds nothing of it in the newest segment
        writer = Writer(tmp_path / "a.zarr", SPACE)
        seen = [event for event in writer.record.events() if event.reports]
        writer.close()
        assert sum(bool(event.stop) for event in seen) == load(tmp_path / "a.zarr").counts()["stopped"] > 0
    assert [e.number for e in writer.record.events()] == list(range(writer.record.n_events))
