"""Starting and stopping a service from a login node."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from l2l_dask.cluster import jobs
from l2l_dask.errors import ClusterError
from l2l_dask.service import place, standing, succession
from l2l_dask.service.place import Place
from l2l_dask.service.settings import Settings
from l2l_dask.service.standing import Standing

_LOOK = 0.25
_KEPT = ("epoch", "workers", "experiments", "machine")  # of the last start, for the next


def prepare(root: Path, settings: Settings) -> Place:
    """Get a folder ready for a service.

    Raises
    ------
    ClusterError
        If a service is alive there, or the settings make no sense.
    """
    at = Place(root.resolve())
    # Refused before anything is written.
    profile = settings.profile
    if not settings.here and not profile.kind.after:
        raise ClusterError(
            f"{settings.system}: there is no service there, since no job can wait for the end of another one: "
            f"use `l2l run --cluster {settings.system}`"
        )
    if not settings.here:
        settings.own_profile  # noqa: B018
    found = standing.look(at)
    if found.alive:
        raise ClusterError(found.line())
    at.make()
    settings.write(at)
    return at


def start(at: Place, settings: Settings) -> str:
    """Submit the job of a service.

    Returns
    -------
    str
        Its id.

    Raises
    ------
    ClusterError
        In the batch system's own words, if it is refused.
    """
    before = place.read(at.state)
    service = str(before.get("service") or secrets.token_hex(3))
    job = succession.submit(at, settings, service)
    if place.read(at.state) == before:  # it may have begun already
        kept: dict[str, Any] = {name: before[name] for name in _KEPT if name in before}
        place.write(at.state, {**kept, "state": "pending", "job": job, "service": service, "since": time.time()})
    return job


def wait_for(at: Place, job: str, seconds: float) -> Standing:
    """Wait a while for the service that a job is to run."""
    return _wait(at, lambda found: found.state.get("job") == job and found.condition != "pending", seconds)


def stop(at: Place, *, now: bool, said: Callable[[str], None], seconds: float | None = None) -> Standing:
    """Let a service end: what runs is let end unless ``now``; the rest waits for the next start.

    Parameters
    ----------
    said
        Called with what goes on.
    seconds
        How long to wait for its end; None for as long as it takes.

    Raises
    ------
    ClusterError
        If there is none.
    """
    found = standing.look(at)
    settings = Settings.read(at) if found.condition != "none" else None
    if settings is None or found.condition == "ended":
        raise ClusterError(found.line())
    if found.condition in ("lost", "pending", "handing over"):
        _clear_up(at, found, settings)
        return standing.look(at)
    place.write(at.control, {"epoch": found.state["epoch"], "command": "stop-now" if now else "stop"})
    said("waits for evaluations that run (--now does not)" if not now else "waits for its end")
    ended = _wait(at, lambda seen: not seen.alive or seen.condition in ("pending", "handing over"), seconds)
    if ended.condition == "lost":
        _clear_up(at, ended, settings)
    return ended


def _clear_up(at: Place, found: Standing, settings: Settings) -> None:
    """Leave nothing of a service that could not do so itself."""
    state = dict(found.state)
    jobs.cancel(settings.profile, [worker["id"] for worker in state.get("workers", ())])
    # Its own job, too: that it is gone may only be what is to be thought of one that gives no sign of life.
    jobs.cancel(settings.own_profile, [job for job in (state.get("job"), state.get("successor")) if job])
    for epoch in at.connections():
        at.connection(epoch).unlink(missing_ok=True)
    for folder in at.private.glob("tls-*"):
        from l2l_dask.cluster.tls import Tls

        Tls(folder).remove()
    ended = {"state": "ended", "successor": "", "workers": [], "reason": "it was stopped"}
    place.write(at.state, state | ended)


def _wait(at: Place, until: Callable[[Standing], bool], seconds: float | None) -> Standing:
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        found = standing.look(at)
        if until(found) or (end is not None and time.monotonic() >= end):
            return found
        time.sleep(_LOOK)
