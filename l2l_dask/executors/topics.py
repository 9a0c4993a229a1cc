"""Events of Dask's, for several listeners on one client: by itself it keeps one handler for each topic."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

Handler: TypeAlias = Callable[[tuple[float, Any]], Any]

_LOCK = threading.Lock()


class _Relay:
    """The handler of a topic that calls others."""

    def __init__(self) -> None:
        self.handlers: list[Handler] = []

    async def __call__(self, event: tuple[float, Any]) -> None:
        for handler in list(self.handlers):
            heard = handler(event)
            if inspect.isawaitable(heard):
                await heard


_RELAYS: WeakKeyDictionary[Any, dict[str, _Relay]] = WeakKeyDictionary()


def subscribe(client: Any, topic: str, handler: Handler) -> None:
    """Let a handler be called, on the client's own thread, with each event (scheduler's time, message) of a topic."""
    with _LOCK:
        relay = _RELAYS.setdefault(client, {}).setdefault(topic, _Relay())
        theirs = client._event_handlers.get(topic)
        if theirs not in (None, relay):  # what the user of the client subscribed goes on
            relay.handlers.append(theirs)
        relay.handlers.append(handler)
        client.subscribe_topic(topic, relay)


def unsubscribe(client: Any, topic: str, handler: Handler) -> None:
    """Let a handler hear no more, and the scheduler send no more events that nobody hears.

    It would complain loudly of those that it has for a client that has just gone.
    """
    with _LOCK:
        relay = _RELAYS.get(client, {}).get(topic)
        if relay is not None and handler in relay.handlers:
            relay.handlers.remove(handler)
            if not relay.handlers:
                client.unsubscribe_topic(topic)
