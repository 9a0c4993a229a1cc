"""What the workers of a Dask cluster offer to an experiment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

from l2l_dask import worker
from l2l_dask.errors import ClusterError

_LOOK = 1.0
_PATIENCE = 3.0  # seconds that the scheduler may take to answer


class Offer:
    """Asks a scheduler for its workers.

    Parameters
    ----------
    client
        Connected.
    resources
        What one evaluation takes.

    Attributes
    ----------
    lost : str
        Why the scheduler did not answer, if it is lost.
    known : int
        The number of slots when it was last asked.
    """

    def __init__(self, client: Any, resources: Mapping[str, float]) -> None:
        self._client, self._resources = client, resources
        self._looked = -math.inf
        self.known = 0
        self.lost = ""

    def look(self) -> None:
        """Ask how many evaluations can run at once, once a second."""
        if time.monotonic() - self._looked > _LOOK:
            self._looked = time.monotonic()
            try:
                self.known = self._asked()
            except TimeoutError:
                pass  # a busy scheduler; a lost one shows in collect
            except OSError as error:
                self.lost = str(error)

    def _asked(self) -> int:
        """Count the slots of those that take something: not those that are leaving, or have no memory left."""
        if not self._resources:
            return sum(self._client.sync(self._client.scheduler.ncores_running, callback_timeout=_PATIENCE).values())
        running = [each for each in self._workers() if each["status"] == "running"]
        return sum(worker.slots_of(each, self._resources) for each in running)

    def _workers(self) -> list[dict[str, Any]]:
        return list(self._client.sync(self._client.scheduler.identity, callback_timeout=_PATIENCE)["workers"].values())

    def require(self) -> None:
        """Refuse workers on which no evaluation would ever start; where there are none yet, they may bring enough.

        Raises
        ------
        ClusterError
            Naming what is needed and what there is.
        """
        if not self._resources:
            return
        self.look()
        if self.known:
            return
        try:
            workers = self._workers()
        except (TimeoutError, OSError):  # which shows in a moment
            return
        if workers and not any(worker.slots_of(each, self._resources) for each in workers):
            needed = " ".join(f"{name}={amount:g}" for name, amount in self._resources.items())
            raise ClusterError(
                f"no worker at {self._client.scheduler.address} offers the resources that an evaluation takes "
                f"({needed}; one has {workers[0]['resources'] or 'none'}): start them with "
                f"`dask worker --resources '{needed}'`"
            )
