"""``--cluster allocation``: all tasks of an ``srun`` run the same command, and one of them alone goes on with it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from l2l_dask.errors import L2LError


@contextmanager
def allocated(cluster: str | None, store: Path | None, experiment: Path | None = None) -> Iterator[None]:
    """Within the block this process is the driver; the other tasks of an allocation end here.

    Parameters
    ----------
    cluster
        What ``--cluster`` names; with anything but an allocation nothing happens.
    store
        The folder beside which the tasks meet; if None, that which the experiment's file says.
    """
    from l2l_dask import config

    with _one_speaks():
        section = config.cluster(cluster, Path.cwd()) if cluster else {}
    if section.get("profile") != config.ALLOCATION:
        yield
        return
    from l2l_dask.cluster.allocation import joined

    with _one_speaks():
        if store is None:
            assert experiment is not None
            store = config.store(experiment, config.read(experiment).run)
    with joined(config.ClusterSection.model_validate(section), store.absolute().with_suffix(".jobs")):
        yield


@contextmanager
def _one_speaks() -> Iterator[None]:
    """Let one task alone say what is wrong with what all of them were given."""
    try:
        yield
    except L2LError:
        if "SLURM_STEP_ID" in os.environ and os.environ.get("SLURM_PROCID", "0") != "0":
            raise SystemExit(2) from None
        raise
