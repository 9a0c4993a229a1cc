"""Dask's own pages: by itself Dask shows some to anyone on the machine, in the clear; here only a key opens them."""

from __future__ import annotations

import asyncio
import importlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import dask
from distributed import Scheduler, SpecCluster
from distributed.http.routing import RoutingApplication
from distributed.http.utils import get_handlers
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPServerRequest
from tornado.netutil import bind_sockets
from tornado.web import RequestHandler

from l2l_dask.cluster.tls import Tls

_log = logging.getLogger(__name__)

_ROUTES = ("distributed.scheduler.http.routes", "distributed.worker.http.routes")
# What a worker's own process is told.
EXPORT = "export DASK_DISTRIBUTED__WORKER__HTTP__ROUTES='[]'"
PREFIX = "dask"
# Beside Bokeh's: neither the one that leads on to workers nor the one that takes orders.
_PLAIN = ("distributed.http.scheduler.info", "distributed.http.scheduler.json", "distributed.http.statics")
_PATIENCE = 5.0


def none_served() -> AbstractContextManager[object]:
    """Let what is started within the block serve no page."""
    nothing: AbstractContextManager[object] = dask.config.set({route: [] for route in _ROUTES})
    return nothing


@contextmanager
def served(cluster: SpecCluster, secured: Tls) -> Iterator[str]:
    """Serve the scheduler's pages below ``/dask``, where it listens, to who holds the key that it is spoken to with.

    Yields
    ------
    str
        Host and port; empty if no port could be had, which the log explains.
    """
    host = urlsplit(cluster.scheduler_address).hostname or "127.0.0.1"
    try:
        server, address = cluster.sync(_listen, cluster.scheduler, secured, host, callback_timeout=_PATIENCE)
    except (OSError, TimeoutError) as error:
        _log.warning("Dask's pages are not served: no port at %s (%s)", host, error)
        yield ""
        return
    try:
        yield address
    finally:
        with suppress(OSError, TimeoutError):
            cluster.sync(_end, server, callback_timeout=_PATIENCE)


async def _listen(scheduler: Scheduler, secured: Tls, host: str) -> tuple[HTTPServer, str]:
    sockets = bind_sockets(0, host)
    server = HTTPServer(_Pages(scheduler), ssl_options=secured.server_context())
    server.add_sockets(sockets)
    port = sockets[0].getsockname()[1]
    return server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def _end(server: HTTPServer) -> None:
    server.stop()
    pages: Any = server.request_callback
    for application in pages.applications:
        application.stop()
    await server.close_all_connections()


class _Pages(RoutingApplication):
    """Dask's pages, made when they are first asked for: a service that nobody looks at starts without them."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scheduler, self._missing = scheduler, ""

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        if not self.applications:
            return self.get_handler_delegate(request, _First)
        return super().find_handler(request, **kwargs)

    async def make(self) -> str:
        """Make them; return why they cannot be had, nothing if they can."""
        modules = ("distributed.dashboard.scheduler", *_PLAIN)
        try:
            for module in modules:  # on another thread: workers are listened to meanwhile
                await asyncio.to_thread(importlib.import_module, module)
        except ImportError as error:
            if not self._missing:
                _log.warning("Dask's pages cannot be had: %s", error)
            self._missing = " ".join(str(error).split())
            return self._missing
        if not self.applications:  # somebody else may have asked meanwhile
            self.add_handlers(".*", get_handlers(self._scheduler, list(_PLAIN), PREFIX))
            connect = importlib.import_module(modules[0]).connect
            connect(self, self._scheduler.http_server, self._scheduler, prefix=PREFIX)
        return ""


class _First(RequestHandler):
    """Answers who asks first: to ask again."""

    async def prepare(self) -> None:
        pages: Any = self.application
        missing = await pages.make()
        if missing:
            self.set_status(501)
            self.set_header("Content-Type", "text/plain; charset=utf-8")
            self.finish(f"Dask's pages cannot be had where this service runs: {missing}")
        else:
            self.redirect(self.request.uri or "/", status=307)
