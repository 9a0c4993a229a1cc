"""A service, and its experiments, from any process that sees its folder."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from l2l_dask.cluster.attaching import attach
from l2l_dask.cluster.tls import Tls
from l2l_dask.errors import ClusterError, ConfigError, StoreError
from l2l_dask.experiment import Experiment
from l2l_dask.notebook.bar import followed
from l2l_dask.notebook.frame import View
from l2l_dask.service import entries, place, standing
from l2l_dask.service.place import Place
from l2l_dask.service.settings import Settings
from l2l_dask.trajectory import Trajectory, load, look, send
from l2l_dask.trajectory.layout import Command, State

_LOOK = 0.5


class Submitted:
    """An experiment of a service: the same from whatever process, also tomorrow.

    Attributes
    ----------
    store : pathlib.Path
        Where it is; all that is shown or steered goes through there.
    """

    def __init__(self, store: Path) -> None:
        self.store = store

    def __repr__(self) -> str:
        return f"<{self.show()}>"

    @property
    def name(self) -> str:
        return self.store.name.removesuffix(".zarr")

    @property
    def state(self) -> State:
        """One of queued, running, paused, finished, stopped, failed and interrupted: it has no driver at the moment."""
        return look(self.store)[1]

    @property
    def problem(self) -> str:
        """Why the service drives it no more; empty if nothing is wrong."""
        known = entries.read(self.store)
        return known.problem if known else ""

    @property
    def weight(self) -> float:
        """Its share of the slots, relative to those of others; may be changed while it runs."""
        known = entries.read(self.store)
        return known.weight if known else 1.0

    @weight.setter
    def weight(self, weight: float) -> None:
        entries.change(self.store, weight=_weight(weight))

    @property
    def result(self) -> Trajectory:
        """What there is so far."""
        return load(self.store)

    @property
    def best(self) -> Any:
        """The best individual so far, None before the first."""
        return self.result.best

    @property
    def progress(self) -> Mapping[str, int]:
        """How many evaluations there are: ``total``, one entry for each status, and the ``budget``."""
        found = self.result
        return found.counts() | {"budget": int(found.details.get("evaluations", len(found)))}

    def show(self, page: str = "search") -> View:
        """Show how far it is: in a notebook its live plots, as the cell's last expression, elsewhere a line.

        Parameters
        ----------
        page
            Which plots: ``"search"``, ``"parameters"``, ``"workers"`` or ``"individuals"``.
        """
        return View(self._line()[1], self.store, page)

    def _line(self) -> tuple[float, str]:
        """Say how far it is, as a share and in words."""
        found, counts = self.result, self.progress
        best = found.best
        fitness = ", ".join(f"{name} = {value:.6g}" for name, value in best.fitness.items()) if best else "none yet"
        problem = f" ({self.problem})" if self.problem else ""
        ended = counts["total"] - counts["pending"]
        said = f"{self.name}: {found.state}{problem}, {ended} of {counts['budget']} evaluations, best {fitness}"
        return ended / max(counts["budget"], 1), said

    def pause(self) -> None:
        """Let it ask no more until :meth:`unpause`."""
        self._tell("pause", paused=True)

    def unpause(self) -> None:
        self._tell("unpause", paused=False)

    def stop(self, *, now: bool = False) -> None:
        """Let it end: with ``now``, what runs is not waited for. One that waits for a driver is withdrawn."""
        if self.state in ("running", "paused"):
            send(self.store, "stop-now" if now else "stop")
        else:
            entries.withdraw(self.store)

    def _tell(self, command: Command, *, paused: bool) -> None:
        entries.change(self.store, paused=paused)  # for who drives it next, or looks only now
        if self.state in ("running", "paused"):  # at last: its driver may have looked before we wrote
            send(self.store, command)

    def wait(self, timeout: float | None = None) -> Trajectory:
        """Wait for the end; in a notebook, with a progress bar.

        Raises
        ------
        TimeoutError
            If it has not come by then.
        ClusterError
            If the service drives it no more, or ended for good.
        """
        with followed(self.store, self._line) as note:
            return self._waited(timeout, note)

    def _waited(self, timeout: float | None, note: Callable[[], None]) -> Trajectory:
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            state = self.state
            if state in entries.ENDED and not getattr(entries.read(self.store), "again", False):
                return self.result
            if self.problem:
                raise ClusterError(f"{self.store} is {state}, and not driven any more: {self.problem}")
            if state not in ("running", "paused"):
                found = standing.look(Place(self.store.parent))
                if not found.alive:
                    raise ClusterError(f"{self.store} is {state}: {found.line()}")
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"{self.store} is still {state} after {timeout} s")
            note()
            time.sleep(_LOOK)


class Experiments(Mapping[str, Submitted]):
    """The experiments in a service's folder, by name."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def __getitem__(self, name: str) -> Submitted:
        store = self._root / f"{name.removesuffix('.zarr')}.zarr"
        if not entries.is_submitted(store):
            raise KeyError(
                f"no experiment {name!r} was submitted in {self._root}: there are {', '.join(self) or 'none'}"
            )
        return Submitted(store)

    def __iter__(self) -> Iterator[str]:
        stores = sorted(self._root.glob("*.zarr"))
        return iter([store.name.removesuffix(".zarr") for store in stores if entries.is_submitted(store)])

    def __len__(self) -> int:
        return len(list(iter(self)))


