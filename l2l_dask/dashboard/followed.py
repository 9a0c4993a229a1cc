"""The stores below a folder, read once for all who look at them."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from l2l_dask.dashboard.summary import Summary, stamp, summed_up
from l2l_dask.errors import L2LError
from l2l_dask.evaluation import Status
from l2l_dask.trajectory import Following, Trajectory, underway
from l2l_dask.trajectory.layout import LIVE, store_below, stores_below
from l2l_dask.underway import Underway

if TYPE_CHECKING:
    from l2l_dask.dashboard.pages._course import Course

_log = logging.getLogger(__name__)

_PERIOD, _PERIOD_ENDED = 0.5, 2.0  # seconds between two looks at a store
_SHARE = 0.2  # of the time that one store may take, however large it is
_WATCHED = 5.0  # seconds for which an interest counts,
_KEPT = 300.0  # and for which what was read is kept without one
_MOST_KEPT = 400_000_000  # bytes, of what nobody looks at
T = TypeVar("T")


class Followed:
    """A store, as all viewers see it.

    Attributes
    ----------
    name
        Its path below the folder.
    version
        Grows with each change.
    incarnation
        Grows when the store becomes another one, of which nothing that is shown holds.
    problem
        Why it cannot be read at the moment, in a line; empty if it can.
    loss
        What is not in it that must have been, in a line; empty if nothing seems to be.
    summary
        What the overview says of it.
    underway
        What its driver says to be evaluated just now.
    seen
        The stamp of what was read last.
    actions
        When the record of what people did to it changed last.
    still
        Held while the rows change that all trajectories of it share, and by who looks at them.
    course
        How its search went, for pages that show it; None before the first.
    course_lock
        Held while that is kept up, and while the trajectory is changed for another.
    """

    def __init__(self, store: Path, name: str) -> None:
        self.store, self.name = store, name
        self.version = self.incarnation = 0
        self.problem = self.loss = ""
        self.summary, self.actions = Summary(), 0.0
        self.seen: tuple[int, ...] | None = None
        self.asked = time.monotonic()
        self.underway: list[Underway] = []
        self._following = Following(store)
        self._trajectory: Trajectory | None = None
        self.still = threading.Lock()
        self._lock, self._looked, self._took, self._summed = threading.Lock(), -math.inf, 0.0, 0
        self._shared: dict[Any, Any] = {}
        self.course: Course | None = None
        self.course_lock = threading.Lock()

    @property
    def ready(self) -> bool:
        """Whether it could be read, now or before."""
        return self._trajectory is not None

    @property
    def trajectory(self) -> Trajectory:
        """What it holds; what it held, while it cannot be read."""
        assert self._trajectory is not None, "a page is made once its store could be read"
        return self._trajectory

    @property
    def nbytes(self) -> int:
        """What its columns take in memory."""
        return sum(values.nbytes for values in self.trajectory.record.columns.values()) if self.ready else 0

    @property
    def live(self) -> bool:
        """Whether more is to come."""
        return self._trajectory is None or bool(self.problem) or self._trajectory.state in LIVE

    def once(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call ``function(trajectory, *arguments)``, once in a version for all viewers."""
        key = (function, arguments)
        version, shared = self.version, self._shared
        if key not in shared or shared[key][0] != version:
            shared[key] = version, function(self.trajectory, *arguments)
        result: T = shared[key][1]
        return result

    def renew(self) -> None:
        """Look at the store, if the last time was long enough ago."""
        period = max(_PERIOD if self.live else _PERIOD_ENDED, self._took / _SHARE)
        with self._lock:
            began = time.monotonic()
            if began - self._looked < period:
                return
            seen = stamp(self.store)
            try:
                news, problem = self._following.read(), ""
                with self.still:
                    self._take(self._following.apply(news).version, self._following.trajectory)
            except L2LError as error:
                problem = str(error)
            except Exception as error:  # whatever is in the folder: the server goes on
                _log.exception("%s", self.store)
                problem = f"{self.store} cannot be read: {type(error).__name__}: {error}"
            if not problem:
                self._sum_up()
            self.problem = problem
            self._looked = time.monotonic()
            self._took = self._looked - began
            self.seen = seen

    def _take(self, version: int, trajectory: Trajectory) -> None:
        before, is_new = self._trajectory, version != self.version
        # In this order: who does not wait sees no other store as the same one, nor keeps what is old as new.
        with self.course_lock:
            if is_new and before is not None and trajectory.experiment != before.experiment:
                self._shared, self.course = {}, None
                self.incarnation += 1
            self._trajectory = trajectory
        self.version = version

    def _sum_up(self) -> None:
        """Bring the summary up to date: nobody but this thread changes what it is made from."""
        trajectory = self.trajectory
        self.underway = underway(self.store) if trajectory.state in LIVE else []
        if trajectory.state in LIVE or self._summed != self.version:
            self._summed = self.version
            self.summary, self.loss = summed_up(trajectory, self.underway), _loss(trajectory)
        self.actions = _changed(trajectory.layout.actions)


