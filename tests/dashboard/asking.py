"""Asking a dashboard as a program does, not a browser."""

import asyncio
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

from tornado.httpclient import HTTPClientError, HTTPRequest
from tornado.websocket import websocket_connect


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def get(url, context=None, **headers):
    """Return status, headers and text, whatever they are, without following a redirection."""
    request = urllib.request.Request(url, headers=headers)
    handlers = [_Stay, urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)]
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=90) as answer:
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read().decode("utf-8", "replace")


def cookie(served):
    return get(served.link)[1]["Set-Cookie"].partition(";")[0]


def run(coroutine):
    """Run it in a thread: the browser's loop may be at work in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def websocket(served, page, **headers):
    """Try to open a page's websocket; return the HTTP status of the answer."""

    async def attempt():
        request = HTTPRequest(f"ws://{served.host}/{page}/ws", headers=headers)
        try:
            connection = await websocket_connect(request, subprotocols=["bokeh", "no-session"])
        except HTTPClientError as error:
            return error.code
        connection.close()
        return 101

    return run(attempt())
