"""Fleet: decisions about worker jobs, tried out on a batch system of a few lines that goes wrong in every way."""

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask.cluster.fleet import Fleet, View, Worker
from l2l_dask.cluster.systems import Standing


@dataclass
class Imaginary:
    """A batch system, a scheduler and a clock."""

    fleet: Fleet
    now: float = 0.0
    number: int = 0
    waiting: dict = field(default_factory=dict)  # id -> name
    running: dict = field(default_factory=dict)
    workers: dict = field(default_factory=dict)  # name -> Worker
    reason: str = ""
    refusing: bool = False
    silent: bool = False
    most: int = 0
    cancelled: list = field(default_factory=list)

    def step(self, seconds=1.0):
        self.now += seconds
        states = None
        if not self.silent:
            pending, running = Standing("pending", self.reason), Standing("running")
            states = dict.fromkeys(self.waiting, pending) | dict.fromkeys(self.running, running)
        decided = self.fleet.step(View(self.now, dict(self.workers), states))
        for job in (*decided.retire, *decided.cancel):
            self.cancelled.append(job.id)
            self.waiting.pop(job.id, None)
            self.running.pop(job.id, None)
            self.workers.pop(job.name, None)
        for _ in range(decided.submit):
            if self.refusing:
                self.fleet.refused("no", self.now)
                break
            self.number += 1
            self.waiting[f"{self.number}"] = f"w{self.number}"
            self.fleet.submitted(f"w{self.number}", f"{self.number}", self.now)
        self.most = max(self.most, len(self.waiting) + len(self.running))
        return decided

    def begin(self, n=1000):
        for id in list(self.waiting)[:n]:
            self.running[id] = self.waiting.pop(id)
            self.workers[self.running[id]] = Worker()

    def end(self, id):
        self.workers.pop(self.running.pop(id), None)

    def rest(self, seconds):
        for _ in range(int(seconds)):
            self.step()
            self.begin()


def started(n=3):
    it = Imaginary(Fleet(n))
    it.step()
    it.begin()
    it.step()
    return it


def test_as_many_jobs_are_submitted_as_are_wanted_and_no_more_while_they_wait():
    it = Imaginary(Fleet(5))
    assert it.step().submit == 5
    assert [it.step().submit for _ in range(100)] == [0] * 100


def test_many_jobs_are_not_submitted_at_once():
    it = Imaginary(Fleet(45))
    assert [it.step().submit for _ in range(4)] == [20, 20, 5, 0]


def test_a_job_that_ended_is_replaced_as_soon_as_the_batch_system_says_so():
    it = started()
    it.now += 100
    it.step()
    it.end("1")
    assert it.step().submit == 1


def test_a_job_whose_worker_is_gone_is_given_up_after_a_while_if_the_batch_system_is_silent_or_behind():
    it = started()
    it.silent = True
    del it.workers["w1"]
    waited = 0
    while not it.step().submit:
        waited += 1
    assert 8 <= waited <= 11
    assert it.cancelled == ["1"]


def test_a_worker_that_its_nanny_starts_again_keeps_its_job():
    it = started()
    worker = it.workers.pop("w1")
    it.step(5)
    it.workers["w1"] = worker
    it.step()
    assert (it.number, it.cancelled) == (3, [])


def test_a_batch_system_that_is_silent_is_not_taken_for_one_without_jobs():
    it = Imaginary(Fleet(3))
    it.step()
    it.silent = True
    it.rest(60)
    assert it.number == 3


def test_a_job_that_the_batch_system_does_not_list_yet_is_waited_for():
    it = Imaginary(Fleet(1))
    it.step()
    it.waiting.clear()
    assert [it.step().submit for _ in range(10)] == [0] * 10


def test_refused_jobs_are_tried_again_later_and_later_at_most_once_a_minute():
    it = Imaginary(Fleet(3), refusing=True)
    tries = []
    for _ in range(600):
        if it.step().submit:
            tries.append(it.now)
    pauses = [b - a for a, b in pairwise(tries)]
    assert pauses[:4] == [2, 4, 8, 16]
    assert max(pauses) == 60
    assert it.fleet.trouble == "no"
    it.refusing = False
    it.rest(60)
    it.step()
    assert (len(it.running), it.fleet.trouble) == (3, "")


def test_a_refusal_is_known_and_tried_less_and_less_while_others_work():
    it = Imaginary(Fleet(3))
    it.step()
    it.begin(2)
    it.step()
    it.refusing = True
    it.end("1")
    it.now += 30
    tries = 0
    for _ in range(120):
        tries += it.step().submit > 0
        assert it.fleet.trouble == "no" or not tries
    assert tries <= 8


def test_jobs_that_end_before_their_workers_join_are_not_submitted_without_end():
    it = Imaginary(Fleet(4))
    for _ in range(600):
        it.step()
        it.waiting.clear()  # the environment of the jobs is broken, say
    assert it.number < 60
    assert "ended before its worker joined" in it.fleet.trouble


def test_what_is_waited_for_is_said_in_the_batch_system_s_words():
    it = Imaginary(Fleet(3), reason="Priority")
    assert it.fleet.waits == ""
    it.step()
    it.step()
    assert it.fleet.waits == "3 of 3 worker jobs wait (Priority)"
    it.begin(1)
    it.step()
    assert it.fleet.waits == "2 of 3 worker jobs wait (Priority)"
    it.begin()
    it.step()
    assert it.fleet.waits == ""


def test_a_worker_that_drains_is_replaced_before_it_goes():
    it = started()
    it.workers["w2"] = Worker(tasks=1, taking=False)
    assert it.step().submit == 1
    assert it.cancelled == []


def test_fewer_wanted_cancels_those_that_wait_first_then_idle_ones_and_never_one_at_work():
    it = Imaginary(Fleet(4))
    it.step()
    it.begin(3)
    it.workers["w1"] = Worker(tasks=1)
    it.fleet.wanted = 0
    decided = it.step()
    assert [job.name for job in decided.cancel] == ["w4"]
    assert [job.name for job in decided.retire] == ["w2", "w3"]
    assert it.step().retire == ()
    it.workers["w1"] = Worker()
    assert [job.name for job in it.step().retire] == ["w1"]


Happening = st.sampled_from(["begin", "end", "crash", "drain", "refuse", "accept", "silence", "speech", "pass"])


@settings(max_examples=300, deadline=None)
@given(st.lists(Happening, max_size=60), st.integers(0, 12))
def test_whatever_happened_the_wanted_number_works_soon_after_it_ends_and_never_were_there_many_more(
    happenings, wanted
):
    it = Imaginary(Fleet(wanted))
    for what in happenings:
        first = next(iter(it.running), None)
        if what == "begin":
            it.begin(2)
        elif what in ("refuse", "accept"):
            it.refusing = what == "refuse"
        elif what in ("silence", "speech"):
            it.silent = what == "silence"
        elif first and what == "end":
            it.end(first)
        elif first and what == "crash":  # the batch system takes its time to notice
            it.workers.pop(it.running[first], None)
        elif first and what == "drain" and it.running[first] in it.workers:
            it.workers[it.running[first]] = Worker(tasks=1, taking=False)
        it.step(3)
    it.refusing = it.silent = False
    for name in [name for name, worker in it.workers.items() if not worker.taking]:
        it.end(next(id for id, its in it.running.items() if its == name))
    it.rest(100)
    it.step()
    assert len(it.workers) == wanted == len(it.fleet.jobs)
    assert it.most <= wanted + happenings.count("drain") + happenings.count("crash")
