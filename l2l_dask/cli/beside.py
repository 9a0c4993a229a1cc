"""The dashboard beside a notebook's kernel: ``python -m l2l_dask.cli.beside``, which :mod:`l2l_dask.notebook` starts.

One JSON object a line, on standard input and output. It says where it listens; for each store that it is told to show
it answers with its name. It ends when its standard input does.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any

from l2l_dask.cli.control import tell
from l2l_dask.cli.dashboard import tunnel_command
from l2l_dask.dashboard.access import InPath
from l2l_dask.dashboard.server import Dashboard
from l2l_dask.dashboard.shown import Shown
from l2l_dask.errors import L2LError


def main() -> None:
    """Serve."""
    logging.disable()  # nobody reads it: what is wrong is told in the pages
    stores, access = Shown(Path.cwd()), InPath.new()
    try:
        server = Dashboard(stores, "127.0.0.1", 0, access, tell)
    except L2LError as error:
        _say({"error": str(error)})
        return
    threading.Thread(target=_listen, args=(server, stores, access), name="l2l-kernel", daemon=True).start()
    server.start()
    port = server.port
    assert port is not None, "it listens"
    told = {"port": port, "token": access.token, "tunnel": tunnel_command(server.link, port)}
    server.io_loop.add_callback(_say, told)
    server.io_loop.start()
    # Whoever asked is gone, and what is still being read is of no use.
    os._exit(0)


def _listen(server: Dashboard, stores: Shown, access: InPath) -> None:
    """Answer the kernel for as long as there is one."""
    try:
        for line in sys.stdin:
            asked = json.loads(line)
            if "frames" in asked:
                access.frames = tuple(asked["frames"])
            _say({"name": stores.add(Path(asked["store"]))} if "store" in asked else {})
    finally:
        server.io_loop.add_callback(server.io_loop.stop)


def _say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
