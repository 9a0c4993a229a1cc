"""The loop: events in, instructions out, by example."""

from dataclasses import replace

from l2l_dask.evaluation import Evaluation, Goal, Objectives, Status, maximize, minimize
from l2l_dask.loop import (
    Arrived,
    Ask,
    Asked,
    Capacity,
    Control,
    Finish,
    Keep,
    Loop,
    Pause,
    Policy,
    Repeat,
    Submit,
    Tell,
    Told,
)

TEN = Policy(10)


def done(id, attempt=1):
    return Evaluation(id, Status.DONE, attempt, (0.0,))


def failed(id, error="ValueError: x", attempt=1):
    return Evaluation(id, Status.FAILED, attempt, error=error)


def crashed(id, attempt=1):
    return Evaluation(id, Status.CRASHED, attempt, error="killed")


def arrived(*evaluations):
    return Arrived(evaluations)


def running(n, policy=TEN, capacity=None):
    """Return a loop with the individuals 0 to n - 1 in flight, and the optimizer idle if it is full."""
    loop = Loop(policy)
    assert loop.handle(Capacity(capacity or n)) == [Ask(min(capacity or n, policy.evaluations))]
    loop.handle(Asked(0, n))
    return loop


def test_free_capacity_is_asked_for_and_what_was_asked_is_submitted():
    loop = Loop(TEN)
    assert loop.handle(Capacity(3)) == [Ask(3)]
    assert loop.handle(Asked(0, 3)) == [Submit((0, 1, 2))]
    assert loop.handle(Capacity(5)) == [Ask(2)]


def test_the_last_ask_is_for_what_is_left_of_the_budget():
    assert Loop(TEN, n_asked=8).handle(Capacity(5)) == [Ask(2)]


def test_nothing_is_asked_without_capacity():
    loop = Loop(TEN)
    assert loop.handle(Capacity(0)) == []
    assert loop.handle(Capacity(1)) == [Ask(1)]


def test_a_result_is_kept_then_told_then_replaced():
    loop = running(2)
    assert loop.handle(arrived(done(1))) == [Keep((done(1),)), Tell((1,))]
    assert loop.handle(Told()) == [Ask(1)]


def test_results_that_come_while_the_optimizer_works_are_kept_at_once_and_told_together_in_id_order():
    loop = running(3)
    loop.handle(arrived(done(1)))
    assert loop.handle(arrived(done(2))) == [Keep((done(2),))]
    assert loop.handle(arrived(done(0))) == [Keep((done(0),))]
    assert loop.handle(Told()) == [Tell((0, 2))]


def test_a_barrier_waits_for_a_result_and_asks_again_after_telling_it():
    loop = running(1, capacity=3)
    assert loop.handle(Asked(1, 0)) == []
    assert loop.handle(Capacity(4)) == []
    assert loop.handle(arrived(done(0))) == [Keep((done(0),)), Tell((0,))]
    assert loop.handle(Told()) == [Ask(4)]


def test_an_optimizer_that_waits_for_nothing_fails_the_experiment():
    loop = Loop(TEN)
    loop.handle(Capacity(1))
    assert loop.handle(Asked(0, 0)) == [
        Finish("failed", "the optimizer asks for nothing although it knows all results")
    ]


def test_an_optimizer_that_is_done_ends_the_search_once_all_is_told():
    loop = Loop(TEN)
    loop.handle(Capacity(2))
    assert loop.handle(Asked(0, 1, done=True)) == [Submit((0,))]
    assert loop.handle(arrived(done(0))) == [Keep((done(0),)), Tell((0,))]
    assert loop.handle(Told()) == [Finish("finished", "the optimizer has nothing more to ask")]


def test_the_budget_ends_the_search_once_all_is_told():
    loop = running(2, Policy(2))
    loop.handle(arrived(done(0), done(1)))
    assert loop.handle(Told()) == [Finish("finished", "all evaluations done")]


def test_a_crash_is_tried_again_with_the_next_attempt_number_and_kept_after_the_last():
    loop = running(1, Policy(10, retries=2))
    assert loop.handle(arrived(crashed(0, 1))) == [Submit((0,), 2)]
    assert loop.handle(arrived(crashed(0, 2))) == [Submit((0,), 3)]
    assert loop.handle(arrived(crashed(0, 3))) == [Keep((crashed(0, 3),)), Tell((0,))]


def test_what_is_hopeless_is_not_tried_again():
    loop, given_up = running(1), replace(crashed(0), hopeless=True)
    assert loop.handle(arrived(given_up))[0] == Keep((given_up,))


