"""Bundles in a real child process: one process, several individuals, each with its own fate."""

import itertools
import os
import time

import numpy as np
import pytest

from l2l_dask import Optimizee, Real, Space, minimize
from l2l_dask.evaluation import Candidate, Sampling, Status

SPACE = Space({"x": Real(0, 1)})


def candidates(n, **more):
    return [Candidate(id, {"x": id / 10}, 7, **more) for id in range(n)]


def test_a_bundle_gives_each_individual_its_own_result_in_one_process(child_of):
    child = child_of(lambda params, context: (context.save("who", context.id), os.getpid() + params["x"])[1])
    ended = child.evaluate(candidates(5))
    assert [(e.id, e.status) for e in ended] == [(id, Status.DONE) for id in range(5)]
    assert len({round(e.fitness[0] - id / 10) for id, e in enumerate(ended)}) == 1
    assert [e.arrays["who"].item() for e in ended] == list(range(5))
    assert all(a.finished <= b.finished for a, b in itertools.pairwise(ended))


def test_only_the_individual_that_had_started_is_blamed_for_the_death_of_its_process(child_of):
    def deadly(params, context):
        print("this is", context.id, flush=True)
        if context.id == 2:
            os._exit(3)
        if context.id == 3:
            raise ValueError("three")
        return params["x"]

    ended = child_of(deadly).evaluate(candidates(6))
    statuses = {0: Status.DONE, 1: Status.DONE, 2: Status.CRASHED, 3: Status.FAILED, 4: Status.DONE, 5: Status.DONE}
    assert {e.id: e.status for e in ended} == statuses
    assert ended[2].error == "ProcessError: the process exited with status 3\nprinted:\nthis is 2"
    assert ended[3].error.startswith("ValueError: three\n")
    assert ended[3].error.endswith("printed:\nthis is 3")


def test_each_individual_of_a_bundle_has_the_whole_time_limit(child_of, monkeypatch):
    def slow(params, context):
        time.sleep(1000 if context.id == 1 else 1.0)
        return params["x"]

    monkeypatch.setattr("l2l_dask.process._LONG", 1000.0)
    ended = child_of(slow, timeout=6.0).evaluate(candidates(9))  # of which eight together take longer than that
    assert [e.status for e in ended] == [Status.TIMED_OUT if id == 1 else Status.DONE for id in range(9)]
    assert ended[1].seconds >= 6.0


class Batch(Optimizee):
    """Takes four at once; ``fate(ids)`` is called with the ids of each batch."""

    space, objectives, batch_size = SPACE, minimize("f"), 4

    def __init__(self, fate=lambda ids: None):
        self.fate = fate

    def evaluate(self, params, context):
        raise NotImplementedError

    def evaluate_batch(self, params, contexts):
        for context in contexts:
            context.save("together", [c.id for c in contexts])
        self.fate([c.id for c in contexts])
        return [p["x"] for p in params]


def test_an_optimizee_that_takes_several_at_once_gets_them(child_of):
    ended = child_of(Batch()).evaluate(candidates(6))
    assert [e.fitness for e in ended] == [(id / 10,) for id in range(6)]
    together = [e.arrays["together"].tolist() for e in ended]
    assert together == [[0, 1, 2, 3]] * 4 + [[4, 5]] * 2


def raises(ids):
    if 2 in ids:
        raise ValueError("no twos")


def exits(ids):
    if 2 in ids:
        os._exit(1)


def hangs(ids):
    if 2 in ids:
        print("hangs", flush=True)
        time.sleep(1000)


@pytest.mark.parametrize(
    ("fate", "status"), [(raises, Status.FAILED), (exits, Status.CRASHED), (hangs, Status.TIMED_OUT)]
)
def test_a_batch_that_fails_is_split_and_only_the_culprit_is_blamed(child_of, fate, status):
    ended = child_of(Batch(fate), time_is_up=lambda printed: b"hangs" in printed).evaluate(candidates(5))
    assert [e.status for e in ended] == [Status.DONE, Status.DONE, status, Status.DONE, Status.DONE]
    assert [e.arrays["together"].tolist() for e in ended if e.status is Status.DONE] == [[0], [1], [3], [4]]


def test_a_batch_that_returns_too_few_values_is_tried_one_by_one(child_of):
    class Short(Batch):
        def evaluate_batch(self, params, contexts):
            return [p["x"] for p in params][:3]

    assert [e.fitness for e in child_of(Short()).evaluate(candidates(4))] == [(id / 10,) for id in range(4)]


def test_repeats_of_one_individual_have_different_seeds_the_same_in_any_process(child_of, tmp_path):
    def drawn(params, context):
        with (tmp_path / f"{context.repeat}").open("a") as file:
            file.write(f"{context.seed}\n")
        return context.rng.normal()

    sampled = [Sampling(repeats=4).sampled(c) for c in candidates(1)]
    first, second = child_of(drawn).evaluate(sampled)[0], child_of(drawn).evaluate(sampled)[0]
    assert (first.fitness, first.spread) == (second.fitness, second.spread)
    seeds = [(tmp_path / str(r)).read_text().split() for r in range(4)]
    assert all(a == b for a, b in seeds)
    assert len({a for a, _ in seeds}) == 4
    assert first.spread[0] > 0


