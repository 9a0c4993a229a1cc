"""The virtual cluster: its clock can be followed by hand."""

import itertools

import numpy as np
import pytest

from l2l_dask import FunctionOptimizee, Real, Space, minimize
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.executors import Simulated
from l2l_dask.experiment import Experiment

SPACE = Space({"x": Real(0, 1)})
NOWHERE = Where("nowhere.zarr", "", 1)
F = FunctionOptimizee(lambda params: params["x"], SPACE, minimize("f"))


def candidates(n, seed=1):
    return [Candidate(id, {"x": id / n}, seed=seed) for id in range(n)]


def simulated(workers, durations):
    executor = Simulated(workers, lambda candidate, rng: durations[candidate.id])
    executor.start(F, NOWHERE)
    return executor


def drain(executor):
    ended = []
    while batch := executor.collect(0):
        ended += batch
    return ended


def test_time_passes_on_the_virtual_clock_alone():
    executor = simulated(2, [3, 1, 1, 4, 2])
    executor.submit(candidates(5))
    ended = drain(executor)
    # worker 0: 0 until 3, then 4 from 3 to 5; worker 1: 1 until 1, 2 until 2, 3 from 2 to 6.
    assert [(e.id, e.started, e.finished, e.worker) for e in ended] == [
        (1, 0.0, 1.0, "virtual-1"),
        (2, 1.0, 2.0, "virtual-1"),
        (0, 0.0, 3.0, "virtual-0"),
        (4, 3.0, 5.0, "virtual-0"),
        (3, 2.0, 6.0, "virtual-1"),
    ]
    assert executor.now == 6.0
    assert [(e.status, e.fitness) for e in ended] == [(Status.DONE, (e.id / 5,)) for e in ended]


@pytest.mark.parametrize("workers", [1, 3, 50])
def test_equal_durations_take_as_many_rounds_as_there_is_work_for_the_workers(workers):
    executor = simulated(workers, [2.0] * 20)
    executor.submit(candidates(20))
    drain(executor)
    assert executor.now == 2.0 * -(-20 // workers)


def test_no_worker_does_two_things_at_once():
    durations = np.random.default_rng(0).lognormal(size=200).tolist()
    executor = simulated(7, durations)
    executor.submit(candidates(200))
    ended = drain(executor)
    assert len(ended) == 200
    assert {e.worker for e in ended} == {f"virtual-{w}" for w in range(7)}
    for worker in {e.worker for e in ended}:
        own = sorted((e.started, e.finished) for e in ended if e.worker == worker)
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(own))
    assert sum(e.seconds for e in ended) == pytest.approx(sum(durations))


def test_what_is_submitted_later_starts_later():
    executor = simulated(1, [1, 5, 1])
    first, second, third = candidates(3)
    executor.submit([first])
    (e,) = executor.collect(0)
    assert (e.started, e.finished) == (0.0, 1.0)
    executor.submit([second, third])
    assert [(e.started, e.finished) for e in drain(executor)] == [(1.0, 6.0), (6.0, 7.0)]


def test_slots_are_the_workers_and_nothing_waits_in_reserve():
    executor = simulated(7, [])
    assert (executor.slots, executor.capacity) == (7, 7)
    assert executor.collect(0.001) == []


def test_what_was_running_when_it_was_closed_holds_no_slot_afterwards():
    executor = simulated(2, [1.0] * 4)
    executor.submit(candidates(3))
    executor.close()
    executor.submit(candidates(4)[3:])
    assert [e.id for e in drain(executor)] == [3]


def durations(order, seed=9, workers=2):
    """Return what lasts how long, by id, where individuals are submitted one by one in that order."""

    def seconds(_, rng):
        rng.random(3, dtype="f4")  # leaves half a number for the next draw
        return rng.lognormal()

    executor, ended = Simulated(workers, seconds), []
    executor.start(F, NOWHERE)
    for id in order:
        executor.submit([Candidate(id, {"x": 0.5}, seed=seed)])
        ended += executor.collect(0)
    return {e.id: e.seconds for e in [*ended, *drain(executor)]}


def test_durations_depend_on_the_individual_and_the_seed_alone():
    found = durations(range(40))
    assert len(set(found.values())) == 40
    assert durations(reversed(range(40)), workers=7) == pytest.approx(found)
    assert durations([7, 7, 3])[7] == pytest.approx(found[7]), "a further attempt takes as long"
    assert not set(durations(range(40), seed=10).values()) & set(found.values())


def test_submitted_is_when_it_was_submitted_and_not_when_it_began():
    executor = simulated(1, [2, 3, 1])
    executor.submit(candidates(2))
    (first,) = executor.collect(0)
    executor.submit(candidates(3)[2:])
    ended = [first, *drain(executor)]
    assert [(e.submitted, e.started, e.finished) for e in ended] == [(0.0, 0.0, 2.0), (0.0, 2.0, 5.0), (2.0, 5.0, 6.0)]


def busy_share(ended, workers):
    """The share of the workers' time in work until the first of them ran out of it."""
    started, finished = ended.record["started"], ended.record["finished"]
    until = started.max()
    return (np.minimum(finished, until) - started).sum() / (workers * until)


def run(store, optimizer, workers, evaluations, seconds, **options):
    experiment = Experiment(
        F, optimizer, store=store, evaluations=evaluations, optimizer_options=options, cluster="serial"
    )
    return experiment.run(Simulated(workers, seconds))


def test_an_asynchronous_search_keeps_all_workers_busy(tmp_path):
    ended = run(tmp_path / "a.zarr", "steady-state-ga", 8, 300, lambda candidate, rng: rng.lognormal())
    assert (ended.state, ended.counts()["done"]) == ("finished", 300)
    assert busy_share(ended, 8) == pytest.approx(1.0)


def test_a_generation_lasts_as_long_as_its_slowest(tmp_path):
    ended = run(tmp_path / "a.zarr", "genetic", 8, 32, lambda candidate, rng: 1.0 + (candidate.id % 8 == 0), pop_size=8)
    assert ended.state == "finished"
    assert ended.record["finished"].max() == 4 * 2.0
    assert busy_share(ended, 8) < 0.7


def test_never_more_run_at_once_than_there_are_workers(tmp_path):
    ended = run(tmp_path / "a.zarr", "random", 5, 100, lambda candidate, rng: rng.exponential())
    starts, ends = ended.record["started"], ended.record["finished"]
    running = [int(((starts <= t) & (ends > t)).sum()) for t in starts]
    assert max(running) == 5
