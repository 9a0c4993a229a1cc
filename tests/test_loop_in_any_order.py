"""The loop in any order of events that can happen: a simulated driver does what it is told, and counts."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from l2l_dask.evaluation import Evaluation, Goal, Objectives, Status, minimize
from l2l_dask.loop import (
    Arrived,
    Ask,
    Asked,
    Capacity,
    Control,
    Finish,
    Keep,
    Loop,
    Observe,
    Observed,
    Pause,
    Policy,
    Repeat,
    Reported,
    Stop,
    Submit,
    Tell,
    Told,
)


def done(id, attempt=1):
    return Evaluation(id, Status.DONE, attempt, (0.0,))


def arrived(*evaluations):
    return Arrived(evaluations)


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
        self.unseen, self.stopping = {}, set()
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
                case Observe():
                    self.observed(instruction)
                case Stop(ids):
                    assert set(ids) <= set(self.running) | self.waiting, "it has ended"
                    self.stopping |= set(ids)
                case Tell(ids):
                    assert self.call is None, "two calls of the optimizer at once"
                    assert ids == tuple(sorted(ids))
                    ready = self.untold - set(self.unseen)
                    assert set(ids) == ready, "told what is not kept, or told twice, or not all, or before its reports"
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

    def observed(self, look):
        assert self.call is None, "two calls of the optimizer at once"
        assert look.reports == {id: tuple(points) for id, points in self.unseen.items()}, "not all, or twice"
        assert list(look.reports) == sorted(look.reports)
        self.unseen, self.call = {}, look

    def kept(self, evaluations):
        for e in evaluations:
            assert e.id not in self.told | self.untold, "kept twice"
            assert e.status not in self.policy.retry_on or e.attempt > self.policy.retries
            self.untold.add(e.id)
            self.enough |= self.policy.goal is not None and e.status is Status.DONE and e.fitness[0] <= 0.0
            if e.status is Status.STOPPED:
                continue
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
        ended = [self.ended(id, data.draw(st.just(Status.STOPPED) if id in self.stopping else STATUS)) for id in ids]
        self.carry_out(self.loop.handle(Arrived(tuple(ended))))

    def ended(self, id, status):
        error = "" if status is Status.DONE else f"error of {id}"
        fitness = (0.0 if id % 17 == 16 else 1.0,) if status is Status.DONE else ()
        attempt = self.running.pop(id)
        if status in self.policy.retry_on and attempt <= self.policy.retries:
            self.waiting.add(id)
        return Evaluation(id, status, attempt, fitness, error)

    @precondition(lambda self: self.running and not self.finish)
    @rule(data=st.data())
    def some_report(self, data):
        ids = data.draw(st.lists(st.sampled_from(sorted(self.running)), min_size=1, max_size=3, unique=True))
        reports = {id: ((float(id), 0.5),) for id in ids}
        for id, points in reports.items():
            self.unseen.setdefault(id, []).extend(points)
        self.carry_out(self.loop.handle(Reported(reports)))

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
        if isinstance(call, Observe):
            stop = data.draw(st.lists(st.sampled_from(sorted(call.reports)), unique=True))
            self.carry_out(self.loop.handle(Observed(tuple(sorted(stop)))))
            return
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
                event = Asked(self.asked, n) if n else Observed(()) if isinstance(call, Observe) else Told()
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
