"""The service itself: one process with the scheduler, the worker jobs and the drivers."""

from __future__ import annotations

import logging
import math
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from l2l_dask.cluster import pages, tls
from l2l_dask.cluster.attaching import Census, census
from l2l_dask.cluster.batch import Workers, scheduler
from l2l_dask.errors import ClusterError, L2LError
from l2l_dask.service import entries, place, plan, shares
from l2l_dask.service.drivers import Drivers, Ended
from l2l_dask.service.entries import Known, Shelf
from l2l_dask.service.place import Place
from l2l_dask.service.settings import Settings
from l2l_dask.service.succession import Succession, take_over
from l2l_dask.trajectory.lease import me

_log = logging.getLogger(__name__)

_STEP = 0.25  # seconds between two looks at the drivers,
_LOOK = 1.0  # and at the folder
_SETTLED = 1.0  # seconds after which a driver that is granted nothing more has said what it still runs
_HURRY = 3.0  # seconds that evaluations which run may still take when the job is being killed
_CLOSING = 10.0  # seconds that all the rest of the end may take


@dataclass
class Leaving:
    """Why and until when evaluations that run are waited for; whether for good."""

    reason: str
    until: float
    for_good: bool


@dataclass
class Serving:
    """A service that runs.

    Parameters
    ----------
    place, settings
        Where, and with what.
    epoch
        The number of this start.
    succession
        Whence it came, and who goes on.
    """

    place: Place
    settings: Settings
    epoch: int
    succession: Succession
    leaving: Leaving | None = None
    _known: Mapping[str, Known] = field(default_factory=dict)
    _census: Census = field(default_factory=lambda: Census(0, {}))
    _signalled: int | None = None

    def __post_init__(self) -> None:
        self._began = self._shared = time.monotonic()
        self._looked = self._published = -_LOOK
        self._wake = threading.Event()
        self._me, self._started = me(), time.time()
        self._ledger = shares.Ledger(self.succession.used)
        self._rota = plan.Rota(self.settings.at_once)
        profile = self.settings.profile
        self._scale = plan.Scale(self.settings.fewest, self.settings.most, profile.cores, self.settings.idle)
        self._shelf = Shelf(self.place.root)
        self._drivers = Drivers(self.place, self.epoch)
        self._wanted = 0.0
        self._workers: Workers | None = None

    def run(self) -> None:
        """Serve until told to stop, or until the end of the job is near."""
        self._publish("running")  # from here on another start is refused
        with ExitStack() as stack:
            stack.enter_context(self._signals())
            secured = tls.make(self.place.tls(self.epoch)) if self.settings.encrypted else None
            if secured:
                stack.callback(secured.remove)
            profile = self.settings.profile
            interface = "lo" if profile.system == "local" else profile["interface"]
            self._cluster = stack.enter_context(scheduler(secured, interface))
            shown = stack.enter_context(pages.served(self._cluster, secured)) if secured else ""
            self._announce(secured, shown)
            stack.callback(self.place.connection(self.epoch).unlink, missing_ok=True)
            offers, name = self.settings.offers, f"l2l-{self.succession.service}-{self.epoch}"
            self._workers = Workers(profile, self._cluster, secured, self.place.logs, offers=offers, name=name)
            stack.callback(self._workers.close)
            stack.callback(self._close_drivers)
            while self._leave_or_stay():
                # At irregular moments: regular ones could see the same half of evaluations that take as long.
                self._wake.wait(_STEP * random.uniform(0.5, 1.5))
                self._wake.clear()
                try:
                    self._step()
                except (OSError, L2LError) as error:  # a disk that is full for a while, say
                    _log.warning("%s", error)

    def _announce(self, secured: tls.Tls | None, shown: str) -> None:
        place.write(
            self.place.connection(self.epoch),
            {
                "address": self._cluster.scheduler_address,
                "tls": str(secured.folder) if secured else "",
                "pages": shown,
                "ends": self.succession.ends,
                "host": self._me["host"],
            },
        )
        for old in self.place.connections():
            if old < self.epoch:
                self.place.connection(old).unlink(missing_ok=True)

    # -- what is seen and done, again and again -----------------------------------------------------------------------

    def _step(self) -> None:
        now = time.monotonic()
        for ended in self._drivers.ended():
            self._note_end(ended)
        if now - self._looked >= _LOOK:
            self._looked = now
            self._known = self._shelf.look()
            self._note_pauses()
            self._obey()
            self.succession.keep(now)
        if self.leaving is None:
            self._start_drivers(now)
        self._share(now)
        if now - self._published >= _LOOK:
            self._published = now
            self._publish("running" if self.leaving is None else "leaving")

    def _start_drivers(self, now: float) -> None:
        for name, known in self._known.items():
            if not known.submission.problem and name in self._rota.given_up:  # it was submitted again
                self._rota.forgive(name)
        waiting = {
            name: known.submission.submitted
            for name, known in self._known.items()
            if known.waits and name not in self._drivers.running
        }
        for name in self._rota.start(waiting, len(self._drivers.running), now):
            known = self._known[name]
            self._drivers.start(name)
            _log.info("%s is driven", name)
            if known.submission.again:
                entries.change(known.store, again=False)
            self._looked = -_LOOK  # what it was is old now

    def _note_end(self, ended: Ended) -> None:
        now = time.monotonic()
        self._rota.ended(ended.name, ended.how, ended.reason, progressed=ended.progressed, now=now)
        self._looked = -_LOOK
        _log.info("%s: its driver %s: %s", ended.name, ended.how, ended.reason)
        if ended.name in self._rota.given_up and ended.name in self._known:
            entries.change(self._known[ended.name].store, problem=self._rota.given_up[ended.name])

    def _note_pauses(self) -> None:
        """Remember who is paused, for the next driver."""
        for name, driver in self._drivers.running.items():
            known, paused = self._known.get(name), driver.progress.get("paused")
            if known is not None and paused is not None and paused != known.submission.paused:
                entries.change(known.store, paused=paused)

    def _share(self, now: float) -> None:
        """Divide the slots among those that run, and have as many worker jobs as can be used."""
        with suppress(OSError, TimeoutError):
            self._census = census(self._cluster)
        claims = {name: self._claim(name) for name in self._drivers.running if name in self._known}
        slots, running = self._census.slots, self._census.running
        in_use = {name: running.get(self._known[name].uuid, 0) * claim.cost for name, claim in claims.items()}
        self._ledger.enter(claims, slots, in_use, now - self._shared)
        self._shared = now
        self._wanted = sum(claim.wanted * claim.cost for claim in claims.values())
        if self.leaving is not None:
            self._drivers.grant(dict.fromkeys(claims, 0))
            return
        self._drivers.grant(shares.quotas(claims, slots))
        assert self._workers is not None
        self._workers.scale(self._scale.jobs(self._wanted, now))

    def _claim(self, name: str) -> shares.Claim:
        progress = self._drivers.running[name].progress
        reach = progress.get("reach", 0)
        cost = max(1.0, self._census.slots / reach) if reach else 1.0
        return shares.Claim(
            self._known[name].submission.weight, progress.get("demand", 0), cost, self._ledger.behind(name)
        )

    # -- the end ------------------------------------------------------------------------------------------------------

    def _obey(self) -> None:
        """Do what was left in the folder for this start."""
        order = place.read(self.place.control)
        if order.get("epoch") != self.epoch:
            return
        now = order.get("command") == "stop-now"
        if self.leaving is None or (now and self.leaving.until > time.monotonic()):
            self._leave("it was told to stop by l2l service stop", 0.0 if now else None, for_good=True)

    def _leave(self, reason: str, seconds: float | None, *, for_good: bool) -> None:
        now = time.monotonic()
        until = math.inf if seconds is None else now + seconds
        if self.leaving is None:
            _log.info("leaving: %s", reason)
            self.leaving, self._left_at = Leaving(reason, until, for_good), now
        self.leaving.until = min(until, self.leaving.until)
        self.leaving.for_good |= for_good
        if for_good:
            self.succession.end()

    def _leave_or_stay(self) -> bool:
        """Decide whether to go on: no longer once all drivers left, or the time for that is up."""
        now, left = time.monotonic(), self.leaving
        if max(self.place.epochs(), default=0) > self.epoch:
            raise ClusterError("another service took over this folder: this one leaves")
        number, self._signalled = self._signalled, None
        if number is not None:
            self._on_signal(number)
        elif left is None and self.succession.time_left < self.succession.margin:
            self._leave("the end of its job is near", self.succession.time_left - _CLOSING, for_good=False)
        if left is None:
            return True
        if now >= left.until:
            return False
        if now - self._left_at > _SETTLED:
            self._drivers.leave(left.reason, idle_only=True)
        return bool(self._drivers.running)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        if number == signal.SIGUSR1:
            self._leave("the batch system says that the end is near", self.succession.margin, for_good=False)
        elif self.settings.here and number == signal.SIGINT and self.leaving is None:
            self._leave(f"interrupted ({name})", None, for_good=True)
        else:
            self._leave(f"interrupted ({name})", 0.0 if self.leaving else _HURRY, for_good=self.settings.here)

    def _close_drivers(self) -> None:
        reason = self.leaving.reason if self.leaving else "its service failed"
        for ended in self._drivers.close(reason):
            self._note_end(ended)
        self._known = self._shelf.look()
        unfinished = any(known.unfinished for known in self._known.values())
        if self.leaving and not self.leaving.for_good and not unfinished:
            self.leaving.reason = "nothing was left to do at the end of its job"
            self.succession.end()

    # -- what others see ----------------------------------------------------------------------------------------------

    def _publish(self, state: str, **more: Any) -> None:
        jobs = self._workers.jobs if self._workers else []
        workers = [{"name": job.name, "id": job.id, "state": job.state} for job in jobs]
        content = {
            **self._me,
            **self.succession.told(),
            "state": state,
            "reason": self.leaving.reason if self.leaving else "",
            "epoch": self.epoch,
            "since": self._started,
            "slots": {"total": self._census.slots, "busy": self._census.busy, "wanted": self._wanted},
            "workers": workers,
            "trouble": self._workers.trouble if self._workers else "",
            "experiments": {name: self._told(name) for name in self._known},
            **more,
        }
        try:
            place.write(self.place.state, content)
        except OSError as error:
            _log.warning("%s cannot be written: %s", self.place.state, error.strerror)

    def _told(self, name: str) -> dict[str, Any]:
        driver, used = self._drivers.running.get(name), self._ledger.used.get(name, 0.0)
        driven = {"quota": driver.quota, "pid": driver.process.pid, **driver.progress} if driver else {}
        return driven | {"slot_seconds": round(used, 2), "weight": self._known[name].submission.weight}

    def end(self) -> None:
        """Say that it is over."""
        self.succession.settle()
        self._publish("ended", workers=[])

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def obey(number: int, _frame: FrameType | None) -> None:
            self._signalled = number
            self._wake.set()

        before = {n: signal.signal(n, obey) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(root: Path) -> None:
    """Serve a folder until told to stop, or until the end of this job is near.

    Raises
    ------
    ClusterError
        If it cannot be: another service is at work there, say.
    """
    at = Place(root.resolve())
    at.make()
    settings = Settings.read(at)
    epoch, before = take_over(at, settings)
    succession = Succession.of(at, settings, before)
    serving = Serving(at, settings, epoch, succession)
    for loud in ("distributed.scheduler", "distributed.batched", "distributed.core"):  # of each client that leaves
        logging.getLogger(loud).setLevel(logging.CRITICAL + 1)
    for loud in ("bokeh", "tornado.access"):  # of each page that is looked at
        logging.getLogger(loud).setLevel(logging.ERROR)
    serving.run()
    serving.end()  # not of one that failed or was replaced: it is found to be gone, and its successor counts its life


def main() -> None:
    """Serve the folder that the command line names, in a job."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO, stream=sys.stderr)
    try:
        serve(Path(sys.argv[1]))
    except ClusterError as error:
        _log.error("%s", error)
        raise SystemExit(error.exit_status) from None


if __name__ == "__main__":
    main()
