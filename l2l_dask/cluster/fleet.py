"""What to do about the worker jobs: decisions alone, without clock or I/O.

A batch system refuses jobs, ends them, loses their nodes, and tells of it late or not at all. What a fleet knows of a
job is what it saw: whether its worker is connected to the scheduler, and what the batch system says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from l2l_dask.cluster.systems import Standing

_PER_STEP = 20  # jobs that are submitted at once
_LOST = 10.0  # seconds without its worker, which its nanny may start again, after which a job is given up
_UNSEEN = 15.0  # seconds after its submission within which the batch system need not know a job yet
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0  # seconds until a refused job is tried again


@dataclass(frozen=True)
class Worker:
    """What the scheduler knows of a worker: how many tasks it has, and whether it takes more."""

    tasks: int = 0
    taking: bool = True


@dataclass(frozen=True)
class Job:
    """A worker job.

    Attributes
    ----------
    name
        Its own, and its worker's.
    id
        The batch system's.
    state
        As last seen: ``"pending"``, ``"running"``, or ``"working"`` once its worker has joined.
    reason
        Why it waits, in the batch system's own words.
    submitted, seen
        When it was submitted, and when its worker was last connected.
    """

    name: str
    id: str
    submitted: float
    state: str = "pending"
    seen: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class View:
    """What is seen at a moment.

    Attributes
    ----------
    workers
        Those that are connected, by name.
    states
        Of the jobs that have not ended, by id; None if the batch system did not say.
    """

    now: float
    workers: Mapping[str, Worker]
    states: Mapping[str, Standing] | None = None


@dataclass(frozen=True)
class Step:
    """What is to be done: how many jobs to submit, whose workers to retire first, and which to cancel."""

    submit: int = 0
    retire: tuple[Job, ...] = ()
    cancel: tuple[Job, ...] = ()


@dataclass
class Fleet:
    """Keeps as many jobs as are wanted.

    Attributes
    ----------
    wanted : int
        Worker jobs.
    jobs : dict
        By name.
    """

    wanted: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    _refusal: str = ""
    _failure: str = ""
    _pause: float = _FIRST_PAUSE
    _not_before: float = 0.0

    def submitted(self, name: str, id: str, now: float) -> None:
        """Note that a job was accepted."""
        self._refusal = ""
        self.jobs[name] = Job(name, id, now)

    def refused(self, reason: str, now: float) -> None:
        """Note that a job was not accepted: the next try comes later and later."""
        self._refusal = reason
        self._delay(now)

    @property
    def trouble(self) -> str:
        """Why there are fewer than wanted; empty if nothing is known to be wrong."""
        return self._refusal or self._failure

    @property
    def waits(self) -> str:
        """Say what is waited for: empty if all jobs have their workers."""
        if self.trouble:
            return self.trouble
        starting = [job for job in self.jobs.values() if job.seen is None]
        reasons = sorted({job.reason for job in starting if job.reason and job.reason != "None"})
        because = f" ({', '.join(reasons)})" if reasons else ""
        return f"{len(starting)} of {self.wanted} worker jobs wait{because}" if starting else ""

    def step(self, view: View) -> Step:
        """Decide what to do now."""
        gone = self._look(view)
        taking = [job for job in self.jobs.values() if self._will_work(job, view)]
        surplus = self._not_needed(taking, view)[: max(0, len(taking) - self.wanted)]
        for job in surplus:
            del self.jobs[job.name]
        retire = tuple(job for job in surplus if job.name in view.workers)
        cancel = tuple(job for job in surplus if job.name not in view.workers)
        missing = 0 if view.now < self._not_before else min(self.wanted - len(taking), _PER_STEP)
        return Step(max(0, missing), retire, (*gone, *cancel))

    def _look(self, view: View) -> list[Job]:
        """Take in what is seen; return the jobs that are given up."""
        gone = []
        for job in list(self.jobs.values()):
            if job.name in view.workers:
                if job.seen is None:  # one that joins: whatever was wrong is over
                    self._pause, self._failure = _FIRST_PAUSE, ""
                self.jobs[job.name] = replace(job, state="working", seen=view.now, reason="")
                continue
            ended = view.states is not None and job.id not in view.states and view.now - job.submitted > _UNSEEN
            if ended and job.seen is None:
                self._failure = f"job {job.id} ended before its worker joined: its output says why"
                self._delay(view.now)
            if ended or (job.seen is not None and view.now - job.seen > _LOST):
                del self.jobs[job.name]
                gone.append(job)
            elif view.states and job.id in view.states and job.seen is None:
                state, reason = view.states[job.id]
                self.jobs[job.name] = replace(job, state=state, reason=reason)
        return gone

    def _delay(self, now: float) -> None:
        if now >= self._not_before:
            self._not_before = now + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    @staticmethod
    def _will_work(job: Job, view: View) -> bool:
        """Tell whether a job has or will have a worker that takes tasks: one that drains is replaced before it goes."""
        return job.name not in view.workers or view.workers[job.name].taking

    @staticmethod
    def _not_needed(jobs: list[Job], view: View) -> list[Job]:
        """List the jobs that do nothing: those that wait first, of these the newest first."""
        idle = [job for job in jobs if not (job.name in view.workers and view.workers[job.name].tasks)]
        return sorted(idle, key=lambda job: (job.name in view.workers, -job.submitted))
