"""When a worker that lives in a batch job may begin an evaluation, and when it leaves; decisions alone, no clock."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

JOB_END = "L2L_JOB_END"  # of the environment: when the batch system will end the job, in seconds since the epoch
LEAVING = 5.0  # seconds before that at which a worker leaves by itself, in whatever state
_FRESH = 0.1  # of its life
_RESTARTED = 0.5  # of the job's life: a worker that is ready later is not the job's first


@dataclass(frozen=True)
class Life:
    """The life of a worker, by the clock of its machine.

    Attributes
    ----------
    begin
        When its job began, or is known to have run.
    ready
        When it could begin the first evaluation.
    end
        When the batch system will end its job.
    """

    begin: float
    ready: float
    end: float

    @property
    def whole(self) -> float:
        """How long an evaluation may take that begins as soon as the worker is ready."""
        return self.end - LEAVING - self.ready

    def left(self, now: float) -> float:
        """Tell how long an evaluation may take that begins now."""
        return self.end - LEAVING - now

    def fresh(self, now: float) -> bool:
        """Tell whether (nearly) the whole life of a job is left: no other worker could give an evaluation more."""
        in_time = self.ready - self.begin <= _RESTARTED * (self.end - self.begin)
        return in_time and now - self.ready <= _FRESH * self.whole

    def may_begin(self, needs: float, now: float) -> bool:
        """Tell whether an evaluation that may need so many seconds can begin now.

        One that needs more than the life of any worker begins on a fresh one: else it never would.
        """
        left = self.left(now)
        return left > 0 and (needs <= left or self.fresh(now))


def job_end(environment: Mapping[str, str]) -> float | None:
    """Read when the batch system will end this job; None if it will not, or nobody said so."""
    try:
        end = float(environment.get(JOB_END, ""))
    except ValueError:
        return None
    return end if math.isfinite(end) and end > 0 else None
