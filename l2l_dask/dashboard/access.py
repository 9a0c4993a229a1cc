"""Who may see the dashboard: who holds its token, from its own pages."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from urllib.parse import urlsplit

from tornado.httputil import HTTPServerRequest


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
    """

    def __init__(self, token: str) -> None:
        self.token = token
        # Cookies do not know ports: each server on this machine has a name, and a value, of its own.
        self.cookie = "l2l-" + hashlib.sha256(token.encode()).hexdigest()[:12]
        self.value = hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()

    @classmethod
    def new(cls) -> Access:
        return cls(secrets.token_urlsafe(32))

    def opens(self, token: str) -> bool:
        """Tell whether this is the token, in a time that says nothing about it."""
        return bool(self.token) and hmac.compare_digest(token.encode(), self.token.encode())

    def permits(self, request: HTTPServerRequest) -> bool:
        """Tell whether who asks was let in before."""
        if not self.token:
            # The name is all that tells this machine's own pages from a site elsewhere that has its name lead here.
            return is_loopback(urlsplit(f"//{request.host}").hostname or "")
        cookie = request.cookies.get(self.cookie)
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self.value.encode())


def from_own_page(request: HTTPServerRequest) -> bool:
    """Tell whether a websocket is opened by a page of this very server, by whatever name: a tunnel has another."""
    origin = request.headers.get("Origin", "")
    return bool(origin) and urlsplit(origin).netloc.lower() == request.host.lower()
