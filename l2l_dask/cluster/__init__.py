"""Where the workers come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dask
from distributed import Client

from l2l_dask.cluster.local import connected, local
from l2l_dask.cluster.systems import SYSTEMS
from l2l_dask.config import ALLOCATION, ClusterSection
from l2l_dask.errors import ClusterError

__all__ = ["Opened", "open"]


@dataclass(frozen=True)
class Opened:
    """A cluster that is there.

    Attributes
    ----------
    client : distributed.Client
        Connected.
    local : bool
        Whether the workers are this process's own.
    waits : callable
        Says in a line which workers are waited for, and why; empty if none are or it is not known.
    """

    client: Client
    local: bool
    waits: Callable[[], str] = str


@contextmanager
def open(section: ClusterSection, folder: Path) -> Iterator[Opened]:
    """Open the cluster that a ``[cluster]`` section describes.

    Parameters
    ----------
    section
        Its ``profile`` is ``"local"``, a batch system, ``"allocation"`` (within :func:`.allocation.joined`), a
        scheduler's address, or a scheduler file. Where Dask itself is
        configured to use a scheduler (``DASK_SCHEDULER_ADDRESS``), ``"local"`` means that one.
    folder
        Made for what the jobs of a batch system need and print.

    Yields
    ------
    Opened

    Raises
    ------
    ClusterError
        If it cannot be reached or started.
    """
    profile = section.profile
    configured = dask.config.get("scheduler-address", None) if profile == "local" else profile
    if configured is None:
        with local(section.workers, section.resources) as client:
            yield Opened(client, local=True)
    elif configured in SYSTEMS:
        with _batch(section, folder) as opened:
            yield opened
    elif configured == ALLOCATION:
        from l2l_dask.cluster import allocation

        yield Opened(allocation.client(), local=True)
    else:
        with connected(configured) as client:
            yield Opened(client, local=False)


@contextmanager
def _batch(section: ClusterSection, folder: Path) -> Iterator[Opened]:
    from l2l_dask.cluster.batch import batch
    from l2l_dask.cluster.profiles import Profile

    if section.workers is None:
        raise ClusterError(f"{section.profile}: how many worker jobs? --workers 8, or [cluster] workers = 8")
    wanted = Profile(section.profile, section.options)
    with batch(wanted, section.workers, folder, encrypted=section.tls, offers=section.offers) as (client, kept):
        yield Opened(client, local=False, waits=lambda: kept.waits)
