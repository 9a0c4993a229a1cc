"""The lease: a store has one writer, however many want it and however they end."""

import contextlib
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time

import psutil
import pytest

from l2l_dask import Experiment, Real, Space, minimize
from l2l_dask.errors import LockedError
from l2l_dask.trajectory import lease as leases
from l2l_dask.trajectory import load
from l2l_dask.trajectory.journal import claim
from l2l_dask.trajectory.layout import Layout, read_json, write_json
from l2l_dask.trajectory.lease import Lease, acquire

NEVER = 1e6  # seconds to the next beat


@pytest.fixture
def layout(tmp_path):
    layout = Layout(tmp_path / "store.zarr")
    layout.private.mkdir(parents=True)
    return layout


class Clock:
    """The lease's clock in place of the machine's: only who sleeps lets it go on, and something happens meanwhile."""

    def __init__(self):
        self.now, self.meanwhile = 0.0, lambda: None

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds
        self.meanwhile()


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(leases, "time", clock)
    return clock


@contextlib.contextmanager
def held(layout, **options):
    lease = acquire(layout, **options)
    try:
        yield lease
    finally:
        lease.release()


HOLD = """
import sys, time
from pathlib import Path
from l2l_dask.trajectory.layout import Layout
from l2l_dask.trajectory.lease import acquire
acquire(Layout(Path(sys.argv[1])))
print("held", flush=True)
time.sleep(600)
"""


