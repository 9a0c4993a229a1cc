"""Bundles: what is to be done, in which units, who is to blame when a process is lost, and how repeats are merged."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_dask.bundle import Book, key
from l2l_dask.evaluation import Candidate, Evaluation, Status

LOST = Evaluation(-1, Status.CRASHED, error="lost", host="here", started=1.0, finished=2.0)


def candidates(n, repeats=1):
    return [Candidate(id, {}, 0, repeats=repeats) for id in range(n)]


def done(job, fitness=0.0):
    return Evaluation(job.id, Status.DONE, job.attempt, (fitness,), started=job.repeat, finished=job.repeat + 0.5)


def failed(job):
    return Evaluation(job.id, Status.FAILED, job.attempt, error="ValueError: no\ntraceback")


def begin(book, jobs):
    book.begin([key(job) for job in jobs])


def test_single_evaluations_are_units_of_their_own_in_order():
    assert [[job.id for job in unit] for unit in Book(candidates(3), 1).units()] == [[0], [1], [2]]


def test_a_batch_holds_as_many_as_the_optimizee_takes_repeats_included():
    keys = [[key(job) for job in unit] for unit in Book(candidates(2, repeats=3), 4).units()]
    assert keys == [[(0, 0), (0, 1), (0, 2), (1, 0)], [(1, 1), (1, 2)]]


def test_the_fitness_of_repeats_is_their_mean_and_the_spread_their_standard_deviation():
    book = Book(candidates(1, repeats=3), 1)
    for value, unit in zip([1.0, 2.0, 6.0], book.units(), strict=True):
        begin(book, unit)
        book.end([done(unit[0], value)])
    (whole,) = book.results()
    assert whole.fitness == (3.0,)
    assert whole.spread == pytest.approx([np.sqrt((4 + 1 + 9) / 2)])
    assert (whole.started, whole.finished) == (0, 2.5)


@pytest.mark.filterwarnings("error")
def test_repeats_whose_mean_is_too_large_for_a_number_fail_the_individual():
    book = Book(candidates(1, repeats=2), 1)
    for unit in book.units():
        begin(book, unit)
        book.end([done(unit[0], 1.7e308)])
    (whole,) = book.results()
    assert (whole.status, whole.fitness, whole.spread) == (Status.FAILED, (), ())
    assert whole.error == "EvaluationError: the mean of its repeats is not finite: [inf]"


def test_one_evaluation_has_no_spread():
    book = Book(candidates(1), 1)
    begin(book, book.units()[0])
    book.end([done(candidates(1)[0], 4.0)])
    assert book.results()[0].spread == ()


def test_an_individual_that_failed_once_is_not_repeated_and_says_which_evaluation_it_was():
    book = Book(candidates(2, repeats=3), 1)
    first, second, *_ = book.units()
    begin(book, first)
    book.end([done(first[0])])
    begin(book, second)
    book.end([failed(second[0])])
    assert [key(job) for unit in book.units() for job in unit] == [(1, 0), (1, 1), (1, 2)]
    for unit in book.units():
        begin(book, unit)
        book.end([done(unit[0])])
    failure, fine = book.results()
    assert failure.status is Status.FAILED
    assert failure.error == "ValueError: no (evaluation 2 of 3)\ntraceback"
    assert fine.status is Status.DONE


def test_the_one_that_was_under_way_is_to_blame_for_a_lost_process():
    book = Book(candidates(3), 1)
    begin(book, book.units()[0])
    book.end([done(candidates(1)[0])])
    begin(book, book.units()[0])
    book.blame(LOST)
    assert [[job.id for job in unit] for unit in book.units()] == [[2]]
    begin(book, book.units()[0])
    book.end([done(candidates(3)[2])])
    assert [(e.id, e.status, e.error) for e in book.results()] == [
        (0, Status.DONE, ""),
        (1, Status.CRASHED, "lost"),
        (2, Status.DONE, ""),
    ]


def test_of_a_batch_nobody_is_to_blame_each_is_tried_alone():
    book = Book(candidates(5), 3)
    begin(book, book.units()[0])
    book.blame(LOST)
    assert [[job.id for job in unit] for unit in book.units()] == [[0], [1], [2], [3, 4]]
    assert book.request(1.0).at_least == 3


def test_a_process_that_is_lost_before_it_began_is_nobodys_fault_the_first_time():
    book = Book(candidates(2), 1)
    book.blame(LOST)
    assert [[job.id for job in unit] for unit in book.units()] == [[0], [1]]
    book.blame(LOST)
    assert [[job.id for job in unit] for unit in book.units()] == [[1]]


def test_where_nothing_can_be_done_all_fail_for_the_same_reason():
    book = Book(candidates(3, repeats=2), 2)
    book.fail(LOST)
    assert book.over
    assert [(e.id, e.status) for e in book.results()] == [(id, Status.CRASHED) for id in range(3)]


def test_a_bundle_may_rest_where_no_individual_is_half_done_and_something_has_ended():
    book, rests = Book(candidates(3, repeats=2), 1), []
    for unit in book.units():
        rests.append(book.may_rest)
        begin(book, unit)
        book.end([done(unit[0])])
    assert [*rests, book.may_rest] == [False, False, True, False, True, False, True]


def test_a_bundle_does_not_rest_while_a_batch_is_taken_apart():
    book, rests = Book(candidates(5), 3), []
    begin(book, book.units()[0])
    book.blame(LOST)
    for unit in book.units():
        rests.append(book.may_rest)
        begin(book, unit)
        book.end([done(job) for job in unit])
    assert rests == [False, False, False, True]
    assert book.over


def test_results_are_of_those_that_are_done_with():
    book = Book(candidates(3, repeats=2), 1)
    for unit in book.units()[:3]:
        begin(book, unit)
        book.end([done(unit[0])])
    assert [e.id for e in book.results()] == [0]


@given(
    n=st.integers(1, 8),
    repeats=st.integers(1, 3),
    size=st.integers(1, 5),
    fates=st.lists(st.sampled_from(["done", "failed", "lost"]), max_size=60),
)
def test_whatever_happens_each_individual_has_one_result_and_only_what_it_did_counts(n, repeats, size, fates):
    given_up, fates = set(), iter(fates)
    book = Book(candidates(n, repeats), size)
    for _ in range(200):
        if book.over:
            break
        unit = book.units()[0]
        begin(book, unit)
        fate = next(fates, "done")
        if fate == "lost":
            given_up |= {job.id for job in unit} if len(unit) == 1 else set()
            book.blame(LOST)
        else:
            bad = unit[0].id if fate == "failed" else None
            given_up |= {bad} - {None}
            book.end([failed(job) if job.id == bad else done(job) for job in unit])
    assert book.over
    results = book.results()
    assert [e.id for e in results] == list(range(n))
    assert {e.id for e in results if e.status is not Status.DONE} == given_up
