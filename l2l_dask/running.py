"""Running an experiment: everything it needs is opened, driven, and closed again."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from l2l_dask import description, shipping
from l2l_dask.config import in_bytes
from l2l_dask.curves import observes
from l2l_dask.driver import Driver
from l2l_dask.errors import ClusterError
from l2l_dask.evaluating import Where
from l2l_dask.evaluation import FAILURES
from l2l_dask.executors import Executor, Serial
from l2l_dask.loop import Control, Policy
from l2l_dask.notebook.bar import shown
from l2l_dask.notebook.frame import View
from l2l_dask.progress import Progress
from l2l_dask.replay import replay
from l2l_dask.signals import obeying
from l2l_dask.trajectory import FINAL, INITIAL, RETRY, Record, Trajectory, Writer, load

OnProgress: TypeAlias = Callable[[Progress], None]
_LOOK = 0.5  # seconds between two looks of who waits


def drive(
    plan: description.Plan,
    client: Any,
    *,
    trust: bool = False,
    retry_failed: bool = False,
    on_progress: OnProgress | None = None,
    on_driver: Callable[[Driver], None] | None = None,
) -> Trajectory:
    """Bring a store to its end, from wherever it is."""
    problem, run = plan.problem, plan.config.run
    optimizer = plan.build_optimizer()
    writer = Writer(plan.store, problem.space)
    try:
        if trust:
            writer.trust()
        replay(optimizer, writer.record, writer.layout.root, trusted=writer.trusted_rows)
        store, uuid = str(writer.layout.root.resolve()), writer.described["uuid"]
        where = Where(store, uuid, writer.epoch, optimizer.needs, observes(optimizer))
        with opened(plan, client) as executor:
            executor.start(problem.optimizee, where)
            retries = _failed(writer.record) if retry_failed else []
            policy = _policy(plan, writer.record, len(retries))
            driver = Driver(
                optimizer,
                executor,
                writer,
                policy,
                sampling=description.sampling(run),
                wall_time=run.wall_time,
                details={"evaluations": run.evaluations, "target": run.target},
                on_progress=on_progress,
            )
            if not len(writer.record) and run.initial:
                driver.adopt(np.array(plan.initial_x()), INITIAL)
            if retries:
                driver.adopt(writer.record["x"][retries], RETRY, retries)
            if on_driver is not None:
                on_driver(driver)
            with obeying(driver):
                driver.run()
    except BaseException as error:
        writer.abandon()
        if isinstance(error, ClusterError):
            again = type(error)(f"{error}; go on with: l2l resume {plan.store}")
            again.exit_status = error.exit_status
            raise again from error
        raise
    return load(plan.store)


def _policy(plan: description.Plan, record: Record, retries: int) -> Policy:
    """Return the user's policy; what is evaluated again comes on top of the budget."""
    policy = description.policy(plan.config.run, plan.problem.objectives)
    again = int(np.isin(record["origin"], [FINAL, RETRY]).sum())
    return replace(policy, evaluations=policy.evaluations + again + retries)


def _failed(record: Record) -> list[int]:
    """List the rows that failed and were not retried yet."""
    failed = np.isin(record["status"], FAILURES)
    failed[record["origin"] == FINAL] = False
    failed[record["retry_of"][record["origin"] == RETRY]] = False
    return [int(i) for i in np.flatnonzero(failed)]


@contextmanager
def opened(plan: description.Plan, client: Any) -> Iterator[Executor]:
    """Open what the experiment runs on; there, relative paths start where they do in its file.

    ``client`` is a connected one, an executor, what makes one when it is given :class:`~.executors.dask.Dask`'s
    options, or None for what the experiment's file says.
    """
    section, timeout = plan.config.cluster, plan.config.run.timeout
    cwd = str(plan.folder if plan.folder.is_dir() else Path.cwd())
    if client is None and section.profile == "serial":
        yield Serial(cwd, show_output=section.show_output)
        return
    if isinstance(client, Executor):
        yield client
        return
    from l2l_dask import cluster
    from l2l_dask.executors.dask import Dask

    made: Any = client if callable(client) else Dask
    on = partial(
        made,
        timeout=timeout,
        paths=shipping.user_paths(),
        cwd=cwd,
        bundle=section.bundle,
        resources=section.resources,
        memory=None if section.memory is None else in_bytes(section.memory),
        show_output=section.show_output,
    )
    if client is not None:
        yield on() if callable(client) else on(client)
        return
    with cluster.open(section, plan.store.with_suffix(".jobs")) as at:
        yield on(at.client, local=at.local, notice=at.waits)


class Handle:
    """A running experiment, from the process that runs it.

    Attributes
    ----------
    store : pathlib.Path
    """

    def __init__(self, plan: description.Plan, client: Any) -> None:
        self.store = plan.store
        self.progress: Progress | None = None
        self._driver: Driver | None = None
        self._result: Trajectory | None = None
        self._error: BaseException | None = None
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(plan, client), name="l2l-driver", daemon=True)
        self._thread.start()

    def _run(self, plan: description.Plan, client: Any) -> None:
        try:
            self._result = drive(plan, client, on_progress=self._note, on_driver=self._take)
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    def _note(self, progress: Progress) -> None:
        self.progress = progress

    def _take(self, driver: Driver) -> None:
        self._driver = driver
        self._ready.set()

    @property
    def running(self) -> bool:
        return self._thread.is_alive()

    @property
    def best(self) -> Any:
        """The best individual so far, None before the first."""
        return load(self.store).best

    def show(self, page: str = "search") -> View:
        """Show how far it is: in a notebook its live plots, as the cell's last expression, elsewhere a line.

        Parameters
        ----------
        page
            Which plots: ``"search"``, ``"parameters"``, ``"workers"`` or ``"individuals"``.
        """
        p = self.progress
        line = f"{self.store}: {load(self.store).state}" + (f", {p.ended} of {p.total}, best {p.best}" if p else "")
        return View(line, self.store, page)

    def stop(self, *, now: bool = False) -> None:
        """Ask no more; with ``now``, do not wait for what runs either."""
        self._command(Control("stop-now" if now else "stop", "stopped by its handle"))

    def pause(self) -> None:
        self._command(Control("pause"))

    def unpause(self) -> None:
        self._command(Control("unpause"))

    def _command(self, control: Control) -> None:
        self._ready.wait()
        if self._driver is not None:
            self._driver.command(control)

    def _tell(self, note: OnProgress | None) -> None:
        if note is not None and self.progress is not None:
            note(self.progress)

    def wait(self, timeout: float | None = None) -> Trajectory:
        """Wait for the end; in a notebook, with a progress bar.

        Raises
        ------
        TimeoutError
            If it has not come by then.
        """
        until = math.inf if timeout is None else time.monotonic() + timeout
        with shown(self.store) as note:
            while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
                self._tell(note)
                self._thread.join(min(left, _LOOK))
            self._tell(note)
        if self._thread.is_alive():
            raise TimeoutError(f"{self.store} still runs after {timeout} s")
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result
