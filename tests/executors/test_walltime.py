"""Workers that come to the ends of their batch jobs, and evaluations that take their workers with them."""

import contextlib
import itertools
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from distributed import Client

from l2l_dask import FunctionOptimizee, Real, Space, minimize, walltime
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Status
from l2l_dask.executors import dask as under_test
from l2l_dask.executors import needs
from l2l_dask.executors.dask import Dask
from l2l_dask.leaving import post_of
from l2l_dask.walltime import LEAVING, Life


@pytest.fixture
def client(empty_cluster):
    with Client(empty_cluster.address) as client:
        yield client


@pytest.fixture
def begun(tmp_path):
    """What has begun, in its order: individual, time, the process id of its worker."""
    log = tmp_path / "begun"
    log.touch()
    return lambda: [(int(id), float(at), int(pid)) for id, at, pid in map(str.split, log.read_text().splitlines())]


@pytest.fixture
def enough(tmp_path):
    """Let evaluations end at once."""
    return (tmp_path / "begun-enough").touch


@pytest.fixture
def start(client, tmp_path, until_withdrawn):
    """Start an executor that evaluates x in x seconds; a negative x kills the worker after that."""
    executors, log = [], str(tmp_path / "begun")
    killed = tmp_path / "begun-killed"
    killed.touch()

    def function(params, context):
        guard = os.getppid()
        worker = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
        with open(log, "a") as file:
            file.write(f"{context.id} {time.time()} {worker}\n")
        if params["x"] < 0:
            until_withdrawn(len(killed.read_text().split()))
        until = time.monotonic() + abs(params["x"])
        while time.monotonic() < until and not os.path.exists(log + "-enough"):
            time.sleep(0.01)
        if params["x"] < 0:
            with killed.open("a") as file:
                file.write(f"{worker}\n")
            os.kill(worker, signal.SIGKILL)
            time.sleep(60)
        return params["x"]

    def start(**options):
        executors.append(Dask(client, **options))
        optimizee = FunctionOptimizee(function, Space({"x": Real(-1, 100)}), minimize("f"))
        executors[-1].start(optimizee, Where("nowhere.zarr", f"walltime-{len(executors)}", 1))
        return executors[-1]

    yield start
    for executor in executors:
        executor.close()


def collected(executor, n, seconds=60):
    ended, until = [], time.monotonic() + seconds
    while len(ended) < n:
        assert time.monotonic() < until, f"only {ended} came"
        ended += executor.collect(0.1)
    return {e.id: e for e in ended}


def drive(executor, candidates, ended):
    """Evaluate as many at once as there are slots, into ``ended``."""
    submitted, candidates = 0, iter(candidates)
    candidate = next(candidates, None)
    while candidate is not None or len(ended) < submitted:
        if candidate is not None and executor.slots > submitted - len(ended):
            executor.submit([candidate])
            submitted, candidate = submitted + 1, next(candidates, None)
        else:
            ended |= {e.id: e for e in executor.collect(0.1)}


def candidates(seconds, first=0):
    return (Candidate(id, {"x": seconds}, 1) for id in itertools.count(first))


def far():
    """Choose an end for a worker's job that no test comes near to."""
    return str(time.time() + 600)


def set_life(client, seconds, fresh=0.1, leaving=LEAVING):
    """Let workers that live in jobs be ready just now, with so many seconds to evaluate; return when the jobs end.

    It takes long to start a worker on a busy machine: what is set afterwards is not used up by that.
    """
    end = time.time() + leaving + seconds

    def set_life(dask_worker):
        post = post_of(dask_worker)
        if post.life is not None:
            walltime._FRESH, walltime.LEAVING = fresh, leaving
            post.life = Life(time.time(), time.time(), end)
            post._untold += post._cuts
            post._look()  # the experiments here are told at once

    client.run(set_life)
    return end


def tire(client):
    """Let workers be ready for long: nothing that needs more than the rest of their lives begins there any more."""

    def tire(dask_worker):
        post = post_of(dask_worker)
        post.life = replace(post.life, ready=post.life.begin - 1000)

    client.run(tire)


def visits(client, executor):
    """Count how often an executor's futures went to a worker."""
    prefix = f"{executor._plugin}-"
    return client.run_on_scheduler(
        lambda dask_scheduler: sum(
            str(t.key).startswith(prefix) and t.finish == "processing" for t in dask_scheduler.transition_log
        )
    )


