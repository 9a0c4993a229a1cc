"""Who may see the dashboard: who holds its token, from its own pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from typing import Self
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest

from l2l_dask.dashboard import theme


def is_loopback(host: str) -> bool:
    """Tell whether a host's name or address is this machine's alone."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Access:
    """A token, and the cookie that stands for it.

    Parameters
    ----------
    token
        What the link carries; empty if everybody on this machine may come in.

    Attributes
    ----------
    frames
        Origins of other pages that may show ours in a frame, as a Content-Security-Policy has them.
    refused
        What who may not come in is told, in HTML.
    """

    refused = theme.REFUSED

    def __init__(self, token: str) -> None:
        self.token = token
        self.frames: tuple[str, ...] = ()
        # Cookies do not know ports: each server on this machine has a name, and a value, of its own.
        self.cookie = "l2l-" + hashlib.sha256(token.encode()).hexdigest()[:12]
        self.value = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()

    @classmethod
    def new(cls) -> Self:
        return cls(secrets.token_urlsafe(32))

    @property
    def way(self) -> str:
        """What follows the server's address in the link."""
        return f"?token={self.token}" if self.token else ""

    def opens(self, token: str) -> bool:
        """Tell whether this is the token, in a time that says nothing about it."""
        return bool(self.token) and hmac.compare_digest(token.encode(), self.token.encode())

    def admit(self, request: HTTPServerRequest) -> bool:
        """Tell whether who asks may come in: whoever was let in before."""
        if not self.token:
            # The name is all that tells this machine's own pages from a site elsewhere that has its name lead here.
            try:
                return is_loopback(urlsplit(f"//{request.host}").hostname or "")
            except ValueError:
                return False
        cookie = request.cookies.get(self.cookie)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.value.encode())

    def connects(self, request: HTTPServerRequest) -> bool:
        """Tell whether who was let in may open a websocket: a cookie goes along with what any site asks for."""
        return from_own_page(request)


class InPath(Access):
    """A token that each address begins with, for frames: there, browsers keep cookies of other sites back.

    Nothing is let in by what a browser adds of itself, so that a site which does not know the token can neither ask
    for anything nor open a websocket, and a proxy may change names and origins as it likes.
    """

    refused = (
        "The plots of a notebook are there for as long as its kernel runs: run the cell with <code>show()</code> again."
    )

    @property
    def way(self) -> str:
        return f"{self.token}/"

    def opens(self, token: str) -> bool:  # noqa: ARG002
        """Give no cookie to anybody."""
        return False

    def admit(self, request: HTTPServerRequest) -> bool:
        """Take the token from the beginning of the address, which leaves the page; tell whether it was there."""
        first, slash, rest = request.path.removeprefix("/").partition("/")
        if not slash or not hmac.compare_digest(first.encode(), self.token.encode()):
            return False
        request.path = f"/{rest}"
        return True

    def connects(self, request: HTTPServerRequest) -> bool:  # noqa: ARG002
        """Let all who know the token connect."""
        return True


def from_own_page(request: HTTPServerRequest) -> bool:
    """Tell whether a websocket is opened by a page of this very server, by whatever name: a tunnel has another."""
    origin = request.headers.get("Origin", "")
    try:
        return bool(origin) and urlsplit(origin).netloc.lower() == request.host.lower()
    except ValueError:
        return False
