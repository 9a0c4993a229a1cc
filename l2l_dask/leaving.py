"""What the experiments on one Dask worker share: its life in a batch job, which it leaves in time, and its gate."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple, cast

import psutil
from distributed import Status, Worker
from distributed.worker_state_machine import FreeKeysEvent
from tornado.ioloop import PeriodicCallback

from l2l_dask.gate import Gate, Places
from l2l_dask.walltime import Life, job_end

_NAME = "l2l-post"
_LOOK = 0.5  # seconds between two looks at the time
_STEP = 0.1
_SETTLE = 2.0  # seconds that results have to be fetched, and that the scheduler has to answer
_PATIENCE = 5.0  # seconds until a thread may count on Dask's knowing that this worker takes no more
_IDLE = 60.0  # seconds that an experiment may begin nothing, beside what one of its evaluations needs, and still counts
_ORDERLY = (Status.running, Status.paused)


class _Need(NamedTuple):
    """What one time of an evaluation may need, the number of that word, how many times it is, and when it was said."""

    number: int
    each: float
    repeats: int
    at: float

    @property
    def seconds(self) -> float:
        return self.each * self.repeats


class Post:
    """A worker's place in a batch job.

    Attributes
    ----------
    life : Life or None
        None where nothing ends it.
    gate : Gate
        Passed by all that is evaluated here.
    devices : Places
        The GPUs here, and how many evaluations use each.
    cutting : bool
        Whether its time is over and what still runs is ended.
    """

    def __init__(self, worker: Worker) -> None:
        self._worker = worker
        self.gate, self.devices = Gate(), Places()
        self.cutting = False
        self._cuts: dict[str, Callable[[], None]] = {}
        self._needs: dict[str, _Need] = {}
        self._untold: list[str] = []
        self._leaving, self._left = False, threading.Event()
        end = job_end(os.environ)
        self.life = None if end is None else Life(_begun(worker), time.time(), end)
        if self.life is not None:
            worker.periodic_callbacks["l2l-walltime"] = look = PeriodicCallback(self._look, 1000 * _LOOK)
            look.start()

    def join(self, name: str, cut: Callable[[], None]) -> None:
        """Take part as an experiment, which can be made to end what it runs."""
        self._cuts[name] = cut
        self._untold.append(name)

    def quit(self, name: str) -> None:
        self._cuts.pop(name, None)
        self._needs.pop(name, None)

    def expect(self, name: str, number: int, each: float, repeats: int) -> float:
        """Take word of what one time of an evaluation may need; return what all need, by the newest word."""
        known = self._needs.get(name)
        if known is not None and number < known.number:
            number, each = known.number, known.each
        self._needs[name] = need = _Need(number, each, repeats, time.time())
        return need.seconds

    def may_begin(self, needs: float) -> bool:
        """Tell whether an evaluation may begin that may need so many seconds."""
        return self.life is None or self.life.may_begin(needs, time.time())

    def others_may_begin(self, name: str) -> bool:
        """Tell whether evaluations of another experiment may begin."""
        return any(self.may_begin(need.seconds) for other, need in self._active() if other != name)

    def _active(self) -> list[tuple[str, _Need]]:
        """List the experiments that evaluate here, and what they need; those that last did so if none does now."""
        known, now = list(self._needs.items()), time.time()
        return [(name, need) for name, need in known if now - need.at <= need.seconds + _IDLE] or known

    def leave(self) -> None:
        """Begin to leave, and return when Dask knows that this worker takes no more; from another thread."""
        self._worker.loop.add_callback(self._leave)
        self._left.wait(_PATIENCE)

    def _look(self) -> None:
        """Tell new experiments how long this worker lives; leave if no evaluation could begin any more."""
        assert self.life is not None
        while self._untold and self._worker.status in _ORDERLY:
            message: dict[str, Any] = {"worker": self._worker.address, "whole": self.life.whole}
            message["left"] = self.life.end - time.time()
            self._worker.log_event(self._untold.pop(), message)
        if not self.may_begin(min((need.seconds for _, need in self._active()), default=0.0)):
            self._worker.loop.add_callback(self._leave)

    async def _leave(self) -> None:
        """Take no more, let end what runs, and end this worker with its nanny, and so its job."""
        if self._leaving:
            return
        self._leaving = True
        try:
            if self._worker.status not in _ORDERLY:  # it is leaving already
                return
            self._worker.status = Status.closing_gracefully  # "paused" Dask would undo when it looks at the memory
        finally:
            self.gate.close()
            self._left.set()
        while self._works and self._remains:
            self._give_back()
            await asyncio.sleep(_STEP)
        if self._works:
            await self._cut()
        await self._settle()
        while not await self._is_dismissed() and self._remains:
            await asyncio.sleep(1)
        await self._worker.close(reason="l2l-walltime")

    @property
    def _remains(self) -> bool:
        return self.life is not None and self.life.left(time.time()) > 0

    @property
    def _works(self) -> bool:
        return bool(self._worker.state.executing or self._worker.state.long_running)

    def _give_back(self) -> None:
        """Let other workers have what has not begun here."""
        stimulus = f"l2l-walltime-{time.time()}"
        waiting = [
            ts.key for ts in self._worker.state.tasks.values() if ts.state in ("waiting", "ready", "constrained")
        ]
        if waiting:
            self._worker.handle_stimulus(FreeKeysEvent(keys=waiting, stimulus_id=stimulus))
            for key in waiting:
                self._worker.batched_send({"op": "reschedule", "key": key, "stimulus_id": stimulus})

    async def _cut(self) -> None:
        self.cutting = True
        await asyncio.gather(*(asyncio.to_thread(cut) for cut in list(self._cuts.values())))

    async def _settle(self) -> None:
        """Let drivers fetch the last results, so that none has to be moved, or computed again."""
        until = time.monotonic() + _SETTLE
        while (self._works or self._worker.data) and time.monotonic() < until:
            self._give_back()
            await asyncio.sleep(_STEP)
        await asyncio.sleep(_STEP)

    async def _is_dismissed(self) -> bool:
        """Let the scheduler move what is left here, and forget this worker, for which it then blames nobody."""
        retire = self._worker.scheduler.retire_workers(
            workers=[self._worker.address], close_workers=False, remove=True, stimulus_id=f"l2l-walltime-{time.time()}"
        )
        with suppress(OSError, TimeoutError):
            return bool(await asyncio.wait_for(retire, _SETTLE))
        return False


def _begun(worker: Worker) -> float:
    """Tell since when the worker's job is known to have run: a nanny may have started more than one worker in it."""
    process = psutil.Process()
    with suppress(psutil.Error):
        process = (process.parent() or process) if worker.nanny else process
    return process.create_time()


def post_of(worker: Worker) -> Post:
    """Return what the experiments on a worker share; on its event loop."""
    if _NAME not in worker.extensions:
        worker.extensions[_NAME] = Post(worker)
    return cast(Post, worker.extensions[_NAME])
