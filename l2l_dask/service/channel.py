"""Between a service and its drivers: one JSON object a line, over a pair of sockets."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any


class Channel:
    """One end.

    Parameters
    ----------
    end
        The socket.
    on_message
        Called on a thread of its own for each object that comes, and with None once the other side is gone.
    """

    def __init__(self, end: socket.socket, on_message: Callable[[dict[str, Any] | None], None]) -> None:
        self._socket, self._on_message = end, on_message
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._listen, name="l2l-channel", daemon=True)
        self._thread.start()

    def send(self, content: Mapping[str, Any]) -> bool:
        """Send an object; return whether the other side is still there."""
        data = json.dumps(content).encode() + b"\n"
        try:
            with self._lock:
                self._socket.sendall(data)
        except OSError:
            return False
        return True

    def _listen(self) -> None:
        with suppress(OSError), self._socket.makefile("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    self._on_message(json.loads(line))
        self._on_message(None)

    def wait(self, timeout: float) -> None:
        """Wait for the last of what the other side said, which is gone."""
        self._thread.join(timeout)

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(1.0)
        self._socket.close()
