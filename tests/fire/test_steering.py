"""Steering a running experiment from another process, and two drivers that want the same store."""

import os
import signal
import time

import pytest

from l2l_dask.trajectory import load

AT_ONCE = 2.0  # seconds; measured again and again, the quickest counts, so that a busy machine does no harm
PROMPT = 30.0  # seconds, of a thousand that would pass otherwise


@pytest.mark.slow
def test_pause_and_unpause_take_effect_within_two_seconds_and_a_pause_is_one(
    begin, begun, ended, store, l2l, wait_until
):
    def rests():
        before = begun()
        assert l2l("show", store).returncode == 0  # which takes as long as several evaluations
        return ended() == begun() == before

    begin()
    took = {"pause": [], "unpause": []}
    for _ in range(3):
        for command, state in (("pause", "paused"), ("unpause", "running")):
            done = l2l(command, store)
            assert done.returncode == 0, done.stderr
            since = time.monotonic()
            wait_until(lambda state=state: load(store).state == state)
            if command == "unpause":
                before = begun()
                wait_until(lambda before=before: begun() > before)
            took[command].append(time.monotonic() - since)
            if command == "pause":
                wait_until(rests)
    assert min(took["pause"]) < AT_ONCE, took
    assert min(took["unpause"]) < AT_ONCE, took


@pytest.mark.slow
@pytest.mark.parametrize("now", [[], ["--now"]])
def test_stop_takes_effect_within_two_seconds(begin, begun, ended, store, l2l, wait_until, now):
    took, driver = [], begin()
    for _ in range(3):
        done = l2l("stop", store, *now)
        assert done.returncode == 0, done.stderr
        since = time.monotonic()
        wait_until(lambda: load(store).state == "stopped")
        took.append(time.monotonic() - since)
        _, err = driver.communicate(timeout=PROMPT)
        assert driver.returncode == 0, err
        assert "stopped: stopped by l2l stop" in err
        assert now or ended() == begun()
        if min(took) < AT_ONCE:
            break
        driver = begin("resume", store)
    assert min(took) < AT_ONCE, took


@pytest.fixture
def thinking(begin, store, wait_until):
    """Run an experiment whose optimizer is busy for a quarter of an hour."""
    config = store.parent / "e.toml"
    config.write_text(config.read_text().replace('name = "random"', 'name = "model.py:Thinker"'))
    driver = begin(n=3)
    wait_until((store.parent / "thinking").exists)
    return driver


@pytest.mark.slow
def test_pause_is_heard_while_the_optimizer_is_busy(thinking, store, l2l, wait_until):
    assert l2l("pause", store).returncode == 0
    wait_until(lambda: load(store).state == "paused")


@pytest.mark.slow
def test_stop_now_ends_the_driver_while_the_optimizer_is_busy(thinking, store, l2l):
    assert l2l("stop", store, "--now").returncode == 0
    _, err = thinking.communicate(timeout=PROMPT)
    assert thinking.returncode == 0, err
    assert "stopped: stopped by l2l stop" in err
    assert load(store).state == "stopped"


@pytest.mark.slow
@pytest.mark.parametrize("numbers", [[signal.SIGTERM], [signal.SIGINT, signal.SIGINT]], ids=["SIGTERM", "Ctrl-C twice"])
def test_a_signal_ends_the_driver_while_the_optimizer_is_busy(thinking, store, numbers, press_again):
    os.killpg(thinking.pid, numbers[0])
    if numbers[1:]:
        time.sleep(0.2)
        press_again(thinking, store)
    _, err = thinking.communicate(timeout=PROMPT)
    assert thinking.returncode == 130, err
    assert load(store).state == "stopped"


@pytest.mark.slow
def test_of_drivers_that_resume_at_once_one_goes_on_and_the_others_are_one_line(begin, store, l2l, ended, wait_until):
    killed = begin()
    killed.kill()
    killed.communicate()
    before = ended()
    drivers = [l2l.start("resume", store, "--no-report") for _ in range(3)]
    wait_until(lambda: sum(driver.poll() is None for driver in drivers) <= 1, seconds=60)
    wait_until(lambda: ended() > before, seconds=60)
    (winner,) = [driver for driver in drivers if driver.poll() is None]
    for driver in drivers:
        if driver is not winner:
            out, err = driver.communicate()
            assert (driver.returncode, out, len(err.splitlines())) == (2, "", 1), err
            assert err.startswith("l2l: "), err
    before = ended()
    winner.kill()
    winner.communicate()
    begin("resume", store, n=1)  # at once: long before a silent driver of another machine would be given up
    assert ended() > before


@pytest.mark.slow
def test_a_driver_that_is_suspended_keeps_its_store_and_goes_on(begin, store, l2l, ended, wait_until):
    driver = begin("run", "e.toml", "--cluster", "serial")
    driver.send_signal(signal.SIGSTOP)
    second = l2l("resume", store, "--no-report")
    assert (second.returncode, second.stdout, len(second.stderr.splitlines())) == (2, "", 1), second.stderr
    assert str(driver.pid) in second.stderr
    before = ended()
    driver.send_signal(signal.SIGCONT)
    wait_until(lambda: ended() > before)
    assert driver.poll() is None
