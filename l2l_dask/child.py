"""The program that evaluates: ``python -P -m l2l_dask.child``, started and watched by :mod:`l2l_dask.process`.

It is a process of its own, leader of its session, so that a simulator that holds the interpreter's lock, crashes,
hangs, changes the folder or prints cannot harm the worker or its neighbour, and can be killed with all that it started.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from l2l_dask import family
from l2l_dask.reports import Order, Report

if TYPE_CHECKING:
    from l2l_dask.bundle import Answer, Request
    from l2l_dask.evaluating import Where
    from l2l_dask.evaluation import Candidate, Evaluation
    from l2l_dask.optimizee import Optimizee

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True)
class Payload:
    """What a process needs to evaluate.

    Attributes
    ----------
    optimizee
        Pickled, so that only the child imports what it needs.
    where
        For the arrays it saves.
    paths
        Folders to import user modules from, after all others.
    cwd
        The folder to work in, where it exists.
    idle
        Seconds without work after which the process ends by itself: its driver may have been killed.
    batch_size
        The optimizee's.
    threads
        How many its libraries may use; 0 leaves that to the environment.
    show_output
        Whether what it prints is shown, by the process that watches.
    """

    optimizee: bytes
    where: Where
    paths: tuple[str, ...] = ()
    cwd: str = ""
    idle: float = 300.0
    batch_size: int = 1
    threads: int = 0
    show_output: bool = False


def main(arguments: list[str]) -> None:
    """Serve evaluations to the process at the other end of the connection, until it goes."""
    descriptor, worker, scratch = int(arguments[0]), int(arguments[1]), Path(arguments[2])
    _guard(descriptor, worker)
    connection = Connection(descriptor)
    payload: Payload = pickle.loads(connection.recv_bytes())
    optimizee, problem = _open(payload)
    connection.send_bytes(problem.encode(errors="replace"))
    line = _Line(connection)
    while optimizee is not None:
        if not connection.poll(payload.idle):
            family.end(os.getppid(), spare=[os.getpid()])  # all that the optimizee left behind
            os.killpg(0, signal.SIGKILL)
        try:
            request = line.request()
        except EOFError:
            return
        if request is not None:
            for answer in _serve(optimizee, request, payload, scratch, line):
                line.send(answer)


class _Line:
    """The way to the process that watches: requests come in, answers and reports go out, and orders to stop come in."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._lock = threading.Lock()  # an optimizee may report from threads of its own
        self._stop: set[int] = set()
        self.evaluating = False

    def request(self) -> Request | None:
        """Take what comes; None for an order that came too late."""
        message: Request | Order = pickle.loads(self._connection.recv_bytes())
        if isinstance(message, Order):
            return None
        self._stop = set(message.stop)
        return message

    def send(self, message: Answer | Report) -> None:
        with self._lock:
            self._send(message)

    def _send(self, message: Answer | Report) -> None:
        self._connection.send_bytes(pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL))

    def hear(self, report: Report) -> bool:
        """Pass a report on, and tell whether its individual is to stop; a thread that was left behind is not heard."""
        with self._lock:
            if not self.evaluating:
                return False
            if report.points:
                self._send(report)
            while self._connection.poll():
                order: Order = pickle.loads(self._connection.recv_bytes())
                self._stop |= order.ids
            return report.id in self._stop


def _open(payload: Payload) -> tuple[Optimizee | None, str]:
    from l2l_dask.evaluating import called, described

    sys.path += [path for path in payload.paths if path not in sys.path]
    _enter(payload.cwd)
    try:
        optimizee: Optimizee = pickle.loads(payload.optimizee)
        called(optimizee.setup)
    except BaseException as error:
        return None, described(error)
    _flush()
    return optimizee, ""


def _serve(optimizee: Optimizee, asked: Request, payload: Payload, scratch: Path, line: _Line) -> Iterator[Answer]:
    """Evaluate unit after unit; each answer says what came of one, and which jobs begin now."""
    from l2l_dask.bundle import Answer, may_stop_before
    from l2l_dask.evaluation import Status

    failed: set[int] = set()
    ended: list[Evaluation] = []
    until = time.monotonic() + asked.seconds
    for n, unit in enumerate(asked.units):
        jobs = [job for job in unit if job.id not in failed]
        if not jobs:
            continue
        if n >= asked.at_least and time.monotonic() >= until and may_stop_before(jobs):
            break
        yield Answer(ended, [(job.id, job.repeat) for job in jobs], _printed())
        ended = _evaluated(optimizee, jobs, payload, scratch, line)
        failed |= {e.id for e in ended if e.status is not Status.DONE}
    yield Answer(ended, [], _printed())


def _evaluated(
    optimizee: Optimizee, jobs: list[Candidate], payload: Payload, scratch: Path, line: _Line
) -> list[Evaluation]:
    from l2l_dask.evaluating import described, evaluate_unit
    from l2l_dask.evaluation import Evaluation, Status

    line.evaluating = True
    try:
        ended = evaluate_unit(optimizee, jobs, payload.where, scratch, line.hear if payload.where.reports else None)
    except BaseException as error:
        ended = [Evaluation(job.id, Status.FAILED, job.attempt, error=described(error)) for job in jobs]
    line.evaluating = False
    _flush()
    _enter(payload.cwd)
    return ended


def _printed() -> int:
    """Tell how many bytes were printed so far."""
    try:
        return os.fstat(1).st_size
    except OSError:
        return 0


def _enter(folder: str) -> None:
    if folder and os.path.isdir(folder):
        os.chdir(folder)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _guard(descriptor: int, worker: int) -> None:
    """Fork. The child returns and evaluates; this process waits for its end, and ends as it did.

    When the worker is gone, even by SIGKILL, this process kills what evaluates. Either way it also kills all that this
    started, in whatever session it is: the kernel gives it what is orphaned below it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _end_all)
    _die_with(worker, signal.SIGTERM)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    guard = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _die_with(guard, signal.SIGKILL)
        return
    os.close(descriptor)
    code = _awaited(pid)
    family.end(guard)
    if code < 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with suppress(OSError):  # SIGKILL and SIGSTOP have no handler to reset
            signal.signal(-code, signal.SIG_DFL)
        os.kill(guard, -code)
    os._exit(code)


def _end_all(*_: int | FrameType | None) -> None:
    family.ask(os.getpid(), family.GRACE)
    family.end(os.getpid())
    os.killpg(0, signal.SIGKILL)


def _awaited(pid: int) -> int:
    """Wait for a child, and for the orphans that end before it does; return its exit code."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _die_with(parent: int, by: signal.Signals) -> None:
    """Ask the kernel (Linux) to send a signal when the thread that started this process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
