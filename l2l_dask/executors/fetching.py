"""What Dask has of futures that have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, TypeAlias

import distributed

Future: TypeAlias = distributed.Future[Any]

_PATIENCE = 3.0  # seconds that the scheduler may take to answer


async def fetched(client: Any, futures: Iterable[Future]) -> dict[Any, Any]:
    """Gather results by their keys; None for one that is none any more."""
    by_key = {future.key: future for future in futures}
    # Dask makes one of gathers that begin together. If that is cancelled before it has begun, all later ones wait
    # for it and are cancelled too, for ever: so whatever waits for a gather may be cancelled, but never the gather.
    gathering = asyncio.ensure_future(client.gather(by_key, errors="skip", asynchronous=True))
    gathering.add_done_callback(lambda done: done.cancelled() or done.exception())
    results: dict[Any, Any] = await asyncio.shield(gathering)
    return results


def reason_of(future: Future) -> str:
    """Say why a future was cancelled."""
    try:
        future.result(timeout=_PATIENCE)
    except distributed.CancelledError as error:
        return str(getattr(error, "reason", ""))
    except Exception:
        return ""
    return ""
