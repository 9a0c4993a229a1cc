"""Dask's own pages of a service, handed on below ``/dask``, to who may see ours."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol

from tornado.httpclient import AsyncHTTPClient, HTTPClientError, HTTPRequest
from tornado.httputil import HTTPServerRequest
from tornado.web import RequestHandler
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketHandler, websocket_connect

from l2l_dask.dashboard import theme
from l2l_dask.errors import L2LError

_CONNECT, _ANSWER = 10.0, 60.0  # seconds: the first page of a service may have to be imported there
_LARGEST = 100 * 1024 * 1024  # bytes of a message
_STATICS = "/statics/"  # where Dask's plain pages look for its files, two folders above themselves
_KEPT = ("Content-Type", "Cache-Control", "Location")  # of an answer


@dataclass(frozen=True)
class Upstream:
    """Where a service serves Dask's pages.

    Attributes
    ----------
    address
        Host and port.
    context
        By which to be let in, and to know that it is the service that answers.
    """

    address: str
    context: ssl.SSLContext


class DaskPages(Protocol):
    """What is asked of a service, which may come, go and move at any time."""

    def is_live(self) -> bool:
        """Tell whether it seems to serve Dask's pages now, at once."""

    def find(self) -> Upstream:
        """Say where they are, or raise an :class:`.L2LError` that says why there are none; may take a while."""

    def explain(self, error: Exception) -> str:
        """Say why they cannot be reached although they were found, and what to do; may take a while."""


def is_below(path: str) -> bool:
    """Tell whether an address is one of these pages, or a file for them."""
    return path == "/dask" or path.startswith(("/dask/", _STATICS))


def is_websocket(request: HTTPServerRequest) -> bool:
    """Tell whether a request is to become a websocket."""
    return request.headers.get("Upgrade", "").lower() == "websocket"


class _Handed(RequestHandler):
    """What both kinds of requests have in common.

    Of what the browser says only the address goes on, and only what a page needs of the answer comes back: no cookie
    either way.
    """

    def initialize(self, pages: DaskPages, policy: str) -> None:
        self._pages, self._policy = pages, policy

    async def reach(self, connect: Any) -> Any:
        """Return what ``connect(upstream)`` does; None if it cannot, which was told then."""
        try:
            found = await asyncio.to_thread(self._pages.find)
        except L2LError as error:
            return self._tell(str(error))
        try:
            return await connect(found)
        except (OSError, HTTPClientError, WebSocketClosedError) as error:
            return self._tell(await asyncio.to_thread(self._pages.explain, error))

    def _tell(self, why: str) -> None:
        self.set_status(502)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        again = "Once that is put right, load this page again."
        self.finish(theme.message("502: Dask's pages are not there", f"{escape(why)}</p><p>{again}"))


class Page(_Handed):
    """One of Dask's pages, or what it loads."""

    async def get(self, *_: str) -> None:
        if self.request.path in ("/dask", "/dask/"):
            self.redirect("status" if self.request.path.endswith("/") else "dask/status")
            return
        answer = await self.reach(self._fetch)
        if answer is None:
            return
        self.set_status(answer.code)
        for name in _KEPT:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        self.set_header("Content-Security-Policy", self._policy)
        if answer.code != 204:
            self.finish(answer.body)

    async def _fetch(self, to: Upstream) -> Any:
        below = "/dask" if self.request.path.startswith(_STATICS) else ""
        request = HTTPRequest(
            f"https://{to.address}{below}{self.request.uri}",
            ssl_options=to.context,
            follow_redirects=False,
            connect_timeout=_CONNECT,
            request_timeout=_ANSWER,
        )
        return await AsyncHTTPClient().fetch(request, raise_error=False)


class Socket(_Handed, WebSocketHandler):
    """The websocket of one of Dask's pages."""

    _upstream: WebSocketClientConnection

    async def get(self, *args: Any, **kwargs: Any) -> None:
        upstream = await self.reach(self._connect)
        if upstream is None:
            return
        self._upstream = upstream
        try:
            await super().get(*args, **kwargs)
        finally:
            self._upstream.close()

    async def _connect(self, to: Upstream) -> WebSocketClientConnection:
        asked = self.request.headers.get("Sec-WebSocket-Protocol", "")
        request = HTTPRequest(f"wss://{to.address}{self.request.uri}", ssl_options=to.context, connect_timeout=_CONNECT)
        protocols = [each.strip() for each in asked.split(",") if each.strip()]
        return await websocket_connect(request, subprotocols=protocols, max_message_size=_LARGEST)

    def check_origin(self, origin: str) -> bool:  # noqa: ARG002
        return True  # who may not open one was refused before: see the server's find_handler

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:  # noqa: ARG002
        return self._upstream.selected_subprotocol

    def open(self, *_: str, **__: str) -> None:
        self._pump = asyncio.create_task(self._hand_back())

    async def _hand_back(self) -> None:
        try:
            while (message := await self._upstream.read_message()) is not None:
                await self.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            return
        self.close()

    async def on_message(self, message: str | bytes) -> None:
        try:
            await self._upstream.write_message(message, binary=isinstance(message, bytes))
        except WebSocketClosedError:
            self.close()
