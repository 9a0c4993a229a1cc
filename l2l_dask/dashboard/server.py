"""The server: Bokeh's, behind a token, with nothing from elsewhere."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from bokeh.application import Application
from bokeh.application.handlers.function import FunctionHandler
from bokeh.document import Document
from bokeh.embed.bundle import bundle_for_objs_and_resources
from bokeh.embed.elements import html_page_for_render_items
from bokeh.embed.util import RenderItem
from bokeh.server.server import BaseServer
from bokeh.server.session import ServerSession
from bokeh.server.tornado import BokehTornado
from bokeh.server.views.doc_handler import DocHandler
from tornado.httpserver import HTTPServer
from tornado.httputil import HTTPHeaders, HTTPServerRequest
from tornado.ioloop import IOLoop
from tornado.netutil import bind_sockets
from tornado.web import OutputTransform, RequestHandler, StaticFileHandler

from l2l_dask.dashboard import app, dask, theme
from l2l_dask.dashboard.access import Access
from l2l_dask.dashboard.followed import Stores
from l2l_dask.errors import L2LError

STATIC = Path(__file__).parent / "static"
_COMPONENTS: Any = ("bokeh", "bokeh-widgets", "bokeh-tables")
# Styles: Bokeh writes them into its elements. Scripts: files of this server, and those that carry the page's nonce.
_POLICY = (
    "default-src 'none'; script-src 'self'{scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'{frames}"
)
# Dask writes scripts into its pages, without a nonce, and templates into its tables.
_DASK_SCRIPTS = " 'unsafe-inline' 'unsafe-eval'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class DashboardError(L2LError):
    """A dashboard that cannot be served where it was asked for."""


def _policy(access: Access, scripts: str = "") -> str:
    return _POLICY.format(scripts=scripts, frames="".join(f" {origin}" for origin in access.frames))


class _Headers(OutputTransform):
    """Puts the same headers on whatever is answered."""

    def __init__(self, access: Access, request: HTTPServerRequest) -> None:
        super().__init__(request)
        self._access = access

    def transform_first_chunk(
        self,
        status_code: int,
        headers: HTTPHeaders,
        chunk: bytes,
        finishing: bool,  # noqa: ARG002
    ) -> tuple[int, HTTPHeaders, bytes]:
        for name, value in _HEADERS.items():
            headers[name] = value
        if "Content-Security-Policy" not in headers:
            headers["Content-Security-Policy"] = _policy(self._access)
        if not self._access.frames:  # of other origins, this older header knows nothing
            headers["X-Frame-Options"] = "SAMEORIGIN"
        for name in ("Access-Control-Allow-Origin", "Server"):
            headers.pop(name, None)
        return status_code, headers, chunk


class _Refused(RequestHandler):
    """What who holds no token sees, whatever they ask for."""

    def prepare(self) -> None:
        self.set_status(403)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.finish(theme.message("403: not without the link", self.settings["access"].refused))


class _Enter(RequestHandler):
    """Takes the token out of the address, and gives a cookie for it."""

    def initialize(self, access: Access) -> None:
        self._access = access

    def get(self, *_: str) -> None:
        secure = self.request.protocol == "https"
        # "Strict" would not be sent on the way that this redirects, where the link was clicked in another site's page.
        self.set_cookie(self._access.cookie, self._access.value, httponly=True, samesite="Lax", secure=secure, path="/")
        rest = [
            (name, value.decode(errors="replace"))
            for name, values in self.request.query_arguments.items()
            for value in values
            if name != "token"
        ]
        self.set_header("Cache-Control", "no-store")
        self.redirect("?" + urlencode(rest) if rest else self.request.path.rpartition("/")[2] or "./")


class _Page(DocHandler):
    """A page, with a nonce for the scripts that are written into it."""

    async def get(self, *_args: Any, **_kwargs: Any) -> None:
        session: ServerSession = await super().get_session()  # type: ignore[misc]
        nonce = secrets.token_urlsafe(16)
        resources = self.application.resources("./")  # beside the page, wherever a proxy puts that
        resources.components = list(_COMPONENTS)
        item = RenderItem(token=session.token, roots=session.document.roots, use_for_title=True)
        page = html_page_for_render_items(
            bundle_for_objs_and_resources(None, resources),
            {},
            [item],
            session.document.title,
            template=session.document.template,
            template_variables=session.document.template_variables | {"nonce": nonce},
        )
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Cache-Control", "no-store")
        self.set_header("Content-Security-Policy", _policy(self.settings["access"], f" 'nonce-{nonce}'"))
        if session.document.template_variables.get("missing"):
            self.set_status(404)
        self.write(page)

    def write_error(self, status_code: int, **_: Any) -> None:
        self.set_header("Content-Type", "text/html; charset=utf-8")
        told = "The server failed to make this page; what it wrote where it was started says why."
        self.finish(theme.message(f"{status_code}: no page", told))


class _Missing(RequestHandler):
    def prepare(self) -> None:
        self.set_status(404)
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.finish(
            theme.message("404: there is no such page", "The <a href='./'>experiments</a> are where it starts.")
        )


class _Tornado(BokehTornado):
    """Bokeh's application, for who may come in alone."""

    def __init__(
        self, applications: Mapping[str, Application], access: Access, dask_pages: dask.DaskPages | None
    ) -> None:
        self._access, self._dask_pages = access, dask_pages
        super().__init__(
            applications,
            extra_websocket_origins=["*"],  # own pages alone, see find_handler
            extra_patterns=[(r"/own/(.*)", StaticFileHandler, {"path": str(STATIC)})],
            use_index=False,
            check_unused_sessions_milliseconds=2_000,
            unused_session_lifetime_milliseconds=5_000,
            stats_log_frequency_milliseconds=3_600_000,
            include_headers=["Host"],  # in what a page tells its websocket: not the cookie
            include_cookies=["l2l-none"],
            compress_response=True,
            default_handler_class=_Missing,
        )
        self.settings["access"] = access
        headers: Any = partial(_Headers, access)
        self.transforms.append(headers)
        self.add_handlers(
            r".*",
            [
                (
                    url.rstrip("/") + "/?",
                    _Page,
                    {"application_context": context, "bokeh_websocket_path": url.rstrip("/") + "/ws"},
                )
                for url, context in self._applications.items()
            ],
        )

    def find_handler(self, request: HTTPServerRequest, **kwargs: Any) -> Any:
        token = request.query_arguments.get("token", [b""])[-1].decode(errors="replace")
        if request.method == "GET" and self._access.opens(token):
            return self.get_handler_delegate(request, _Enter, {"access": self._access})
        if not self._access.admit(request):
            return self.get_handler_delegate(request, _Refused)
        is_websocket = dask.is_websocket(request)
        if (is_websocket or request.path.endswith("/ws")) and not self._access.connects(request):
            return self.get_handler_delegate(request, _Refused)
        if self._dask_pages is not None and dask.is_below(request.path):
            handed = dask.Socket if is_websocket else dask.Page
            told = {"pages": self._dask_pages, "policy": _policy(self._access, _DASK_SCRIPTS)}
            return self.get_handler_delegate(request, handed, told)
        return super().find_handler(request, **kwargs)