class Service:
    """A service, whether it runs at the moment or not.

    Attributes
    ----------
    folder : pathlib.Path
        Everything goes through it.
    experiments : Experiments
        What was submitted, by name.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.place = Place(Path(folder).resolve())
        self.folder = self.place.root
        self.experiments = Experiments(self.folder)
        self._client: Any = None
        self._address = ""

    def __repr__(self) -> str:
        return f"<{self.standing().line()}; {len(self.experiments)} experiment(s)>"

    def __enter__(self) -> Service:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def standing(self) -> standing.Standing:
        """Say how the service stands: see :class:`~l2l_dask.service.standing.Standing`."""
        return standing.look(self.place)

    @property
    def client(self) -> Any:
        """A connected :class:`distributed.Client`: a new one where the service moved on to another job.

        Raises
        ------
        ClusterError
            If no service runs or it cannot be reached.
        """
        found = standing.connection(self.place)
        if self._client is not None:
            if self._client.status == "running" and self._address == found["address"]:
                return self._client
            self.close()
        secured = Tls(Path(found["tls"])) if found["tls"] else None
        try:
            self._client, self._address = attach(found["address"], secured), found["address"]
        except ClusterError as error:
            now = self.standing()
            why = now.line() if now.condition != "running" else f"can {found['host']} be reached from here?"
            raise ClusterError(f"{error}: {why}") from None
        return self._client

    def close(self) -> None:
        """Hang up; the service and its experiments go on."""
        if self._client is not None:
            self._client.close()
            self._client = None

    def submit(self, experiment: Experiment, name: str | None = None, weight: float = 1.0) -> Submitted:
        """Queue an experiment; the service drives it, now or when it is started.

        Parameters
        ----------
        experiment
            New. Its store becomes ``NAME.zarr`` in the service's folder.
        name
            That of the experiment's own store if None.
        weight
            Its share of the slots, relative to those of others.

        Raises
        ------
        StoreError
            If there is one of that name.
        """
        name = (name or experiment.store.name).removesuffix(".zarr")
        if not name or name.startswith(".") or "/" in name:
            raise ConfigError(f"an experiment's name must be that of a folder, got {name!r}")
        weight = _weight(weight)
        plan = replace(experiment.plan, store=self.folder / f"{name}.zarr")
        experiment.plan = plan.informed(self._most_slots())
        experiment.create()
        entries.submit(experiment.store, weight=weight)
        return Submitted(experiment.store)

    def submit_again(self, store: str | os.PathLike[str], weight: float | None = None) -> Submitted:
        """Queue a store in the service's folder that was stopped, failed or never submitted.

        Raises
        ------
        StoreError
            If it is not there.
        """
        path = Path(store).resolve()
        if path.parent != self.folder:
            raise StoreError(f"{store} is not in {self.folder}: move it there first")
        again = look(path)[1] in ("stopped", "failed")
        said = {} if weight is None else {"weight": _weight(weight)}
        entries.submit(path, again=again, problem="", submitted=time.time(), **said)
        return Submitted(path)

    def _most_slots(self) -> int | None:
        """Say how many slots there may be, for optimizers that choose by it."""
        if not place.read(self.place.settings):
            return None
        settings = Settings.read(self.place)
        return settings.most * settings.profile.cores

    def status(self) -> dict[str, Any]:
        """Say how the service and its experiments stand, in JSON types."""
        found = self.standing()
        state, driven = found.state, found.state.get("experiments", {})
        if found.condition not in ("running", "leaving"):
            driven = {name: {"slot_seconds": each.get("slot_seconds", 0.0)} for name, each in driven.items()}
        kept = ("job", "host", "pid", "epoch", "since", "ends", "successor", "no_successor", "reason", "trouble")
        by_state: dict[str, int] = {}
        for worker in state.get("workers", ()) if found.alive else ():
            by_state[worker["state"]] = by_state.get(worker["state"], 0) + 1
        nothing = {"total": 0, "busy": 0, "wanted": 0}
        return {
            "folder": str(self.folder),
            "state": found.condition,
            "line": found.line(),
            **{name: state.get(name) for name in kept},
            "slots": state.get("slots", nothing) if found.condition in ("running", "leaving") else nothing,
            "jobs": by_state,
            "experiments": {name: _status(each, driven.get(name, {})) for name, each in self.experiments.items()},
        }


def _status(experiment: Submitted, driven: Mapping[str, Any]) -> dict[str, Any]:
    found, counts = experiment.result, experiment.progress
    best = found.best
    return {
        "store": str(experiment.store),
        "state": found.state,
        "reason": str(found.details.get("reason", "")),
        "problem": experiment.problem,
        "evaluations": dict(counts),
        "best": {"id": best.id, "fitness": best.fitness} if best else None,
        "weight": experiment.weight,
        "quota": driven.get("quota", 0),
        "in_flight": driven.get("in_flight", 0),
        "slot_seconds": driven.get("slot_seconds", 0.0),
        "pid": driven.get("pid"),
    }


def _weight(weight: float) -> float:
    if not 0 < weight < float("inf"):
        raise ConfigError(f"weight: expected a positive number, got {weight!r}")
    return float(weight)


def connect(folder: str | os.PathLike[str]) -> Service:
    """Connect to the service in a folder, from any process that sees it.

    Parameters
    ----------
    folder
        As for ``l2l service start``.

    Raises
    ------
    ClusterError
        If no service was ever started there.
    """
    service = Service(folder)
    Settings.read(service.place)
    return service
