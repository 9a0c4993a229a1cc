"""How a browser that shows this kernel's notebook reaches a server on this machine."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

_PATIENCE = 3.0
_PROXY = "jupyter_server_proxy"
# A frame in a notebook that a server without the proxy serves on this machine, by whatever port or tunnel.
_LOOPBACK = tuple(f"{scheme}://{host}:*" for scheme in ("http", "https") for host in ("localhost", "127.0.0.1"))


def frames() -> tuple[str, ...]:
    """List the origins of the pages that a server without the proxy shows, for a Content-Security-Policy."""
    found = _server()
    url = urlsplit(found["url"]) if found else None
    return (*_LOOPBACK, f"{url.scheme}://{url.netloc}") if url is not None and url.netloc else _LOOPBACK


def proxied(port: int, path: str) -> str | None:
    """Return the path on Jupyter's own server below which jupyter-server-proxy hands a port on; None if it does not.

    Parameters
    ----------
    port
        Of a server that runs on this machine's loopback.
    path
        What it answers with status 200.
    """
    prefix = os.environ.get("JUPYTERHUB_SERVICE_PREFIX")
    found = _server()
    if found is None:
        return f"{prefix}proxy/{port}/" if prefix and find_spec(_PROXY) is not None else None
    base = f"{found['base_url']}proxy/{port}/"
    return base if _hands_on(found, base, path) else None


def _server() -> dict[str, Any] | None:
    """Read what the Jupyter server that started this kernel left about itself; None if none did."""
    with suppress(Exception):  # whoever started this kernel: it may be no Jupyter server, or of another user
        from jupyter_core.paths import jupyter_runtime_dir

        for pid in _parents():
            file = Path(jupyter_runtime_dir()) / f"jpserver-{pid}.json"
            if file.is_file():
                found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
                return found if {"url", "base_url"} <= found.keys() else None
    return None


def _parents() -> Iterator[int]:
    with suppress(ValueError):
        yield int(os.environ.get("JPY_PARENT_PID", ""))
    yield os.getppid()


def _hands_on(server: dict[str, Any], base: str, path: str) -> bool:
    """Ask the server, as its user where that is possible."""
    url = urlsplit(server["url"])
    token = server.get("token") or os.environ.get("JUPYTERHUB_API_TOKEN")
    headers = {"Authorization": f"token {token}"} if token else {}
    answer = _status(url, base + path, headers)
    if answer == 200:
        return True
    # Behind a password: what there is asks for it, what there is not is not found; or all asks for it.
    nowhere = _status(url, f"{server['base_url']}l2l-{path}", headers)
    if answer in (0, 404) or nowhere == 404:
        return answer not in (0, 404) and answer < 500
    return find_spec(_PROXY) is not None


def _status(url: SplitResult, path: str, headers: dict[str, str]) -> int:
    """Return the status of an answer; 0 if there is none."""
    host, port = url.hostname or "", url.port
    try:
        connection: http.client.HTTPConnection
        if url.scheme == "https":
            # Its certificate is for the name by which browsers know it.
            unverified = ssl.create_default_context()
            unverified.check_hostname, unverified.verify_mode = False, ssl.CERT_NONE
            connection = http.client.HTTPSConnection(host, port, timeout=_PATIENCE, context=unverified)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=_PATIENCE)
        try:
            connection.request("GET", path, headers=headers)
            return connection.getresponse().status
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return 0
