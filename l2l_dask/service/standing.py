"""How a service stands, seen from any process that sees its folder."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from l2l_dask.cluster import jobs
from l2l_dask.errors import ClusterError
from l2l_dask.service import place
from l2l_dask.service.place import Place
from l2l_dask.service.settings import Settings
from l2l_dask.trajectory.lease import holder_is_gone

Condition: TypeAlias = Literal["none", "pending", "running", "leaving", "handing over", "ended", "lost"]

_ASK = 5.0  # seconds between two questions to the batch system about a job
ALIVE = ("pending", "running", "leaving", "handing over")


@dataclass(frozen=True)
class Standing:
    """How a service stands.

    Attributes
    ----------
    condition
        ``"none"``: none was ever started; ``"pending"``: its job waits in the queue; ``"running"``; ``"leaving"``: it
        runs, but not for long; ``"handing over"``: it ended, and its successor waits in the queue; ``"ended"``, as it
        was meant to; ``"lost"``: it ended otherwise, and there is no successor.
    state
        What it said last.
    """

    place: Place
    condition: Condition
    state: Mapping[str, Any]

    @property
    def alive(self) -> bool:
        """Whether experiments go on by themselves, now or in time."""
        return self.condition in ALIVE

    def line(self) -> str:
        """Say it in a line, with what to do."""
        root, state = self.place.root, self.state
        why = f", {state['reason']}" if state.get("reason") else ""
        job = f"job {state['job']}" if state.get("job") else f"process {state.get('pid')} on {state.get('host')}"
        says = {
            "none": f"no service was ever started in {root}: `l2l service start {root}` does",
            "pending": f"the service in {root} waits in the queue ({job}); `l2l service stop {root}` takes it out",
            "running": f"the service in {root} runs ({job})",
            "leaving": f"the service in {root} is about to end ({job}): {state.get('reason')}",
            "handing over": f"the service in {root} goes on in job {state.get('successor')}, which waits in the queue",
            "ended": f"the service in {root} has ended{why}: `l2l service start {root}` goes on",
            "lost": f"the service in {root} is gone ({job} has ended): `l2l service start {root}` goes on; "
            f"{self.place.logs} may say why",
        }
        return says[self.condition]


def look(at: Place) -> Standing:
    """Find out how a service stands.

    Raises
    ------
    ClusterError
        If its files are readable by others, or somebody else's.
    """
    state = place.read(at.state)
    if not state:
        return Standing(at, "none", state)
    settings = Settings.read(at)
    gone = is_gone(at, state, settings)
    if not gone:
        condition: Condition = "pending" if state["state"] == "pending" else "running"
        return Standing(at, "leaving" if state["state"] == "leaving" else condition, state)
    successor = state.get("successor")
    if successor and _is_there(settings, successor) is not False:
        return Standing(at, "handing over", state)
    return Standing(at, "ended" if state["state"] == "ended" else "lost", state)


def is_gone(at: Place, state: Mapping[str, Any], settings: Settings) -> bool:
    """Tell whether the service that wrote a state has ended."""
    if state["state"] == "ended":
        return True
    if state["state"] != "pending":
        gone = holder_is_gone(dict(state))
        if gone is not None:
            return gone
    if state.get("job"):
        there = _is_there(settings, state["job"])
        if there is not None:
            return not there
        if state["state"] == "pending":  # which gives no sign of life, however long it waits in the queue
            return False
    return at.is_silent()  # as long as nothing better is known


_answers: dict[tuple[str, str], tuple[float, bool | None]] = {}


def _is_there(settings: Settings, job: str) -> bool | None:
    """Tell whether a job waits or runs; None if the batch system, which is not asked all the time, does not say."""
    asked, there = _answers.get((settings.system, job), (-math.inf, None))
    if time.monotonic() - asked >= _ASK:
        known = jobs.states(settings.own_profile, [job])
        there = None if known is None else job in known
        _answers[settings.system, job] = time.monotonic(), there
    return there


def connection(at: Place) -> dict[str, Any]:
    """Read how to connect to the service that runs now.

    Raises
    ------
    ClusterError
        If none does, or the file is not safe to use.
    """
    for epoch in reversed(at.connections()):
        found = place.read(at.connection(epoch))
        if found and not (found.get("ends") and time.time() > found["ends"]):
            return found
    standing = look(at)
    if standing.condition == "running":
        raise ClusterError(f"the service in {at.root} has not begun to listen yet: try again in a moment")
    raise ClusterError(standing.line())