def test_an_exception_is_tried_again_only_if_the_policy_says_so():
    assert running(1).handle(arrived(failed(0)))[0] == Keep((failed(0),))
    loop = running(1, Policy(10, retry_on=frozenset({Status.FAILED})))
    assert loop.handle(arrived(failed(0))) == [Submit((0,), 2)]


def test_the_result_of_an_attempt_that_was_given_up_is_ignored():
    loop = running(1)
    loop.handle(arrived(crashed(0, 1)))
    assert loop.handle(arrived(done(0, 1))) == []
    assert loop.handle(arrived(done(7, 1))) == []
    assert loop.handle(arrived(done(0, 2))) == [Keep((done(0, 2),)), Tell((0,))]
    assert loop.handle(arrived(done(0, 2))) == []


def test_too_many_failures_in_a_row_end_it_with_the_first_error():
    loop = running(3, Policy(10, max_failures_in_a_row=3))
    loop.handle(arrived(failed(0, "NameError: first"), failed(1)))
    loop.handle(Told())
    assert loop.handle(arrived(failed(2, "NameError: last"))) == [Keep((failed(2, "NameError: last"),))]
    assert loop.handle(Asked(3, 1)) == [
        Submit((3,)),
        Finish("failed", "3 evaluations failed in a row, the first: NameError: first"),
    ]


def test_a_success_between_failures_starts_the_count_anew_and_no_limit_never_ends():
    loop = running(5, Policy(10, max_failures_in_a_row=3))
    assert not finish(loop.handle(arrived(failed(0), failed(1), done(2), failed(3), failed(4))))
    loop = running(5, Policy(10, max_failures_in_a_row=0))
    assert not finish(loop.handle(arrived(*(failed(i) for i in range(5)))))


def test_a_success_after_too_many_failures_does_not_save_it():
    loop = running(4, Policy(10, max_failures_in_a_row=3))
    assert finish(loop.handle(arrived(failed(0), failed(1), failed(2), done(3)))).outcome == "failed"


def finish(instructions):
    return next((i for i in instructions if isinstance(i, Finish)), None)


def test_stop_asks_no_more_and_ends_when_what_runs_is_told():
    loop = running(2)
    assert loop.handle(Control("stop", "tired")) == []
    assert loop.handle(arrived(done(0))) == [Keep((done(0),)), Tell((0,))]
    assert loop.handle(Told()) == []
    loop.handle(arrived(done(1)))
    assert loop.handle(Told()) == [Finish("stopped", "tired")]


def test_a_crash_after_a_stop_is_left_pending_for_a_resume():
    loop = running(1)
    loop.handle(Control("stop", "tired"))
    assert loop.handle(arrived(crashed(0))) == [Finish("stopped", "tired")]


def test_stop_now_ends_at_once_whatever_runs_and_nothing_follows():
    loop = running(2)
    loop.handle(arrived(done(0)))
    assert loop.handle(Control("stop-now", "ctrl-c")) == [Finish("stopped", "ctrl-c")]
    assert loop.handle(Told()) == loop.handle(arrived(done(1))) == loop.handle(Capacity(9)) == []


def test_a_pause_tells_what_comes_and_asks_again_when_it_is_over():
    loop = running(1)
    assert loop.handle(Control("pause")) == [Pause(True)]
    assert loop.handle(Control("pause")) == []
    assert loop.handle(arrived(done(0))) == [Keep((done(0),)), Tell((0,))]
    assert loop.handle(Told()) == []
    assert loop.handle(Control("unpause")) == [Pause(False), Ask(1)]


def test_a_paused_experiment_can_be_stopped():
    loop = running(1)
    loop.handle(Control("pause"))
    loop.handle(arrived(done(0)))
    loop.handle(Told())
    assert loop.handle(Control("stop", "enough")) == [Finish("stopped", "enough")]


def test_what_an_earlier_driver_left_is_submitted_and_its_untold_results_are_told_first():
    loop = Loop(TEN, 4, {1: 1, 3: 1}, [2, 0])
    assert loop.handle(Capacity(3)) == [Submit((1, 3), 1), Tell((0, 2))]
    assert loop.handle(Told()) == [Ask(1)]


def test_a_store_that_is_complete_finishes_at_once_even_without_a_worker():
    assert Loop(TEN, 10).handle(Capacity(0)) == [Finish("finished", "all evaluations done")]


