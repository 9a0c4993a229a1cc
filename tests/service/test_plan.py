"""What a service does next follows from what happened, and from nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_dask.service.plan import Rota, Scale, is_worth_following, margin

WAITING = st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 100), max_size=8)


@given(WAITING, st.integers(1, 4), st.integers(0, 6))
def test_who_came_first_is_driven_first_and_no_more_than_may_be_at_once(waiting, at_once, running):
    started = Rota(at_once).start(waiting, running, now=0.0)
    assert len(started) == min(len(waiting), max(0, at_once - running))
    left = [waiting[name] for name in waiting.keys() - set(started)]
    assert all(waiting[name] <= min(left, default=200) for name in started)


def test_a_driver_that_gets_nowhere_is_tried_again_later_and_later_and_then_given_up():
    rota, now, pauses = Rota(1), 0.0, []
    while "a" not in rota.given_up:
        assert rota.start({"a": 0.0}, 0, now) == ["a"]
        rota.ended("a", "lost", "it broke", progressed=False, now=now)
        begun = now
        while "a" not in rota.given_up and not rota.start({"a": 0.0}, 0, now):
            now += 0.5
        pauses.append(now - begun)
    assert pauses[:3] == [1, 2, 4]
    assert "it broke" in rota.given_up["a"]
    assert rota.start({"a": 0.0}, 0, now + 1000) == []
    rota.forgive("a")
    assert rota.start({"a": 0.0}, 0, now) == ["a"]


def test_a_driver_that_got_further_is_never_given_up():
    rota, now = Rota(1), 0.0
    for _ in range(50):
        rota.ended("a", "lost", "its node failed", progressed=True, now=now)
        now += 1.0
        assert rota.start({"a": 0.0}, 0, now) == ["a"]


def test_what_cannot_go_on_is_given_up_at_once_and_what_another_one_drives_never():
    rota = Rota(2)
    rota.ended("a", "refused", "there is no file model.py", progressed=False, now=0.0)
    assert rota.given_up == {"a": "there is no file model.py"}
    for now in range(100):
        rota.ended("b", "locked", "another driver", progressed=False, now=float(now))
    assert "b" not in rota.given_up


_slots = st.just(0.0) | st.floats(0.001, 200)


@given(st.lists(st.tuples(st.floats(0.1, 30), _slots), max_size=30), st.integers(0, 3), st.integers(3, 9))
def test_worker_jobs_stay_within_bounds_come_at_once_and_go_only_when_long_not_needed(steps, fewest, most):
    scale, now, seen = Scale(fewest, most, slots=4, idle=20.0), 0.0, []
    for pause, slots in steps:
        now += pause
        jobs = scale.jobs(slots, now)
        seen.append((now, min(most, max(fewest, -(-slots // 4)))))
        assert fewest <= jobs <= most
        assert jobs == max(needed for when, needed in seen if when >= now - 20.0)


def test_a_service_leaves_in_time_and_has_no_successor_where_starts_end_at_once():
    assert margin(60) == 20
    assert margin(86400) == 60
    assert is_worth_following([])
    assert is_worth_following([3.0, 2.0])
    assert not is_worth_following([5000.0, 3.0, 2.0, 1.0])
    assert is_worth_following([1.0, 2.0, 3.0, 600.0])


@pytest.mark.parametrize("how", ["ended", "left"])
def test_a_good_end_wipes_out_what_failed_before(how):
    rota = Rota(1)
    for _ in range(5):
        rota.ended("a", "lost", "", progressed=False, now=0.0)
    rota.ended("a", how, "", progressed=False, now=0.0)
    rota.ended("a", "lost", "", progressed=False, now=0.0)
    assert not rota.given_up
