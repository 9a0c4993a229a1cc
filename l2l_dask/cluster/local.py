"""The embedded cluster of a laptop."""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import spawn, util
from pathlib import Path
from typing import Any

from distributed import Client, LocalCluster, SpecCluster

from l2l_dask.cluster import pages
from l2l_dask.errors import ClusterError

_DIRECT = ("tcp://", "tls://", "ucx://", "ws://", "wss://")


@contextmanager
def local(workers: int | None = None, resources: Mapping[str, float] | None = None) -> Iterator[Client]:
    """Start workers on this machine, one slot each, and end them with the block.

    Parameters
    ----------
    workers
        Number of worker processes; if None, one for each core this process may use, or for as many as an evaluation
        takes.
    resources
        What one evaluation takes, and so each worker has.
    """
    taken = dict(resources or {})
    n = workers or max(1, int(len(os.sched_getaffinity(0)) / taken.get("cores", 1)))
    with _SHIELD.up(), pages.none_served():
        try:
            cluster = _Kept(  # type: ignore[no-untyped-call]
                n_workers=n,
                threads_per_worker=1,
                resources=taken,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                scheduler_kwargs={"dashboard": False},  # it takes a second to start, and we have our own
                silence_logs=logging.ERROR,
            )
        except (OSError, TimeoutError, RuntimeError) as error:
            raise ClusterError(f"{n} local workers could not be started: {error}") from error
        with cluster, Client(cluster) as client:
            yield client


class _Kept(LocalCluster):
    """One that gives up no worker: its nanny, in this process, starts it again, on a busy machine after a while."""

    def _update_worker_status(self, op: str, msg: Any) -> None:
        super(SpecCluster, self)._update_worker_status(op, msg)  # type: ignore[no-untyped-call]


class _Shield:
    """Shields Dask's workers from the user's script and folder, while one cluster at least is up."""

    def __init__(self) -> None:
        self._lock, self._clusters = threading.Lock(), 0

    @contextmanager
    def up(self) -> Iterator[None]:
        with self._lock:
            self._clusters += 1
            if self._clusters == 1:
                self._prepare = spawn.get_preparation_data
                self._flags: Callable[[], list[str]] = util._args_from_interpreter_flags  # type: ignore[attr-defined]
                self._set(self._without_main, self._without_folder)
        try:
            yield
        finally:
            with self._lock:
                self._clusters -= 1
                if not self._clusters:
                    self._set(self._prepare, self._flags)

    @staticmethod
    def _set(prepare: Callable[[str], dict[str, Any]], flags: Callable[[], list[str]]) -> None:
        spawn.get_preparation_data = prepare  # type: ignore[assignment]
        util._args_from_interpreter_flags = flags  # type: ignore[attr-defined]

    def _without_main(self, name: str) -> dict[str, Any]:
        """Keep Dask's workers, also those that its nannies start later, from running the user's script again.

        They need nothing from it, and one that starts a search without ``if __name__ == "__main__"`` would do so in
        each.
        """
        prepared = self._prepare(name)
        if name.startswith("Dask Worker process"):
            prepared = {key: value for key, value in prepared.items() if not key.startswith("init_main_from")}
        return prepared

    def _without_folder(self) -> list[str]:
        """Keep Python, where Dask's workers start, from importing the user's ``types.py`` in place of its own."""
        return [*(flag for flag in self._flags() if flag != "-P"), "-P"]


_SHIELD = _Shield()


@contextmanager
def connected(where: str) -> Iterator[Client]:
    """Connect to a running scheduler; Dask's setting ``distributed.comm.timeouts.connect`` says how long to try.

    Parameters
    ----------
    where
        Its address, or the scheduler file that it wrote.

    Raises
    ------
    ClusterError
        If it does not answer.
    """
    address = where if where.startswith(_DIRECT) else _address_in(where)
    try:
        client = Client(address)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"no Dask scheduler answers at {where} ({error}): is it running?") from error
    logging.getLogger("distributed.batched").setLevel(logging.WARNING)  # a lost connection, with a traceback
    with client:
        try:
            yield client
        except ClusterError:
            logging.getLogger("distributed.client").setLevel(logging.CRITICAL)  # the same once more
            raise


def _address_in(path: str) -> str:
    if not os.path.isfile(path):
        raise ClusterError(f"there is no scheduler file {path}: `dask scheduler --scheduler-file {path}` writes it")
    try:
        return str(json.loads(Path(path).read_text())["address"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ClusterError(f"{path} is not a file that `dask scheduler --scheduler-file` wrote") from error