def test_a_fitness_that_reaches_the_target_is_the_end_once_what_runs_has_ended():
    loop = running(2, Policy(10, goal=Goal(Objectives(minimize("f")), {"f": 0.5})))
    bad = Evaluation(0, Status.DONE, 1, (0.6,))
    assert loop.handle(arrived(bad)) == [Keep((bad,)), Tell((0,))]
    loop.handle(Told())
    loop.handle(Asked(2, 1))
    good = Evaluation(1, Status.DONE, 1, (0.5,))
    assert loop.handle(arrived(good)) == [Keep((good,)), Tell((1,))]
    assert loop.handle(Told()) == []
    assert loop.handle(arrived(bad2 := Evaluation(2, Status.DONE, 1, (9.0,)))) == [Keep((bad2,)), Tell((2,))]
    assert loop.handle(Told()) == [Finish("finished", "f <= 0.5 was reached")]


def test_a_target_of_several_objectives_is_reached_when_all_are():
    goal = Goal(Objectives([minimize("loss"), maximize("gain"), minimize("time")]), {"loss": 1.0, "gain": 2.0})
    assert goal.met((1.0, 2.0, 1e9))
    assert not goal.met((1.0, 1.9, 0.0))
    assert not goal.met((1.1, 9.0, 0.0))
    assert str(goal) == "loss <= 1, gain >= 2"


def test_a_failed_evaluation_reaches_no_target():
    loop = running(1, Policy(10, goal=Goal(Objectives(minimize("f")), {"f": 0.5})))
    loop.handle(arrived(failed(0)))
    assert loop.handle(Told()) == [Ask(1)]


def test_when_the_time_is_up_no_more_is_asked_and_what_runs_may_end():
    loop = running(2)
    assert loop.handle(Control("time-up", "no more time")) == []
    loop.handle(arrived(done(0), done(1)))
    assert loop.handle(Told()) == [Finish("finished", "no more time")]


def test_the_best_are_evaluated_again_once_all_is_told_and_then_it_is_over():
    loop = running(2, Policy(2, final=5))
    loop.handle(arrived(done(0), done(1)))
    assert loop.handle(Told()) == [Repeat(5)]
    assert loop.handle(Asked(2, 2)) == [Submit((2, 3))]
    assert loop.handle(arrived(done(2), done(3))) == [Keep((done(2), done(3))), Tell((2, 3))]
    assert loop.handle(Told()) == [Finish("finished", "all evaluations done")]


def test_where_all_failed_there_is_nothing_to_evaluate_again():
    loop = running(1, Policy(1, final=5))
    loop.handle(arrived(failed(0)))
    assert loop.handle(Told()) == [Repeat(5)]
    assert loop.handle(Asked(1, 0)) == [Finish("finished", "all evaluations done")]


def test_what_is_asked_fills_whole_futures_unless_it_is_the_last():
    loop = Loop(Policy(100))
    assert loop.handle(Capacity(16, 8)) == [Ask(16)]
    loop.handle(Asked(0, 16))
    loop.handle(arrived(*map(done, range(7))))
    assert loop.handle(Told()) == []  # one of eight is still under way: it was tried again, say
    loop.handle(arrived(done(7)))
    assert loop.handle(Told()) == [Ask(8)]
    last = Loop(Policy(100), 97, {96: 1})
    assert last.handle(Capacity(16, 8)) == [Submit((96,)), Ask(3)]


def test_what_waits_is_submitted_as_there_is_room_and_stays_pending_at_a_stop():
    loop = Loop(TEN, 10, dict.fromkeys(range(10), 1))
    assert loop.handle(Capacity(2)) == [Submit((0, 1))]
    assert loop.handle(arrived(done(0))) == [Keep((done(0),)), Submit((2,)), Tell((0,))]
    loop.handle(Told())
    assert loop.handle(Control("stop", "please")) == []
    loop.handle(arrived(done(1), done(2)))
    assert loop.handle(Told()) == [Finish("stopped", "please")]
    assert list(loop.waiting) == list(range(3, 10))


def test_when_the_time_is_up_the_best_are_not_evaluated_again_for_which_there_is_no_time():
    loop = running(1, Policy(10, final=3))
    loop.handle(Control("time-up", "no more time"))
    loop.handle(arrived(done(0)))
    assert loop.handle(Told()) == [Finish("finished", "no more time")]


def test_the_best_are_not_evaluated_again_where_nothing_was_asked_since_they_were():
    assert Loop(Policy(10, final=3), 13, searched=False).handle(Capacity(1)) == [
        Finish("finished", "all evaluations done")
    ]
