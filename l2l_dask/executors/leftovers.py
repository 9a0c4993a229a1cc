"""What an experiment leaves on a Dask cluster: its plugin on the workers, its messages on the scheduler."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

_PATIENCE = 3.0  # seconds that the scheduler may take to answer


def clear(client: Any, prefix: str) -> None:
    """End what a driver of the same store that was killed left on the workers."""
    try:
        left = client.run_on_scheduler(
            lambda dask_scheduler: [name for name in dask_scheduler.worker_plugins if name.startswith(prefix)]
        )
    except (OSError, ValueError):  # it is far too busy, or runs no code from elsewhere
        return
    for name in left:
        end(client, name)


def end(client: Any, name: str) -> None:
    """End the processes of an experiment, and let the scheduler forget its latest messages.

    It would keep these as long as it lives.
    """
    with suppress(
        OSError, ValueError
    ):  # a cluster that is gone has nothing left to end; one that hangs is told in time
        client.sync(client.scheduler.unregister_worker_plugin, name=name, callback_timeout=_PATIENCE)
    with suppress(Exception):  # Dask has no public way: another version's scheduler keeps them
        client.run_on_scheduler(
            lambda dask_scheduler: dask_scheduler._broker.truncate(name), callback_timeout=_PATIENCE
        )
