"""Between a scheduler of a service and those who use it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distributed import Client, Scheduler, SpecCluster

from l2l_dask.cluster.tls import Tls
from l2l_dask.errors import ClusterError

_PATIENCE = 5.0


@dataclass(frozen=True)
class Census:
    """What goes on at a moment.

    Attributes
    ----------
    slots
        How many there are.
    running
        How many evaluations run, by the uuid of their store.
    """

    slots: int
    running: Mapping[str, int]

    @property
    def busy(self) -> int:
        return min(self.slots, sum(self.running.values()))


def census(cluster: SpecCluster) -> Census:
    """Count slots, and what runs in them."""
    counted: Census = cluster.sync(_count, cluster.scheduler, callback_timeout=_PATIENCE)
    return counted


async def _count(scheduler: Scheduler) -> Census:
    workers = [worker for worker in scheduler.workers.values() if worker.status.name == "running"]
    running: dict[str, int] = {}
    for worker in workers:
        # What a worker was given beyond its threads waits there for those before it.
        for task in list(worker.processing)[: worker.nthreads]:
            kind, _, rest = str(task.key).partition("-")
            if kind == "l2l":
                store = rest.partition("-")[0]
                running[store] = running.get(store, 0) + 1
    return Census(sum(worker.nthreads for worker in workers), running)


def attach(address: str, secured: Tls | None, timeout: float = 10.0) -> Client:
    """Connect to a scheduler.

    Raises
    ------
    ClusterError
        If it does not answer.
    """
    security: Any = secured.security() if secured else None
    try:
        client = Client(address, security=security, timeout=timeout, set_as_default=False)
    except (OSError, TimeoutError, ValueError) as error:
        raise ClusterError(f"no scheduler answers at {address} ({' '.join(str(error).split())})") from error
    for name in ("distributed.batched", "distributed.client"):  # a lost connection, with tracebacks
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return client