def test_a_repeat_that_takes_too_long_fails_the_individual_alone(child_of):
    def slow(params, context):
        if (context.id, context.repeat) == (0, 1):
            print("hangs", flush=True)
            time.sleep(1000)
        return params["x"]

    child = child_of(slow, time_is_up=lambda printed: b"hangs" in printed)
    ended = child.evaluate([Sampling(repeats=3).sampled(c) for c in candidates(2)])
    assert [e.status for e in ended] == [Status.TIMED_OUT, Status.DONE]
    assert ended[0].error == "TimeoutError: took longer than 30 s (evaluation 2 of 3)\nprinted:\nhangs"


def test_what_is_printed_without_end_does_not_fill_the_disk(child_of, monkeypatch, temp):
    monkeypatch.setattr("l2l_dask.process._MUCH", 1 << 20)

    def chatty(params):
        until = time.monotonic() + 2.5
        while time.monotonic() < until or os.fstat(1).st_size:  # until it is looked at just now
            os.write(1, b"x" * 100_000)
            time.sleep(0.01)
        os.write(1, b"the end")
        raise ValueError("said enough")

    child = child_of(chatty)
    (failed,) = child.evaluate(candidates(1))
    assert failed.error.startswith("ValueError: said enough")
    assert failed.error.endswith("printed:\nthe end")
    (printed,) = temp.glob("l2l-child-*/printed")
    assert printed.stat().st_size < 1 << 20


def test_what_many_short_evaluations_print_does_not_fill_the_disk(child_of, monkeypatch, temp):
    monkeypatch.setattr("l2l_dask.process._MUCH", 1 << 20)
    ended = child_of(lambda params: float(os.write(1, b"x" * 600_000))).evaluate(candidates(20))
    assert {e.status for e in ended} == {Status.DONE}
    (printed,) = temp.glob("l2l-child-*/printed")
    assert printed.stat().st_size < 4 << 20


def at(seconds):
    """Evaluations that take so long each, and give their process's id."""

    def slow(params):
        time.sleep(seconds)
        return float(os.getpid())

    return slow


def test_a_bundle_that_takes_long_is_returned_as_far_as_it_is_done_and_its_process_stays(child_of):
    child = child_of(at(0.4))
    some = child.evaluate_some(candidates(50))
    assert 1 <= len(some) <= 4
    (more,) = child.evaluate_some(candidates(50)[len(some) :][:1])
    assert {e.fitness for e in [*some, more]} == {some[0].fitness}


def test_a_short_bundle_is_returned_whole(child_of, monkeypatch):
    monkeypatch.setattr("l2l_dask.process._LONG", 1000.0)
    assert len(child_of(at(0.0)).evaluate_some(candidates(500))) == 500


@pytest.mark.parametrize(("n", "repeats", "expected"), [(5, 1, 1), (3, 4, 1)])
def test_however_long_it_takes_one_individual_is_evaluated_with_all_its_repeats(
    child_of, monkeypatch, n, repeats, expected
):
    monkeypatch.setattr("l2l_dask.process._LONG", 0.0)
    given = [Sampling(repeats=repeats).sampled(c) for c in candidates(n)]
    ended = child_of(lambda params, context: float(context.repeat)).evaluate_some(given)
    assert [e.id for e in ended] == list(range(expected))
    assert ended[0].fitness == (np.mean(range(repeats)),)


def test_a_batch_and_the_repeats_that_share_it_are_not_cut(child_of, monkeypatch):
    monkeypatch.setattr("l2l_dask.process._LONG", 0.0)
    assert len(child_of(Batch()).evaluate_some(candidates(6))) == 4
    repeated = [Sampling(repeats=2).sampled(c) for c in candidates(5)]
    assert len(child_of(Batch()).evaluate_some(repeated)) == 2
    uneven = [Sampling(repeats=3).sampled(c) for c in candidates(8)]
    assert len(child_of(Batch()).evaluate_some(uneven)) == 4  # three batches of four


def test_a_batch_that_is_taken_apart_is_done_with_before_the_bundle_rests(child_of, monkeypatch):
    monkeypatch.setattr("l2l_dask.process._LONG", 0.0)
    ended = child_of(Batch(exits)).evaluate_some(candidates(9))
    assert [e.status for e in ended] == [Status.DONE, Status.DONE, Status.CRASHED, Status.DONE]


def test_after_a_lost_process_a_bundle_that_took_long_is_returned(child_of, monkeypatch):
    monkeypatch.setattr("l2l_dask.process._LONG", 0.0)
    ended = child_of(lambda params: os._exit(1)).evaluate_some(candidates(9))
    assert [(e.id, e.status) for e in ended] == [(0, Status.CRASHED)]
