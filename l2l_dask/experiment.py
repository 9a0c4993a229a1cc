"""An experiment: an optimizer, an optimizee and a store, run to the end and resumed."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from l2l_dask import config, description, registry, shipping
from l2l_dask.capture import Capture
from l2l_dask.description import PICKLED, Plan
from l2l_dask.errors import ConfigError, PluginError, StoreError
from l2l_dask.notebook.bar import shown
from l2l_dask.notebook.frame import View
from l2l_dask.optimizee import Optimizee, Target
from l2l_dask.running import Handle, OnProgress, drive, opened
from l2l_dask.trajectory import FINAL, RETRY, Trajectory, create, look, mended, refuse

_log = logging.getLogger(__name__)


class Experiment:
    """A search that is run once, and can be resumed from its store ever after.

    Parameters
    ----------
    optimizee
        An :class:`~l2l_dask.Optimizee` (instance or class), or a function with ``space`` and ``objectives``.
    optimizer
        A registered name, a class, or an instance that is as new; ``"auto"`` chooses one and says why.
    store
        The folder to create, ``NAME.zarr``.
    evaluations
        How many individuals to evaluate, failures included.
    space, objectives
        For a function; for an optimizee they replace its own.
    optimizee_options, optimizer_options
        For a class or a name.
    seed
        Same seed, same search (with one worker: the same events).
    timeout
        Seconds per evaluation, after which its process is killed.
    retries, retry_on
        Further attempts after an evaluation that ended so: ``"crashed"``, ``"failed"``, ``"timed_out"``.
    max_failures_in_a_row
        After so many the experiment stops; 0 for no limit.
    initial
        Parameter sets to try first.
    target
        Fitness at which to stop, in your own direction; ``{objective: fitness}`` for several objectives.
    wall_time
        Seconds after which to stop. Here and for the target: no more is asked, what runs is let end.
    repeats, seeds
        Evaluations of each individual, whose fitness is their mean, and whether their seeds are ``"independent"`` or
        ``"common"`` to all individuals. ``evaluations`` counts individuals.
    final, final_repeats
        Evaluate so many of the best again at the end, each so many times on fresh seeds: the best that a noisy search
        found is also the luckiest.
    cluster
        ``"local"``, ``"serial"``, a batch system (``"slurm"``, ``"pbs"``, ``"sge"``, ``"lsf"``, ``"oar"``,
        ``"htcondor"``), a TOML file with a ``[cluster]`` section, a scheduler's address or a scheduler file.
    workers
        Number of local workers, or of a batch system's worker jobs.
    cluster_options
        For a batch system, what a worker job asks for, by dask-jobqueue's names: ``{"cores": 8, "memory": "16 GB",
        "walltime": "02:00:00", "queue": "batch"}``.
    bundle
        Let short evaluations share a future, so many that it lasts about 0.2 s: less overhead, later results.
    resources
        What one evaluation takes of its worker's, by Dask's names for them: ``{"cores": 2}``. Local workers are given
        as much; those of a cluster must offer it (``dask worker --resources cores=8``). ``cores`` is also how many
        threads OpenMP, MKL, OpenBLAS and Numba may use. Of a worker's GPUs, one that takes a ``GPU`` sees its own only.
    memory
        What one evaluation may use, with all that it starts: ``"2 GB"``. One that uses more ends as crashed. By
        default its share of what its worker may use; ``cluster="serial"`` has no limit. A worker whose evaluations use
        more than it may, all together, is lost with them: it needs as much for each of its slots.
    show_output
        Whether what evaluations print is shown, rather than kept with those that fail.

    Raises
    ------
    L2LError
        If any of it makes no sense; nothing is written then.
    """

    def __init__(
        self,
        optimizee: Any,
        optimizer: Any = "auto",
        *,
        store: str | os.PathLike[str],
        evaluations: int,
        space: Any = None,
        objectives: Any = None,
        optimizee_options: Mapping[str, Any] | None = None,
        optimizer_options: Mapping[str, Any] | None = None,
        seed: int = 0,
        timeout: float | None = None,
        retries: int = 1,
        retry_on: Sequence[str] = ("crashed",),
        max_failures_in_a_row: int = 20,
        initial: Sequence[Mapping[str, Any]] = (),
        target: float | Mapping[str, float] | None = None,
        wall_time: float | None = None,
        repeats: int = 1,
        seeds: str = "independent",
        final: int = 0,
        final_repeats: int = 10,
        cluster: str = "local",
        workers: int | None = None,
        cluster_options: Mapping[str, Any] | None = None,
        bundle: bool = False,
        resources: Mapping[str, float] | None = None,
        memory: str | int | None = None,
        show_output: bool = False,
    ) -> None:
        folder = Path.cwd()
        described = {
            "optimizee": {"name": _name_of(optimizee), "options": _plain(optimizee_options or {})},
            "optimizer": {"name": _name_of(optimizer), "options": _plain(optimizer_options or {})},
            "run": {
                "evaluations": evaluations,
                "seed": seed,
                "timeout": timeout,
                "retries": retries,
                "retry_on": [retry_on] if isinstance(retry_on, str) else list(retry_on),
                "max_failures_in_a_row": max_failures_in_a_row,
                "initial": [_plain(params) for params in initial],
                "target": _plain(target),
                "wall_time": wall_time,
                "repeats": repeats,
                "seeds": seeds,
                "final": final,
                "final_repeats": final_repeats,
            },
            "cluster": {"bundle": bundle, "resources": _plain(resources or {}), "memory": memory}
            | {"show_output": show_output}
            | _given(config.cluster(cluster, folder), workers, cluster_options),
        }
        if isinstance(optimizee, str):
            optimizee = registry.find("optimizees", optimizee, folder)
        problem = description.problem(optimizee, space, objectives, optimizee_options)
        self._take(Plan(config.parse(_plain(described)), problem, optimizer, folder, Path(store).absolute()))

    def _take(self, plan: Plan) -> None:
        self.plan = plan.informed(plan.config.cluster.workers)
        self.plan.check()

    @classmethod
    def _of(cls, plan: Plan) -> Experiment:
        experiment = cls.__new__(cls)
        experiment._take(plan)
        return experiment

    @property
    def store(self) -> Path:
        return self.plan.store

    @property
    def explanation(self) -> str:
        """What the optimizer chose by itself, and why; empty if it had no choice."""
        return self.plan.build_optimizer().explanation

    @classmethod
    def from_config(
        cls,
        path: str | os.PathLike[str],
        *,
        store: str | os.PathLike[str] | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        evaluations: int | None = None,
        seed: int | None = None,
        wall_time: float | None = None,
        bundle: bool | None = None,
        show_output: bool | None = None,
    ) -> Experiment:
        """Read an experiment file; what is not None replaces what it says.

        Parameters
        ----------
        path
            Relative paths in the file start at its folder, those given here at the current one.
        """
        read, folder = config.read(path), Path(path).resolve().parent
        where = (read.cluster.profile, folder) if cluster is None else (cluster, Path.cwd())
        changed = read.changed(**config.cluster(*where)).changed(
            evaluations=evaluations,
            seed=seed,
            wall_time=wall_time,
            workers=workers,
            bundle=bundle,
            show_output=show_output,
        )
        written = config.store(Path(path).resolve(), read.run)
        problem = description.problem_of(changed, folder)
        return cls._of(Plan(changed, problem, changed.optimizer.name, folder, Path(store or written).absolute()))

    def create(self) -> None:
        """Write the store, empty: the experiment is then queued."""
        plan, objects = self.plan, {}
        if plan.config.optimizee.name == PICKLED:
            objects["optimizee"] = plan.problem.optimizee
        if plan.config.optimizer.name == PICKLED:
            objects["optimizer"] = plan.optimizer
        create(
            plan.store,
            plan.described(),
            plan.problem.space,
            plan.problem.objectives,
            plan.config.run.evaluations,
            pickled=shipping.pack(objects) if objects else b"",
            targets=_targets(plan.problem.optimizee),
        )

    def run(self, client: Any = None, *, on_progress: OnProgress | None = None) -> Trajectory:
        """Run it and wait for its end.

        Parameters
        ----------
        client
            A connected :class:`distributed.Client`; what ``cluster`` says if None.
        on_progress
            Called a few times a second; in a notebook there is a progress bar in its place.

        Returns
        -------
        Trajectory
            ``state`` says how it ended.
        """
        refuse(self.store)
        shipping.pack(self.plan.problem.optimizee)
        # The cluster first: if it is out of reach, no store is left behind.
        with shown(self.store, on_progress) as note, opened(self.plan, client) as executor:
            self.plan = self.plan.informed(executor.slots or None)
            self.create()
            return drive(self.plan, executor, on_progress=note)

    def show(self, page: str = "search") -> View:
        """Show how far it is: in a notebook its live plots, as the cell's last expression, elsewhere a line.

        Parameters
        ----------
        page
            Which plots: ``"search"``, ``"parameters"``, ``"workers"`` or ``"individuals"``.
        """
        state = look(self.store)[1] if self.store.exists() else "not started"
        return View(f"{self.store}: {state}", self.store, page)

    def start(self, client: Any = None) -> Handle:
        """Run it on a thread of its own, and return at once with a handle."""
        self.create()
        return Handle(self.plan, client)

    @classmethod
    def resume(
        cls,
        store: str | os.PathLike[str],
        *,
        optimizee: Any = None,
        optimizer: Any = None,
        client: Any = None,
        evaluations: int | None = None,
        cluster: str | None = None,
        workers: int | None = None,
        timeout: float | None = None,
        target: float | Mapping[str, float] | None = None,
        wall_time: float | None = None,
        bundle: bool | None = None,
        show_output: bool | None = None,
        trust_record: bool = False,
        retry_failed: bool = False,
        on_progress: OnProgress | None = None,
    ) -> Trajectory:
        """Go on with a search whose driver ended, however it ended.

        Parameters
        ----------
        optimizee, optimizer
            In place of the recorded ones, for what was defined in a notebook and changed since.
        evaluations, target, wall_time
            In place of the recorded ones; an experiment that is finished goes on only with one of them.
        trust_record
            Go on from the results although the optimizer would not ask the same again.
        retry_failed
            Evaluate those that failed again, as new rows.

        Raises
        ------
        ReplayError
            If the optimizer does not repeat what it did.
        LockedError
            If the experiment is running.
        """
        plan = _restored(found := mended(store), optimizee, optimizer)
        before = int(found.details.get("evaluations", plan.config.run.evaluations))
        _refuse_fewer(found, evaluations)
        extended = (evaluations or 0) > before or target is not None or wall_time is not None
        if found.state == "finished" and not extended and not retry_failed:
            return found
        for change in description.changes(found.experiment, plan.folder, optimizee=optimizee, optimizer=optimizer):
            _log.warning("%s: %s", store, change)
        moved = {} if cluster is None else config.cluster(cluster, Path.cwd())
        changed = plan.config.changed(**moved).changed(
            evaluations=before if evaluations is None else evaluations,
            timeout=timeout,
            target=_plain(found.details.get("target") if target is None else target),
            wall_time=wall_time,
            workers=workers,
            bundle=bundle,
            show_output=show_output,
        )
        plan = replace(plan, config=changed)
        with shown(plan.store, on_progress) as note:
            return drive(plan, client, trust=trust_record, retry_failed=retry_failed, on_progress=note)


def _refuse_fewer(found: Trajectory, evaluations: int | None) -> None:
    searched = int((~np.isin(found.record["origin"], [FINAL, RETRY])).sum())
    if evaluations is not None and evaluations < searched:
        store = found.layout.root
        raise ConfigError(f"{store} has {searched} evaluations: expected at least as many, got {evaluations}")


def _restored(found: Trajectory, optimizee: Any, optimizer: Any) -> Plan:
    """Build the plan that a store records."""
    read, folder = description.restored(found.experiment, found.layout.root)
    objects = _unpickled(found) if PICKLED in (read.optimizee.name, read.optimizer.name) else {}
    optimizee = optimizee if optimizee is not None else objects.get("optimizee")
    if isinstance(optimizee, str):
        optimizee = registry.find("optimizees", optimizee, folder)
    optimizer = optimizer if optimizer is not None else objects.get("optimizer", read.optimizer.name)
    if optimizee is None:
        problem = description.problem_of(read, folder)
    else:
        own = getattr(optimizee, "space", None)
        problem = description.problem(optimizee, None if own else found.space, None if own else found.objectives)
    if problem.space.to_dict() != found.space.to_dict() or problem.objectives != found.objectives:
        raise PluginError(f"{found.layout.root} was run with another space or objectives than the optimizee has now")
    plan = Plan(read, problem, optimizer, folder, found.layout.root)
    plan.check()
    return plan


def _unpickled(found: Trajectory) -> dict[str, Any]:
    """Open what was given from Python, without a name."""
    try:
        objects: dict[str, Any] = shipping.unpack(found.layout.pickled.read_bytes())
    except Exception as error:
        raise StoreError(f"{found.layout.pickled} cannot be opened here ({type(error).__name__}: {error})") from error
    return objects


def _targets(optimizee: Optimizee) -> Mapping[str, Target]:
    capture = Capture()
    try:
        with capture():
            return optimizee.targets()
    except Exception as error:  # only the report is poorer, and a login node may lack the simulator
        _log.warning("the report will show no target: %s: %s", type(error).__name__, error)
        return {}
    finally:
        capture.close()


def _given(cluster: dict[str, Any], workers: int | None, options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put a cluster's keys and what the caller gave beside it together; the latter wins."""
    given = {"workers": workers, "options": None if options is None else _plain(options)}
    return cluster | {name: value for name, value in given.items() if value is not None}


def _name_of(thing: Any) -> str:
    return description.reference(thing) or PICKLED


def _plain(value: Any) -> Any:
    """Turn numpy's types, paths and tuples into what can be recorded; the rest is refused there."""
    if isinstance(value, Mapping):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    return value.tolist() if hasattr(value, "tolist") else value
