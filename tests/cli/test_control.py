"""Steering a running experiment: from another process, by signals, and by killing it."""

import contextlib
import os
import signal
import socket
import time

import numpy as np
import psutil
import pytest

from l2l_dask.evaluation import Status
from l2l_dask.trajectory import load
from l2l_dask.trajectory.actions import actions


def test_stop_pause_and_unpause_take_effect(start, store, l2l, n_done, wait_until, only_json):
    driver = start()

    def sent(command, reached):
        done = l2l(command, store)
        assert (done.returncode, done.stdout) == (0, ""), done.stderr
        wait_until(reached, 20)  # two seconds, on a machine that does nothing else

    assert load(store).state == "running"
    sent("pause", lambda: load(store).state == "paused")
    assert only_json(l2l("show", store, "--json"))["state"] == "paused"
    resting = n_done(store)
    sent("unpause", lambda: load(store).state == "running")
    wait_until(lambda: n_done(store) > resting)
    sent("stop", lambda: load(store).state == "stopped")
    _, err = driver.communicate(timeout=20)
    assert driver.returncode == 0
    assert "stopped: stopped by l2l stop" in err
    assert err.splitlines()[-1] == f"go on with: l2l resume {store}"
    assert only_json(l2l("show", store, "--json"))["state"] == "stopped"
    assert load(store).counts()["pending"] == 0
    done = actions(store)
    assert [each.what for each in done] == ["pause", "unpause", "stop"]
    assert {each.by for each in done} == {f"the command line on {socket.gethostname()}"}


def test_what_was_done_is_done_though_it_cannot_be_put_on_record(start, store, l2l):
    driver = start()
    (store / ".l2l" / "actions.jsonl").mkdir()
    done = l2l("stop", store)
    assert (done.returncode, done.stderr.splitlines()[0]) == (0, f"{store}: told to stop")
    assert "could not be put on record" in done.stderr
    driver.communicate(timeout=20)
    assert load(store).state == "stopped"


def test_a_paused_experiment_can_be_stopped(start, store, l2l, wait_until):
    driver = start()
    l2l("pause", store)
    wait_until(lambda: load(store).state == "paused")
    l2l("stop", store)
    driver.communicate(timeout=20)
    assert load(store).state == "stopped"


def test_a_driver_that_was_killed_leaves_an_interrupted_experiment_that_can_be_resumed(
    start, store, l2l, only_json, set_seconds
):
    driver = start()
    driver.kill()
    driver.wait()
    shown = only_json(l2l("show", store, "--json"))
    assert shown["state"] == "interrupted"
    n = shown["evaluations"]["total"]
    assert f"l2l resume {store}" in l2l("show", store).stdout
    set_seconds(0)
    n += 500  # more than the journal may hold beyond what is shown
    shown = only_json(l2l("resume", store, "--evaluations", n, "--json", "--no-report"))
    assert (shown["state"], shown["evaluations"]["done"]) == ("finished", n)


def test_a_second_driver_is_refused_and_harms_nothing(start, store, l2l, n_done, wait_until):
    driver = start()
    for words in (["resume", store], ["run", "e.toml"]):
        second = l2l(*words, "--no-report")
        assert (second.returncode, second.stdout) == (2, "")
        assert len(second.stderr.splitlines()) == 1, second.stderr
    assert str(driver.pid) in l2l("resume", store).stderr
    before = n_done(store)
    wait_until(lambda: n_done(store) > before)
    assert driver.poll() is None


@pytest.fixture
def local(start, home):
    """Start an endless experiment on the embedded cluster."""

    def local(*options, seconds):
        return start("--cluster", "local", "--workers", "2", *options, seconds=seconds, enough=3)

    return local


def test_ctrl_c_in_a_terminal_lets_what_runs_end(local, home, store):
    driver = local(seconds=1.0)
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does: the workers get it too
    out, err = driver.communicate(timeout=40)
    assert (driver.returncode, out) == (130, "")
    assert "stopped: interrupted by SIGINT" in err
    assert err.splitlines()[-1] == f"go on with: l2l resume {store}"
    left = load(store)
    done = np.flatnonzero(left.record["status"] == Status.DONE).tolist()
    assert done == sorted(int(id) for id in (home / "begun").read_text().split()), "each that began, and once"
    assert left.counts()["done"] + left.counts()["pending"] == left.counts()["total"]
    assert len(done) >= 3
    assert left.state == "stopped"


@pytest.fixture
def stuck(local, home, wait_until, set_seconds):
    """Start an experiment, and wait until both workers are at an evaluation that takes for ever."""

    def stuck():
        driver = local(seconds=0.2)
        set_seconds(1000)
        wait_until(lambda: len(list(home.glob("long-*"))) == 2)
        return driver

    return stuck


def test_ctrl_c_twice_stops_at_once_and_loses_nothing_told(stuck, store, l2l, only_json, set_seconds, press_again):
    driver = stuck()
    os.killpg(driver.pid, signal.SIGINT)
    time.sleep(0.5)
    assert driver.poll() is None
    press_again(driver, store)
    _, err = driver.communicate(timeout=40)
    assert driver.returncode == 130
    assert err.splitlines()[-1] == f"go on with: l2l resume {store}"
    left = load(store)
    assert (left.state, left.counts()["pending"]) == ("stopped", 2)
    set_seconds(0)
    n = len(left)
    shown = only_json(l2l("resume", store, "--evaluations", n, "--cluster", "serial", "--json", "--no-report"))
    assert (shown["state"], shown["evaluations"]["done"]) == ("finished", n)
    kept = left.record["told"] >= 0
    assert load(store).record["fitness"][kept].tolist() == left.record["fitness"][kept].tolist()


def test_a_driver_that_was_killed_takes_its_workers_and_all_that_they_started_along(stuck, wait_until):
    driver = stuck()
    family = psutil.Process(driver.pid).children(recursive=True)
    assert sum("l2l_dask.child" in process.cmdline() for process in family) >= 2
    driver.kill()
    driver.wait()
    wait_until(lambda: not any(is_alive(process) for process in family))


def is_alive(process):
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_to_end_stops_at_once(stuck, store, number):
    driver = stuck()
    driver.send_signal(number)
    _, err = driver.communicate(timeout=40)
    assert driver.returncode not in (0, -number)
    assert f"stopped: interrupted by {number.name}" in err
    assert (load(store).state, load(store).counts()["pending"]) == ("stopped", 2)


def test_a_hang_up_that_the_user_ignores_is_ignored(start, store, n_done, wait_until):
    driver = start(preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # as nohup does
    driver.send_signal(signal.SIGHUP)
    before = n_done(store)
    wait_until(lambda: n_done(store) > before + 20)
    assert driver.poll() is None
