"""Events of Dask's, for several listeners on one client: by itself it keeps one handler for each topic."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias
from weakref import WeakKeyDictionary

Handler: TypeAlias = Callable[[tuple[float, Any]], Any]

_LOCK = threading.Lock()
_HANDLERS: WeakKeyDictionary[Any, dict[str, list[Handler]]] = WeakKeyDictionary()


def subscribe(client: Any, topic: str, handler: Handler) -> None:
    """Let a handler be called, on the client's own thread, with each event (scheduler's time, message) of a topic."""
    with _LOCK:
        known = _HANDLERS.setdefault(client, {})
        handlers = known.setdefault(topic, [])
        if not handlers:
            theirs = client._event_handlers.get(topic)  # what the user of the client subscribed goes on
            handlers += [theirs] if theirs is not None else []
            client.subscribe_topic(topic, partial(_hear, handlers))
        handlers.append(handler)


async def _hear(handlers: list[Handler], event: tuple[float, Any]) -> None:
    for handler in list(handlers):
        heard = handler(event)
        if inspect.isawaitable(heard):
            await heard


def unsubscribe(client: Any, topic: str, handler: Handler) -> None:
    """Let a handler hear no more, and the scheduler send no more events that nobody hears.

    It would complain loudly of those that it has for a client that has just gone.
    """
    with _LOCK:
        handlers = _HANDLERS.get(client, {}).get(topic, [])
        if handler in handlers:
            handlers.remove(handler)
            if not handlers:
                client.unsubscribe_topic(topic)
                del client._event_handlers[topic]
