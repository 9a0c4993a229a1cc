"""What a process reports while it evaluates, and how it is stopped: nothing of that gets in the way of the rest."""

import os
import pickle
import threading
import time

import pytest

from l2l_dask import FunctionOptimizee, Real, Space, minimize, shipping
from l2l_dask.child import Payload
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.process import Child
from l2l_dask.reports import Order, Report

SPACE = Space({"x": Real(0, 1)})


def candidate(id=0, **more):
    return Candidate(id, {"x": id / 10}, 1, **more)


@pytest.fixture
def listening(temp, monkeypatch):
    """Make a child process, and the list of what it reports."""
    made = []
    monkeypatch.setattr("l2l_dask.process._LONG", 1000.0)  # a bundle is returned whole, however long it takes

    def make(function, *, reports=True, timeout=30.0, then=None):
        heard = []

        def hear(report):
            heard.append(report)
            if then is not None:
                then(child, report)

        packed = shipping.pack(FunctionOptimizee(function, SPACE, minimize("f")))
        child = Child(Payload(packed, Where("nowhere.zarr", "", 1, (), reports)), timeout, on_report=hear)
        made.append(child)
        return child, heard

    yield make
    for child in made:
        child.close()


def thrice(params, context):
    for step in range(3):
        context.report(step, params["x"])
    return params["x"]


def endless(params, context):
    while True:
        context.report(len(context.curve), os.getpid())


def stop_at_once(child, report):
    child.stop([report.id])


def test_reports_come_one_by_one_with_their_place_in_the_curve(listening):
    child, heard = listening(thrice)
    (done,) = child.evaluate([candidate(7)])
    assert done.fitness == (0.7,)
    assert heard == [Report(7, step, ((step, 0.7),)) for step in range(3)]


def test_who_is_not_listened_to_sends_nothing(listening):
    child, heard = listening(thrice, reports=False)
    (done,) = child.evaluate([candidate(7)])
    assert done.curve == ((0, 0.7), (1, 0.7), (2, 0.7))
    assert heard == []


def test_a_process_that_was_stopped_evaluates_the_next_ones(listening):
    child, _ = listening(endless, then=stop_at_once)
    ended = [child.evaluate([candidate(id)])[0] for id in range(3)]
    assert [e.status for e in ended] == [Status.STOPPED] * 3
    assert len({pid for e in ended for _, pid in e.curve}) == 1


def test_of_a_bundle_the_others_are_evaluated_in_full(listening):
    def some(params, context):
        return endless(params, context) if context.id % 2 else thrice(params, context)

    child, _ = listening(some, then=lambda child, report: child.stop([1, 3]))
    ended = child.evaluate([candidate(id) for id in range(5)])
    assert [e.status for e in ended] == [Status.STOPPED if id % 2 else Status.DONE for id in range(5)]


def test_an_order_for_somebody_else_or_after_the_end_changes_nothing(listening):
    child, _ = listening(thrice, then=lambda child, report: child.stop([99]))
    assert child.evaluate([candidate(1)])[0].status is Status.DONE
    child.stop([1])
    assert child.evaluate([candidate(1)])[0].status is Status.DONE
    child._connection.send_bytes(pickle.dumps(Order(frozenset([1]))))  # it was on its way when the answer came
    assert child.evaluate([candidate(1)])[0].status is Status.DONE


def test_a_process_that_takes_the_place_of_one_that_died_knows_who_is_to_stop(listening, tmp_path):
    died = tmp_path / "died"

    def deadly(params, context):
        if not died.exists():
            died.touch()
            context.report(0, 0.0)
            os._exit(3)
        return endless(params, context) if context.id == 1 else 0.0

    child, _ = listening(deadly, then=lambda child, report: child.stop([1]))
    crashed, stopped = child.evaluate([candidate(0), candidate(1)])
    assert (crashed.status, stopped.status) == (Status.CRASHED, Status.STOPPED)
    assert len(stopped.curve) == 1


def test_one_that_reports_without_rest_is_timed_out_all_the_same(listening):
    child, heard = listening(endless, timeout=6.0)
    (ended,) = child.evaluate([candidate()])
    assert ended.status is Status.TIMED_OUT
    assert heard


def test_a_process_that_the_optimizee_forked_has_no_say(listening):
    def forking(params, context):
        pid = os.fork()
        if pid == 0:
            for step in range(100):
                context.report(step, -1.0)
            os._exit(0)
        os.waitpid(pid, 0)
        return thrice(params, context)

    child, heard = listening(forking)
    assert child.evaluate([candidate(4)])[0].fitness == (0.4,)
    assert [report.points for report in heard] == [((step, 0.4),) for step in range(3)]


def test_a_thread_that_was_left_behind_is_not_heard(listening):
    def leaving(params, context):
        def go_on():
            while True:
                context.report(1, -1.0)
                time.sleep(0.001)

        threading.Thread(target=go_on, daemon=True).start()
        context.report(0, 1.0)
        return os.getpid()

    child, _ = listening(leaving)
    ended = [child.evaluate([candidate(id)])[0] for id in range(4)]
    assert [e.status for e in ended] == [Status.DONE] * 4
    assert len({e.fitness for e in ended}) == 1, "its connection is as it should be"
