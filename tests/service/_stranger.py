"""What another user of the machine tries: the standard library alone, so that any Python will do.

Told on its standard input which paths and ports to try, and with which certificate of its own, it prints what gave way.
"""

import contextlib
import json
import os
import socket
import ssl
import sys
import tempfile

_GET = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
_PAGES = (b"", b"status", b"info/main/workers.html", b"health", b"metrics", b"json/counts.json", b"dask/status")
_NOES = (b"\x15\x03", b"HTTP/1.1 404")  # of TLS, and of a server without pages


def seen(paths):
    """List the files that can be read, and the folders that can be looked into or written to."""
    found = []
    for path in paths:
        with contextlib.suppress(OSError):
            if os.path.isdir(path):
                os.listdir(path)
            else:
                with open(path, "rb") as file:
                    file.read(1)
            found.append(path)
        if os.access(path, os.W_OK) and path not in found:
            found.append(path)
    return found


def answer(host, port, words, context=None):
    """Return what comes back, be it only a few bytes."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2) as plain:
        connection = context.wrap_socket(plain) if context else plain
        connection.settimeout(2)
        connection.sendall(words)
        return connection.recv(100)
    return b""


def trusting(pem):
    """Make a client that trusts anyone, with a certificate of its own."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(pem)
        file.flush()
        context.load_cert_chain(file.name)
    return context


def main():
    told = json.load(sys.stdin)
    own = trusting(told["pem"])
    answers = []
    for host, port in told["ports"]:
        for page in _PAGES:
            for context in (None, own):
                said = answer(host, port, _GET % page, context)
                if said and not said.startswith(_NOES):
                    answers.append([host, port, page.decode(), said.decode("latin-1")])
    print(json.dumps({"uid": os.getuid(), "seen": seen(told["paths"]), "answers": answers}))


if __name__ == "__main__":
    main()
