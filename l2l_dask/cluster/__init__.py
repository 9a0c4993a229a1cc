"""Where the workers come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import dask
from distributed import Client

from l2l_dask.cluster.local import connected, local

__all__ = ["open"]


@contextmanager
def open(
    profile: str, workers: int | None, resources: Mapping[str, float] | None = None
) -> Iterator[tuple[Client, bool]]:
    """Open a cluster by its profile.

    Parameters
    ----------
    profile
        ``"local"``, a scheduler's address, or a scheduler file. Where Dask itself is configured to use a scheduler
        (``DASK_SCHEDULER_ADDRESS``), ``"local"`` means that one.
    workers
        Number of local workers.
    resources
        What one evaluation takes: what each local worker has.

    Yields
    ------
    The client, and whether the workers are this process's own.

    Raises
    ------
    ClusterError
        If it cannot be reached or started.
    """
    configured = dask.config.get("scheduler-address", None) if profile == "local" else profile
    if configured is None:
        with local(workers, resources) as client:
            yield client, True
    else:
        with connected(configured) as client:
            yield client, False