class Stores:
    """The stores below a folder.

    Two threads read: one what is looked at, and one the overview of all.

    Parameters
    ----------
    root
        The folder, or one store.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.problem = ""
        self.summaries: dict[str, Summary] = {}
        self.scanned = False
        self._followed: dict[str, Followed] = {}
        self._asked = time.monotonic()
        self._lock, self._closed, self._wake = threading.Lock(), threading.Event(), threading.Event()
        self._threads = [
            threading.Thread(target=partial(self._repeat, step, pause), name=name, daemon=True)
            for name, step, pause in (("l2l-reader", self._read, 0.1), ("l2l-overview", self._look, 1.0))
        ]
        for thread in self._threads:
            thread.start()

    def names(self) -> dict[str, Path]:
        """Find the stores, by their paths below the folder."""
        if self.root.suffix == ".zarr":
            return {self.root.name: self.root}
        return {path.relative_to(self.root).as_posix(): path for path in stores_below(self.root)}

    def find(self, name: str) -> Path | None:
        """Look one up by its path below the folder, and at no other: who waits for one asks time and again."""
        if self.root.suffix == ".zarr":
            return self.root if name == self.root.name else None
        return store_below(self.root, name)

    def follow(self, name: str) -> Followed | None:
        """Return a store that somebody looks at from now on; None if there is none of that name, and was none."""
        with self._lock:
            if name not in self._followed:
                store = self.find(name)
                if store is None:
                    return None
                self._followed[name] = Followed(store, name)
            found = self._followed[name]
        return self.watch(found)

    def watch(self, followed: Followed) -> Followed:
        """Note that somebody looks at a store, and return the one that goes on to be read.

        That is another one if this was dropped, and somebody else asked for its name since.
        """
        kept = self._followed.setdefault(followed.name, followed)
        kept.asked = time.monotonic()
        self._wake.set()
        return kept

    def overview(self) -> dict[str, Summary]:
        """Return the summaries of all stores; those that change are renewed for as long as somebody asks."""
        self._asked = time.monotonic()
        return self.summaries

    def close(self) -> None:
        self._closed.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(5.0)

    def _repeat(self, step: Callable[[], None], pause: float) -> None:
        while not self._closed.is_set():
            try:
                step()
            except Exception:
                _log.exception("reading %s", self.root)
            self._closed.wait(pause)

    def _read(self) -> None:
        self._wake.wait(1.0)
        self._wake.clear()
        now = time.monotonic()
        for followed in list(self._followed.values()):
            if now - followed.asked < _WATCHED:
                followed.renew()
                self._wake.set()
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Drop what nobody looks at: at once where it is more than may be kept, else after a while."""
        kept = 0
        with self._lock:
            for followed in sorted(self._followed.values(), key=lambda each: -each.asked):
                kept += followed.nbytes
                idle = now - followed.asked
                if idle > _KEPT or (idle > _WATCHED and kept > _MOST_KEPT):
                    del self._followed[followed.name]

    def _look(self) -> None:
        if self.scanned and time.monotonic() - self._asked > _WATCHED:
            return
        try:
            names = self.names()
            self.problem = "" if self.root.is_dir() else f"there is no folder {self.root} any more"
        except OSError as error:
            names, self.problem = {}, f"{self.root} cannot be read: {error.strerror}"
        for name in self.summaries.keys() - names.keys():
            self.summaries = {other: known for other, known in self.summaries.items() if other != name}
        for name, store in names.items():
            if self._closed.is_set():
                return
            known, now = self.summaries.get(name), stamp(store)
            if known is None or known.stamp != now or known.moves:
                summary = self._summed_up(name)
                if summary is not None:
                    self.summaries = dict(sorted((self.summaries | {name: summary}).items()))
        self.scanned = True

    def _summed_up(self, name: str) -> Summary | None:
        """Sum a store up, by way of what its viewers see; None if it vanished meanwhile."""
        followed = self.follow(name)
        if followed is None:
            return None
        followed.renew()
        seen = followed.seen  # before what follows, which may be of later
        if followed.problem:
            return Summary(stamp=seen, problem=followed.problem)
        return replace(followed.summary, stamp=seen)


def _loss(trajectory: Trajectory) -> str:
    done = trajectory.record["status"] == Status.DONE
    if not done.any() or not np.isnan(trajectory.record["fitness"][done]).all():
        return ""
    of = f"none of the {done.sum():,} evaluations of {trajectory.layout.root} that are done has a fitness"
    return f"{of}: the array 'fitness' in there is missing or damaged, restore it from a copy"


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
