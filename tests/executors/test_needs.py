"""How long an evaluation may need."""

import pytest

from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors.needs import Needs


def took(seconds, id=0, status=Status.DONE):
    return Evaluation(id, status, started=100.0, finished=100.0 + seconds)


@pytest.mark.parametrize(("timeout", "seconds"), [(None, 0.0), (60.0, 60.0)])
def test_before_any_has_ended_it_is_what_was_declared(timeout, seconds):
    assert Needs(timeout).seconds == seconds


def test_it_is_the_longest_so_far_and_something_more_however_that_ended():
    needs = Needs(None)
    for seconds, status in ((2.0, Status.DONE), (10.0, Status.FAILED), (5.0, Status.DONE)):
        needs.note([], [took(seconds, status=status)])
    assert needs.seconds == pytest.approx(12.0)


def test_it_is_never_more_than_the_timeout():
    needs = Needs(11.0)
    needs.note([], [took(10.0)])
    assert needs.seconds == 11.0


def test_it_is_of_one_evaluation_where_an_individual_has_several():
    needs = Needs(None)
    needs.note([Candidate(0, {}, 1, repeats=5), Candidate(1, {}, 1)], [took(50.0, 0), took(2.0, 1)])
    assert needs.seconds == pytest.approx(12.0)


def test_a_duration_that_is_not_known_says_nothing_and_each_that_does_has_a_number():
    needs = Needs(None)
    needs.note([], [Evaluation(0, Status.CRASHED), took(-1.0)])
    assert (needs.seconds, needs.number) == (0.0, 0)
    needs.saw(3.0)
    needs.saw(1.0)
    assert (needs.seconds, needs.number) == (pytest.approx(3.6), 1)


def test_a_timeout_that_is_longer_than_a_worker_lives_is_warned_of_once():
    needs = Needs(100.0)
    assert needs.warning(101.0) == ""
    assert "may take 100 s (timeout), but the jobs of the workers leave it 50 s" in needs.warning(50.0)
    assert needs.warning(50.0) == Needs(None).warning(50.0) == ""
