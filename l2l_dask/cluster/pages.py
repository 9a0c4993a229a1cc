"""No page of Dask's is served: even without a dashboard it shows some to anyone on the machine, in the clear."""

from __future__ import annotations

from contextlib import AbstractContextManager

import dask

_ROUTES = ("distributed.scheduler.http.routes", "distributed.worker.http.routes")
# What a worker's own process is told.
EXPORT = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"


def none_served() -> AbstractContextManager[object]:
    """Let what is started within the block serve no page."""
    nothing: AbstractContextManager[object] = dask.config.set({route: [] for route in _ROUTES})
    return nothing
