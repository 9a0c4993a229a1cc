"""The loop: events in, instructions out; by example, and by simulation of any order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

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


STATUS = st.sampled_from([Status.DONE, Status.DONE, Status.FAILED, Status.CRASHED, Status.TIMED_OUT])


GOAL = Goal(Objectives(minimize("f")), {"f": 0.0})


class Simulation(RuleBasedStateMachine):
    """A driver that does what it is told in any order that can happen, and counts."""

    @initialize(
        data=st.data(),
        evaluations=st.integers(1, 25),
        retries=st.integers(0, 2),
        retry_on=st.frozensets(st.sampled_from([Status.CRASHED, Status.FAILED])),
        limit=st.integers(0, 6),
        goal=st.sampled_from([None, GOAL]),
        final=st.integers(0, 3),
    )
    def begin(self, data, evaluations, retries, retry_on, limit, goal, final):
        self.policy = Policy(evaluations, retries, retry_on, limit, goal, final)
        self.enough = self.repeated = self.timed = self.searched = False
        n = data.draw(st.integers(0, evaluations))
        left = data.draw(st.lists(st.sampled_from(["running", "untold", "told"]), min_size=n, max_size=n))
        in_flight = {i: 1 for i in range(n) if left[i] == "running"}
        self.untold = {i for i in range(n) if left[i] == "untold"}
        self.told = {i for i in range(n) if left[i] == "told"}
        self.asked, self.capacity, self.running = n, 0, {}
        self.call = self.finish = None
        self.in_a_row, self.doomed, self.stopped, self.exhausted, self.paused = [], "", "", False, False
        self.waiting = set(in_flight)
        self.loop = Loop(self.policy, n, dict(in_flight), sorted(self.untold))
        self.quantum = data.draw(st.sampled_from([1, 1, 2, 3]))

    def carry_out(self, instructions):
        for instruction in instructions:
            assert self.finish is None, "something after the end"
            match instruction:
                case Submit(ids, attempt):
                    assert ids
                    assert not set(ids) & set(self.running), "two attempts at once"
                    assert not set(ids) & (self.told | self.untold), "again although it has a result"
                    assert attempt <= 1 + self.policy.retries
                    assert not self.paused
                    assert not self.stopped
                    assert not self.timed
                    assert len(ids) + len(self.running) <= self.capacity, "more than the capacity"
                    self.waiting -= set(ids)
                    self.running.update(dict.fromkeys(ids, attempt))
                case Keep(evaluations):
                    assert evaluations
                    self.kept(evaluations)
                case Tell(ids):
                    assert self.call is None, "two calls of the optimizer at once"
                    assert ids == tuple(sorted(ids))
                    assert set(ids) == self.untold, "told what is not kept, or told twice, or not all"
                    self.untold -= set(ids)
                    self.told |= set(ids)
                    self.call = instruction
                case Ask(n):
                    assert self.call is None, "two calls of the optimizer at once"
                    assert not self.stopped
                    assert not self.paused
                    assert not self.exhausted
                    assert not self.enough
                    assert not self.timed
                    assert 1 <= n <= self.policy.evaluations - self.asked, "more than the budget"
                    assert n + len(self.running) <= self.capacity, "more than the capacity"
                    last = n == self.policy.evaluations - self.asked
                    assert last or not self.running or n % self.quantum == 0, "a future that is not full"
                    self.call = instruction
                case Repeat(n):
                    assert self.call is None, "two calls of the optimizer at once"
                    assert not self.repeated, "the best are evaluated again once"
                    assert not self.paused
                    assert not self.timed
                    assert self.searched
                    assert not self.running
                    assert not self.untold
                    assert not self.stopped
                    assert n == self.policy.final > 0
                    self.repeated, self.call = True, instruction
                case Pause(paused):
                    self.paused = paused
                case Finish():
                    self.finish = instruction

    def kept(self, evaluations):
        for e in evaluations:
            assert e.id not in self.told | self.untold, "kept twice"
            assert e.status not in self.policy.retry_on or e.attempt > self.policy.retries
            self.untold.add(e.id)
            self.enough |= self.policy.goal is not None and e.status is Status.DONE and e.fitness[0] <= 0.0
            self.in_a_row = [] if e.status is Status.DONE else [*self.in_a_row, e.error]
            if self.in_a_row and len(self.in_a_row) == self.policy.max_failures_in_a_row:
                self.doomed = self.in_a_row[0]

    @rule(n=st.integers(0, 6))
    def workers_come_and_go(self, n):
        self.capacity = n
        self.carry_out(self.loop.handle(Capacity(n, self.quantum)))

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def some_end(self, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.running)), min_size=1, max_size=4, unique=True))
        ended = [self.ended(id, data.draw(STATUS)) for id in ids]
        self.carry_out(self.loop.handle(Arrived(tuple(ended))))

    def ended(self, id, status):
        error = "" if status is Status.DONE else f"error of {id}"
        fitness = (0.0 if id % 17 == 16 else 1.0,) if status is Status.DONE else ()
        return Evaluation(id, status, self.running.pop(id), fitness, error)

    @rule(id=st.integers(0, 30), attempt=st.integers(1, 4))
    def a_straggler_comes(self, id, attempt):
        if self.running.get(id) != attempt:
            told, untold = set(self.told), set(self.untold)
            self.carry_out(self.loop.handle(arrived(done(id, attempt))))
            assert (self.told, self.untold) in ((told, untold), (told | untold, set()))

    @precondition(lambda self: self.call is not None)
    @rule(data=st.data())
    def the_optimizer_returns(self, data):
        call, self.call = self.call, None
        if isinstance(call, Tell):
            self.carry_out(self.loop.handle(Told()))
            return
        n = data.draw(st.integers(0, call.n))
        if isinstance(call, Ask):
            self.exhausted = data.draw(st.booleans()) and data.draw(st.booleans())
        self.asked += n
        self.searched |= n > 0
        self.carry_out(self.loop.handle(Asked(self.asked - n, n, self.exhausted)))

    @rule(really=st.integers(0, 19))
    def the_time_is_up(self, really):
        if really == 0 and not self.finish:
            self.timed = True
            self.carry_out(self.loop.handle(Control("time-up", "no more time")))

    @rule(command=st.sampled_from(["pause", "unpause", "unpause"]))
    def somebody_pauses(self, command):
        self.carry_out(self.loop.handle(Control(command)))
        assert self.finish or self.paused == (command == "pause")

    @rule(really=st.integers(0, 9))
    def somebody_stops(self, really):
        if really == 0 and not self.finish:
            self.stopped = self.stopped or "please"
            self.carry_out(self.loop.handle(Control("stop", "please")))

    @rule(really=st.integers(0, 29))
    def somebody_stops_now(self, really):
        if really == 0 and not self.finish:
            self.carry_out(self.loop.handle(Control("stop-now", "now")))
            assert self.finish == Finish("stopped", "now")

    @invariant()
    def it_ended_for_a_reason(self):
        if not getattr(self, "finish", None) or self.finish.reason == "now":
            return
        if self.doomed:
            assert self.finish.outcome == "failed"
            assert self.finish.reason.endswith(f"failed in a row, the first: {self.doomed}")
            return
        assert not self.running, "ended although something runs"
        assert not self.untold, "ended although something is to be told"
        assert self.call is None
        if self.finish.outcome == "finished":
            assert self.repeated or not (self.policy.final and self.searched and not self.timed)
            assert self.asked >= self.policy.evaluations or self.exhausted or self.enough or self.timed
            assert not self.waiting or self.timed, "ended although something waits"
        elif self.finish.outcome == "stopped":
            assert self.stopped

    def teardown(self):
        """Whatever happened, it ends when workers are there and all that runs comes back."""
        if not hasattr(self, "loop"):
            return
        self.workers_come_and_go(2)
        self.carry_out(self.loop.handle(Control("unpause")))
        for _ in range(20 * self.policy.evaluations + 20):
            if self.finish is not None:
                break
            if self.call is not None:
                call, self.call = self.call, None
                n = call.n if isinstance(call, Ask | Repeat) else 0
                event = Asked(self.asked, n) if n else Told()
                self.asked += n
                self.searched |= n > 0
                self.carry_out(self.loop.handle(event))
            elif self.running:
                self.carry_out(self.loop.handle(arrived(self.ended(min(self.running), Status.DONE))))
            else:
                raise AssertionError("it neither goes on nor ends")
        assert self.finish is not None
        self.it_ended_for_a_reason()


TestAnyOrderOfEvents = Simulation.TestCase
TestAnyOrderOfEvents.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