class Dashboard(BaseServer):
    """A dashboard over a folder of stores.

    Parameters
    ----------
    stores
        What finds and reads them.
    address, port
        Where to listen; port 0 takes a free one.
    access
        Who may come in.
    command
        Called with a store and a command for its driver; returns what came of it in a line, or raises an L2LError.
    dask_pages
        Dask's own, to be shown below ``/dask``; None for no such address.

    Raises
    ------
    DashboardError
        If the port is taken, or the address is not this machine's.
    """

    def __init__(
        self,
        stores: Stores,
        address: str,
        port: int,
        access: Access,
        command: Callable[[Path, str], str] | None = None,
        *,
        dask_pages: dask.DaskPages | None = None,
    ) -> None:
        try:
            sockets = bind_sockets(port, address)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise DashboardError(
                f"cannot listen at {address} port {port}: {why} (--port and --address choose)"
            ) from None
        self.access, self.stores = access, stores
        applications = {
            url: Application(FunctionHandler(partial(_fill, slug, stores, command, dask_pages)))
            for url, slug in app.ROUTES.items()
        }
        loop, tornado = IOLoop.current(), _Tornado(applications, access, dask_pages)
        http = HTTPServer(tornado)
        http.add_sockets(sockets)
        super().__init__(loop, tornado, http)
        self._address, self._port = address, sockets[0].getsockname()[1]

    @property
    def link(self) -> str:
        """What to open, token and all."""
        host = "localhost" if self._address in ("", "0.0.0.0", "::") else self._address
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/{self.access.way}"

    def stop(self, wait: bool = True) -> None:
        """End; documents are closed and nothing is read any more."""
        super().stop(wait)
        self.stores.close()


def _fill(
    slug: str,
    stores: Stores,
    command: Callable[[Path, str], str] | None,
    dask_pages: dask.DaskPages | None,
    document: Document,
) -> None:
    document.template_variables["dask"] = dask_pages is not None and dask_pages.is_live()
    app.fill(document, slug, stores, command)
