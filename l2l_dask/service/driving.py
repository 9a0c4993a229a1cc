"""A driver of a service: the process that brings one experiment to its end, as ``l2l resume`` would."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from l2l_dask.cluster.attaching import attach
from l2l_dask.cluster.tls import Tls
from l2l_dask.errors import ClusterError, L2LError, LockedError, StoreError
from l2l_dask.experiment import Experiment
from l2l_dask.progress import Progress
from l2l_dask.service import entries, place
from l2l_dask.service.channel import Channel
from l2l_dask.service.plan import End
from l2l_dask.service.sharing import Grant, LeftError, Shared
from l2l_dask.trajectory import send

_PACE = 0.25  # seconds between two words to the service
_LAST = 20.0  # seconds that the end may take once the service is gone


class Driving:
    """One experiment, driven for a service.

    Parameters
    ----------
    store
        The experiment's.
    channel
        The socket to the service.
    on_gone
        Called when the service is gone: what is driven ends then, but may take its time.
    """

    def __init__(self, store: Path, channel: socket.socket, on_gone: Callable[[], None] = lambda: None) -> None:
        self._store, self._on_gone, self._to_be_paused = store, on_gone, False
        self._quota, self._grant = 0, Grant()
        self._executor: Shared | None = None
        self._said: dict[str, Any] = {}
        self._said_at = 0.0
        self._channel = Channel(channel, self._hear)

    def run(self, connection: dict[str, Any]) -> End:
        """Drive, and tell the service how it ended."""
        how, reason = self._run(connection)
        self._channel.send({"ended": how, "reason": reason})
        return how

    def _run(self, connection: dict[str, Any]) -> tuple[End, str]:
        try:
            secured = Tls(Path(connection["tls"])) if connection["tls"] else None
            with attach(connection["address"], secured) as client:
                made = self._maker(client)
                ended = Experiment.resume(self._store, client=made, on_progress=self._note)
            return "ended", str(ended.details.get("reason", ""))
        except LeftError as error:
            return "left", str(error)
        except LockedError as error:
            return "locked", str(error)
        except L2LError as error:
            again = error.exit_status != 2 or isinstance(error, ClusterError | StoreError)
            return "lost" if again else "refused", " ".join(str(error).split())
        except Exception as error:
            traceback.print_exc()
            return "lost", " ".join(f"{type(error).__name__}: {error}".split())

    def _maker(self, client: Any) -> Any:
        def make(**options: Any) -> Shared:
            self._executor = Shared(client, grant=self._grant, **options)
            return self._executor

        return make

    def _hear(self, message: dict[str, Any] | None) -> None:
        """Do what the service says; without it there are no workers either."""
        if message is None:
            message = {"leave": "its service is gone"}
            self._on_gone()
        self._quota = int(message.get("quota", self._quota))
        self._grant.leave = str(message.get("leave", self._grant.leave))
        self._use_quota()

    def _use_quota(self) -> None:
        self._grant.quota = 0 if self._to_be_paused else self._quota
        self._grant.changed()

    def _note(self, p: Progress) -> None:
        now = time.monotonic()
        if not self._said:  # from here on whoever wants a pause sees that there is a driver to tell
            known = entries.read(self._store)
            self._to_be_paused = known is not None and known.paused and not p.paused
            if self._to_be_paused:
                send(self._store, "pause")
        if self._to_be_paused and p.paused:
            self._to_be_paused = False
            self._use_quota()
        if now - self._said_at < _PACE:
            return
        said = {
            "demand": p.demand,
            "reach": self._executor.reach if self._executor else 0,
            "in_flight": p.in_flight,
            "ended": p.ended,
            "paused": p.paused or self._to_be_paused,
        }
        if said != self._said:
            self._said, self._said_at = said, now
            self._channel.send(said)


def _end_soon() -> None:
    """End this process, however it goes on."""
    end = threading.Timer(_LAST, os._exit, (1,))
    end.daemon = True
    end.start()


def main() -> None:
    """Drive the store that the command line names, for the service at the other end of a socket."""
    descriptor, epoch, root, name = sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):  # the service decides
        with suppress(ValueError):
            signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s")
    here = place.Place(Path(root))
    driving = Driving(here.root / f"{name}.zarr", socket.socket(fileno=int(descriptor)), _end_soon)
    how = driving.run(place.read(here.connection(int(epoch))))
    raise SystemExit(0 if how in ("ended", "left") else 1)


if __name__ == "__main__":
    main()
