"""From one start of a service to the next: who takes over, what is left of the predecessor, who goes on."""

from __future__ import annotations

import logging
import math
import os
import secrets
import shlex
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from l2l_dask.cluster import jobs
from l2l_dask.errors import ClusterError
from l2l_dask.service import entries, place, plan
from l2l_dask.service.place import Place
from l2l_dask.service.settings import Settings
from l2l_dask.service.standing import is_gone
from l2l_dask.trajectory.lease import release_of_the_dead
from l2l_dask.walltime import JOB_END

_log = logging.getLogger(__name__)

_AGAIN = 30.0  # seconds until a successor that was refused is submitted again
_LIVES = 10
_PATIENCE = 180.0


def take_over(at: Place, settings: Settings) -> tuple[int, Mapping[str, Any]]:
    """Become the one service of a folder, once the one before is gone, and clear up after it.

    Returns
    -------
    The number of this start, and what the predecessor said last.

    Raises
    ------
    ClusterError
        If another one is alive.
    """
    own = "" if settings.here else jobs.own_id(settings.own_profile)
    until = time.monotonic() + (_PATIENCE if own else 0.0)  # the job before may take a moment to be over
    while True:
        before = place.read(at.state)
        mine = own and before.get("state") == "pending" and before.get("job") == own
        # One that nobody recorded, since its submission seemed to fail; a start may not have said "pending" yet.
        stray = own and before.get("state") == "ended" and not before.get("successor")
        if not before or mine or (not stray and is_gone(at, before, settings)):
            break
        if time.monotonic() >= until:
            if stray:
                raise ClusterError(f"the service in {at.root} has ended, and this job is not its successor")
            raise ClusterError(f"a service is at work in {at.root}: `l2l service status {at.root}` says more")
        time.sleep(1.0)
    epoch = max([int(before.get("epoch", 0)), *at.epochs()]) + 1
    if not at.claim(epoch):
        raise ClusterError(f"another service has just been started in {at.root}")
    jobs.cancel(settings.profile, [worker["id"] for worker in before.get("workers", ())])
    if before.get("machine"):
        # Its drivers ran beside it, and ended with its job.
        stores = [store for store in at.root.glob("*.zarr") if entries.is_submitted(store)]
        release_of_the_dead(stores, str(before["machine"]))
    return epoch, before


@dataclass
class Succession:
    """Who goes on when this service ends.

    Attributes
    ----------
    service
        What all starts of this service have in common.
    job
        The id of the job that this process is; empty if it is none.
    ends
        When the job ends (seconds since 1970); None if that is not known.
    successor
        The id of the job that goes on.
    trouble
        Why there is none.
    lives
        Seconds that the starts before this one lived, as far as they did not end as they were meant to.
    used
        Slot-seconds that experiments used before this start.
    over
        Whether nobody is to go on.
    """

    place: Place
    settings: Settings
    service: str
    job: str = ""
    ends: float | None = None
    successor: str = ""
    trouble: str = ""
    lives: list[float] = field(default_factory=list)
    used: Mapping[str, float] = field(default_factory=dict)
    over: bool = False
    _try_at: float = -math.inf
    _trying: threading.Thread | None = None
    _began: float = field(default_factory=time.time)

    @classmethod
    def of(cls, at: Place, settings: Settings, before: Mapping[str, Any]) -> Succession:
        """Find out about this process, whose predecessor said ``before``."""
        own = "" if settings.here else jobs.own_id(settings.own_profile) or ""
        end = os.environ.pop(JOB_END, "")  # of this job, not of those that it submits
        ends = float(end) if end and not settings.here else None
        lives = [] if before.get("state") in ("ended", "pending") else list(before.get("lives", ()))
        service = str(before.get("service") or secrets.token_hex(3))
        used = {name: each.get("slot_seconds", 0.0) for name, each in before.get("experiments", {}).items()}
        succession = cls(at, settings, service, own, ends, lives=lives[-_LIVES:], used=used)
        successor = before.get("successor")
        if successor and successor != own:  # of one that was started anew meanwhile
            jobs.cancel(settings.own_profile, [successor])
        return succession

    @property
    def time_left(self) -> float:
        return math.inf if self.ends is None else self.ends - time.time()

    @property
    def margin(self) -> float:
        return plan.margin(math.inf if self.ends is None else self.ends - self._began)

    def keep(self, now: float) -> None:
        """See to it that there is a successor: it waits for the end of this job, however that comes."""
        if self.over or self.successor or not self.job or now < self._try_at:
            return
        self._try_at = math.inf
        if not plan.is_worth_following(self.lives):
            self.trouble = "the last starts ended at once: there will be no successor"
            return
        # A batch system may take its time to answer: quotas and signals do not wait for that.
        self._trying = threading.Thread(target=self._try, name="l2l-successor", daemon=True)
        self._trying.start()

    def _try(self) -> None:
        try:
            self.successor, self.trouble = submit(self.place, self.settings, self.service, after=self.job), ""
        except (OSError, ClusterError) as error:
            self.trouble = f"no successor yet: {error}"
            _log.warning("%s", self.trouble)
        finally:
            self._try_at = time.monotonic() + _AGAIN

    def settle(self) -> None:
        """Wait until it is known whether there is a successor: one that is not to be is cancelled."""
        if self._trying is not None:
            self._trying.join()
        if self.over:
            self.end()

    def end(self) -> None:
        """Let nobody go on."""
        self.over = True
        if self.successor:
            jobs.cancel(self.settings.own_profile, [self.successor])
            self.successor = ""

    def told(self) -> dict[str, Any]:
        """Say it, for others and for the successor."""
        lived = time.time() - self._began
        return {
            "service": self.service,
            "job": self.job,
            "ends": self.ends,
            "successor": self.successor,
            "no_successor": self.trouble,
            "lives": [*self.lives, lived],
        }


def submit(at: Place, settings: Settings, service: str, after: str | None = None) -> str:
    """Submit the job that a service is, and return its id."""
    command = [*shlex.split(settings.own_profile["python"] or shlex.quote(sys.executable)), "-P", "-m"]
    command += ["l2l_dask.service", str(at.root)]
    job = jobs.command_job(settings.own_profile, f"l2l-service-{service}", command, logs=at.logs, after=after)
    return jobs.submit(job)