@contextlib.contextmanager
def holder(layout):
    """Run another process that holds the store."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, layout.root], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def elsewhere(layout, beat=0, released=False, epoch=1):
    """Write the lease of a holder on another machine, whose process ids say nothing here."""
    content = {"epoch": epoch, "beat": beat, "released": released, "host": "elsewhere", "machine": "elsewhere boot"}
    write_json(layout.lease, content | {"pid": os.getpid(), "started": 0.0})
    claim(layout.journal(epoch))


def test_a_live_holder_is_named_and_keeps_the_store(layout, clock):
    with holder(layout) as process:
        with pytest.raises(LockedError, match=rf"process {process.pid} on {socket.gethostname()}") as caught:
            acquire(layout)
        assert clock.now == 0
        assert len(str(caught.value).splitlines()) == 1
        assert read_json(layout.lease)["pid"] == process.pid


def test_a_process_does_not_take_its_own_store_twice(layout):
    with held(layout), pytest.raises(LockedError, match=f"process {os.getpid()} "):
        acquire(layout)


@pytest.mark.parametrize("buried", [True, False])
def test_a_killed_holders_store_is_taken_at_once_also_if_nobody_waited_for_it(layout, buried, clock):
    with holder(layout) as process:
        process.send_signal(signal.SIGKILL)
        if buried:
            process.wait()
        else:
            psutil_waits_for_the_zombie(process.pid)
        with held(layout) as lease:
            assert lease.epoch == 2
        assert clock.now == 0


def psutil_waits_for_the_zombie(pid):
    while psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)


def test_a_holder_whose_process_id_is_now_anothers_is_gone(layout):
    with held(layout):
        content = read_json(layout.lease)
    with holder(layout) as process:
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)  # from now on it writes no beat
        write_json(layout.lease, content | {"pid": process.pid, "epoch": 2})
        with held(layout) as lease:
            assert lease.epoch == 3


@pytest.mark.skipif(sys.platform != "linux", reason="patches psutil where it reads Linux's clock")
def test_a_holder_lives_on_when_the_machines_clock_is_set(layout, monkeypatch):
    with holder(layout):
        boot = psutil.boot_time()
        monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot + 3600.0)
        with pytest.raises(LockedError):
            acquire(layout)


def test_a_released_store_is_taken_at_once_and_epochs_grow(layout, clock):
    epochs = []
    for _ in range(3):
        with held(layout) as lease:
            epochs.append(lease.epoch)
    assert epochs == layout.epochs() == [1, 2, 3]
    assert clock.now == 0


def test_a_holder_elsewhere_must_be_silent_for_as_long_as_patience_lasts(layout, clock):
    elsewhere(layout)
    with held(layout, patience=1.5) as lease:
        assert lease.epoch == 2
    assert 1.5 <= clock.now < 2


def test_a_holder_elsewhere_whose_beat_grows_keeps_the_store(layout, clock):
    elsewhere(layout)
    clock.meanwhile = lambda: elsewhere(layout, beat=int(clock.now >= 1.5))
    with pytest.raises(LockedError, match="on elsewhere"):
        acquire(layout, patience=5.0)
    assert 1.5 <= clock.now < 2
    assert layout.epochs() == [1]


def test_a_store_released_elsewhere_is_taken_at_once_also_while_waiting_for_it(layout, clock):
    elsewhere(layout, released=True)
    with held(layout, patience=60.0):
        assert clock.now == 0
    elsewhere(layout, epoch=3)
    clock.meanwhile = lambda: elsewhere(layout, released=clock.now >= 5, epoch=3)
    with held(layout, patience=60.0) as lease:
        assert lease.epoch == 4
    assert 5 <= clock.now < 6


def test_a_holders_beat_grows(layout, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", 0.02)
    with held(layout):
        first, until = read_json(layout.lease)["beat"], time.monotonic() + 60
        while read_json(layout.lease)["beat"] < first + 3:
            assert time.monotonic() < until
            time.sleep(0.01)


def test_a_holder_notices_that_it_was_taken_over_and_does_not_disturb_the_taker(layout, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", NEVER)
    lost = acquire(layout)
    lost.check()
    claim(layout.journal(2))
    with pytest.raises(LockedError, match="taken over by another driver"):
        lost.check()
    write_json(layout.lease, taken := {"epoch": 2})
    with pytest.raises(LockedError):
        lost.check()
    lost.release()
    assert read_json(layout.lease) == taken


def test_releasing_again_does_not_disturb_the_next_holder(layout, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", NEVER)
    first = acquire(layout)
    first.release()
    with held(layout):
        content = read_json(layout.lease)
        first.release()
        assert read_json(layout.lease) == content


@pytest.mark.parametrize("before", [0, 1])
def test_a_claimant_that_died_before_its_lease_blocks_nobody(layout, before, monkeypatch):
    monkeypatch.setattr(leases, "_CLAIM_PATIENCE", 0.5)
    for _ in range(before):
        acquire(layout).release()
    claim(layout.journal(before + 1))
    with held(layout) as lease:
        assert lease.epoch == before + 2
    with held(layout) as lease:
        assert lease.epoch == before + 3


def test_a_claimant_that_was_passed_while_it_slept_does_not_get_the_store(layout):
    claim(layout.journal(1))
    claim(layout.journal(2))
    with pytest.raises(LockedError, match="taken over"):
        Lease(layout, 1)
    assert not layout.lease.exists()


def _take(layout, gate, outcomes, over):
    gate.wait()
    try:
        lease = acquire(layout)
    except LockedError:
        outcomes.put(None)
        return
    outcomes.put(lease.epoch)
    over.wait(200)
    lease.release()


@pytest.mark.parametrize("before", [0, 2])
def test_of_many_takers_at_once_exactly_one_wins_and_all_others_are_refused(layout, before, monkeypatch):
    monkeypatch.setattr(leases, "_CLAIM_PATIENCE", 100)
    for _ in range(before):
        acquire(layout).release()
    context = multiprocessing.get_context("fork")
    gate, outcomes, over = context.Barrier(6), context.SimpleQueue(), context.Event()
    takers = [context.Process(target=_take, args=(layout, gate, outcomes, over)) for _ in range(6)]
    for taker in takers:
        taker.start()
    results = [outcomes.get() for _ in takers]
    over.set()
    for taker in takers:
        taker.join()
    assert sorted(results, key=bool) == [None] * 5 + [before + 1]


@pytest.mark.parametrize("left", ["", "{"])
def test_a_lease_that_a_power_failure_damaged_is_taken_over_after_the_patience(layout, left, clock):
    first = acquire(layout)
    first.release()
    layout.lease.write_text(left)
    second = acquire(layout, patience=1.0)
    assert clock.now == 1
    assert second.epoch == first.epoch + 1
    second.release()


def test_a_driver_whose_store_was_taken_over_stops_and_leaves_the_takers_store_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "BEAT", NEVER)
    store = tmp_path / "store.zarr"
    experiment = Experiment(
        lambda params: time.sleep(0.01) or params["a"],
        "random",
        store=store,
        evaluations=100_000,
        space=Space({"a": Real(0, 1)}),
        objectives=minimize("loss"),
        cluster="serial",
    )
    handle, layout = experiment.start(), Layout(store)
    while not (layout.lease.exists() and len(load(store))):
        time.sleep(0.05)
    claim(layout.journal(2))
    write_json(layout.lease, taken := {"epoch": 2})
    write_json(layout.state, state := {"state": "finished", "epoch": 2})
    with pytest.raises(LockedError, match="taken over by another driver: this one stops"):
        handle.wait(60)
    assert read_json(layout.lease) == taken
    assert read_json(layout.state) == state


def test_the_lease_of_a_machine_that_is_known_to_be_gone_is_nobodys_at_once(layout, clock):
    lost = {"epoch": 3, "beat": 7, "released": False, "machine": "n7", "host": "n7", "pid": 1, "started": 0.0}
    write_json(layout.lease, lost)
    leases.release_of_the_dead([layout.root], "n8")
    assert not read_json(layout.lease)["released"]
    leases.release_of_the_dead([layout.root], "n7")
    waited = clock.now
    acquire(layout).release()
    assert clock.now == waited


def test_the_lease_of_a_machine_that_only_seems_gone_is_left_alone(layout, clock):
    lease = {"epoch": 3, "beat": 7, "released": False, "machine": "n7", "host": "n7", "pid": 1, "started": 0.0}
    write_json(layout.lease, lease)
    clock.meanwhile = lambda: write_json(layout.lease, lease | {"beat": 8})
    leases.release_of_the_dead([layout.root], "n7")
    assert not read_json(layout.lease)["released"]
