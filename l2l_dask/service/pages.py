"""Where a service serves Dask's own pages, for a dashboard that hands them on."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from l2l_dask.errors import ClusterError
from l2l_dask.service import place
from l2l_dask.service.place import Place
from l2l_dask.trajectory.lease import holder_is_gone

if TYPE_CHECKING:
    from l2l_dask.dashboard.dask import Upstream


class DaskPages:
    """Dask's pages of the service in a folder, whether there is one at the moment or not.

    Parameters
    ----------
    folder
        As for ``l2l service start``.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._place = Place(Path(folder).resolve())

    def is_live(self) -> bool:
        """Tell whether there seem to be some, from the service's files alone."""
        try:
            epochs = self._place.connections()
            if not epochs or not place.read(self._place.connection(epochs[-1])).get("pages"):
                return False
            return not holder_is_gone(place.read(self._place.state)) and not self._place.is_silent()
        except (ClusterError, OSError, KeyError):
            return False

    def find(self) -> Upstream:
        """Say where they are.

        Raises
        ------
        ClusterError
            If there are none.
        """
        from l2l_dask.cluster.tls import Tls
        from l2l_dask.dashboard.dask import Upstream
        from l2l_dask.service import standing

        found = standing.connection(self._place)
        if not found["tls"]:
            raise ClusterError(
                f"the service in {self._place.root} runs without TLS, so that nothing would keep others from these "
                "pages: stop it, and start it again without --no-tls"
            )
        if not found.get("pages"):
            raise ClusterError(
                f"the service in {self._place.root} could not serve them: what it wrote says why (of a job, in "
                f"{self._place.logs}); stop it, and start it again"
            )
        try:
            return Upstream(found["pages"], Tls(Path(found["tls"])).client_context())
        except OSError as error:  # it ended in between
            raise ClusterError(f"{standing.look(self._place).line()} ({error.strerror})") from None

    def explain(self, error: Exception) -> str:
        """Say why they cannot be reached where they were found."""
        from l2l_dask.service import standing

        now = standing.look(self._place)
        if now.condition not in ("running", "leaving"):
            return now.line()
        why = " ".join(str(error).split())
        return f"{now.line()} but does not answer ({why}): can {now.state.get('host')} be reached from here?"