def ready(client, n):
    client.wait_for_workers(n, timeout=60)


def pids(client):
    return set(client.run(os.getpid).values())


def task_states(client):
    return sorted(client.run_on_scheduler(lambda dask_scheduler: [ts.state for ts in dask_scheduler.tasks.values()]))


def kill_all(nanny):
    for process in [psutil.Process(nanny.pid), *psutil.Process(nanny.pid).children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def test_a_worker_begins_nothing_that_it_cannot_end_then_goes_and_nothing_is_lost(
    empty_cluster, client, start, begun, monkeypatch
):
    monkeypatch.setattr(needs, "_MARGIN", 7.0)  # of the second that each takes: the machine may hesitate meanwhile
    nanny = empty_cluster.start_worker(2, L2L_JOB_END=far())
    ready(client, 1)
    (leaves,) = pids(client)
    empty_cluster.start_worker(1)
    ready(client, 2)
    executor = start()
    end = set_life(client, 14)
    endless, ended = (Candidate(id, {"x": 1.0}, 1) for id in itertools.count()), {}
    drive(executor, itertools.takewhile(lambda _: nanny.poll() is None, endless), ended)
    assert nanny.returncode == 0, "the batch job ends with it"
    assert time.time() < end + 2
    assert {e.status for e in ended.values()} == {Status.DONE}
    assert sorted(id for id, _, _ in begun()) == list(range(len(ended))), "each began once"
    there = [at for _, at, pid in begun() if pid == leaves]
    assert there
    assert max(there) + 1.0 < end - LEAVING
    empty_cluster.wait_until(lambda: executor.slots == 1)


def test_an_evaluation_that_a_worker_could_not_end_goes_to_another_and_an_idle_worker_goes_in_time(
    empty_cluster, client, start, begun, enough, caplog
):
    tired = empty_cluster.start_worker(2, L2L_JOB_END=far())
    ready(client, 1)
    executor = start(timeout=60.0)
    set_life(client, 50, fresh=0.5)
    executor.submit([Candidate(0, {"x": 45.0}, 1)])
    empty_cluster.wait_until(begun)
    tire(client)
    executor.submit([Candidate(1, {"x": 0.1}, 1)])
    empty_cluster.wait_until(lambda: executor.slots == 0)
    empty_cluster.wait_until(lambda: task_states(client) == ["no-worker", "processing"])
    enough()
    assert collected(executor, 1)[0].status is Status.DONE
    assert tired.wait(30) == 0
    assert [id for id, _, _ in begun()] == [0]
    idle = empty_cluster.start_worker(1, L2L_JOB_END=far())
    assert collected(executor, 1)[1].status is Status.DONE
    set_life(client, 62)
    tire(client)
    assert idle.wait(60) == 0
    assert [id for id, _, _ in begun()] == [0, 1]
    assert [record.message[:37] for record in caplog.records] == ["an evaluation may take 60 s (timeout)"]


def test_long_evaluations_of_one_experiment_leave_a_worker_to_the_short_ones_of_another_and_do_not_come_back_in_a_spin(
    empty_cluster, client, start, begun
):
    old = empty_cluster.start_worker(1, L2L_JOB_END=far())
    ready(client, 1)
    short, long = start(), start(timeout=1000.0)
    set_life(client, 100)
    ended = {}
    drive(short, [Candidate(0, {"x": 0.1}, 1)], ended)
    tire(client)
    long.submit(list(itertools.islice(candidates(0.1, 1000), 30)))
    looked = time.monotonic()

    def goes_on(_):
        seconds = time.monotonic() - looked
        return seconds < 3 or (seconds < 30 and (len(ended) <= 10 or visits(client, long) < 2 * 30))

    drive(short, itertools.takewhile(goes_on, candidates(0.1, 1)), ended)
    assert old.poll() is None
    assert len(ended) > 10
    seen = visits(client, long)
    assert 2 * 30 <= seen <= 30 * (time.monotonic() - looked + 2)
    assert set(client.run(lambda dask_worker: len(dask_worker.state.long_running)).values()) == {0}
    empty_cluster.start_worker(1)
    assert {e.status for e in collected(long, 30).values()} == {Status.DONE}
    assert sorted(id for id, _, _ in begun() if id >= 1000) == list(range(1000, 1030))
    end = set_life(client, 2, leaving=30.0)
    assert old.wait(end - time.time()) == 0


def test_what_its_job_ended_is_evaluated_elsewhere_unless_no_job_is_long_enough(
    empty_cluster, client, start, begun, enough, monkeypatch
):
    monkeypatch.setattr(under_test, "_LOSSES", 1)
    nanny = empty_cluster.start_worker(2, L2L_JOB_END=far())
    ready(client, 1)
    executor = start()
    executor.submit([Candidate(0, {"x": 100.0}, 1)])
    empty_cluster.wait_until(begun)
    set_life(client, 12)
    time.sleep(2)  # it is not fresh any more
    executor.submit([Candidate(1, {"x": 50.0}, 1)])
    empty_cluster.wait_until(lambda: len(begun()) == 2)
    empty_cluster.start_worker(1)
    ended = collected(executor, 1)
    assert nanny.wait(60) == 0
    empty_cluster.wait_until(lambda: len(begun()) == 3)
    enough()
    ended |= collected(executor, 1)
    assert (ended[1].status, ended[1].fitness) == (Status.DONE, (50.0,))
    assert [id for id, _, _ in begun()] == [0, 1, 1]
    assert ended[0].status is Status.TIMED_OUT
    assert ended[0].error.startswith("TimeoutError: took longer than a worker job lives (")
    assert ended[0].error.endswith(" s): give worker jobs more walltime")
    assert executor._needs.seconds >= 12


@pytest.mark.parametrize("over", [True, False])
def test_a_worker_that_is_killed_at_the_end_of_its_job_is_held_against_nobody(
    empty_cluster, client, start, begun, enough, monkeypatch, over
):
    monkeypatch.setattr(under_test, "_LOSSES", 1)
    nanny = empty_cluster.start_worker(1, L2L_JOB_END=far())
    ready(client, 1)
    executor = start()
    executor.submit([Candidate(0, {"x": 50.0}, 1)])
    ends = executor._accounts._ends._ends
    empty_cluster.wait_until(lambda: begun() and ends)
    ((worker, end),) = ends.items()
    assert end == pytest.approx(time.time() + 600, abs=60)
    if over:  # as if the worker had said so
        client.log_event(executor._plugin, {"worker": worker, "left": 1.0, "whole": 100.0})
        empty_cluster.wait_until(lambda: ends[worker] < end - 100)
    kill_all(nanny)
    if over:
        empty_cluster.start_worker(1)
        empty_cluster.wait_until(lambda: len(begun()) == 2)
        enough()
    ended = collected(executor, 1)
    assert ended[0].status is (Status.DONE if over else Status.CRASHED)
    assert [id for id, _, _ in begun()] == ([0, 0] if over else [0])


def test_what_is_given_up_is_ended_where_dask_began_it_again_and_its_place_is_for_others(
    empty_cluster, client, start, begun
):
    empty_cluster.start_worker(1)
    ready(client, 1)
    executor = start()
    executor.submit([Candidate(0, {"x": 100.0}, 1)])
    empty_cluster.wait_until(lambda: len(begun()) == 1)
    (future,) = executor._in_flight
    executor._taken(future)
    client.sync(executor._withdraw, [future.key])
    executor.submit([Candidate(1, {"x": 0.1}, 1)])
    assert collected(executor, 1, 20)[1].status is Status.DONE
    assert [id for id, _, _ in begun()] == [0, 1]


def test_an_individual_that_kills_its_workers_is_set_aside_and_its_neighbours_are_not(
    empty_cluster, client, start, tmp_path, monkeypatch
):
    for _ in range(2):
        empty_cluster.start_worker(2)
    ready(client, 2)
    executor, heard = start(), []
    hear = executor._accounts.hear
    monkeypatch.setattr(executor._accounts, "hear", lambda now, message: heard.append(message) or hear(now, message))
    endless, ended = (Candidate(id, {"x": -1.0 if id == 3 else 0.3}, 1) for id in itertools.count()), {}
    drive(executor, itertools.takewhile(lambda _: 3 not in ended, endless), ended)
    assert {id for id, e in ended.items() if e.status is not Status.DONE} == {3}
    assert ended[3].status is Status.CRASHED
    assert ended[3].error.startswith("WorkerLostError: each worker that evaluated it was lost: tcp://127.0.0.1:")
    assert ended[3].error.count("tcp://") == 3
    assert ended[3].error.split()[-1] in [message["worker"] for message in heard if "alone" in message]
    assert len((tmp_path / "begun-killed").read_text().split()) == 3
