"""The program that evaluates: ``python -P -m l2l_dask.child``, started and watched by :mod:`l2l_dask.worker`.

It is a process of its own, leader of its session, so that a simulator that holds the interpreter's lock, crashes,
hangs, changes the folder or prints cannot harm the worker or its neighbour, and can be killed with all that it started.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from l2l_dask.evaluating import Where
    from l2l_dask.optimizee import Optimizee

_PR_SET_PDEATHSIG = 1


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
    """

    optimizee: bytes
    where: Where
    paths: tuple[str, ...] = ()
    cwd: str = ""


def main(arguments: list[str]) -> None:
    """Serve evaluations to the process at the other end of the connection, until it goes."""
    descriptor, parent, scratch = int(arguments[0]), int(arguments[1]), Path(arguments[2])
    _die_with(parent)
    connection = Connection(descriptor)
    payload: Payload = pickle.loads(connection.recv_bytes())
    optimizee, problem = _open(payload)
    connection.send_bytes(problem.encode())
    while optimizee is not None:
        try:
            request = connection.recv_bytes()
        except EOFError:
            return
        connection.send_bytes(_serve(optimizee, request, payload, scratch))


def _open(payload: Payload) -> tuple[Optimizee | None, str]:
    from l2l_dask.evaluating import described

    sys.path += [path for path in payload.paths if path not in sys.path]
    _enter(payload.cwd)
    try:
        optimizee: Optimizee = pickle.loads(payload.optimizee)
        optimizee.setup()
    except BaseException as error:
        return None, described(error)
    _flush()
    return optimizee, ""


def _serve(optimizee: Optimizee, request: bytes, payload: Payload, scratch: Path) -> bytes:
    from l2l_dask.evaluating import described, evaluate
    from l2l_dask.evaluation import Evaluation, Status

    candidate, me = pickle.loads(request), os.getpid()
    try:
        result = evaluate(optimizee, candidate, payload.where, scratch)
    except BaseException as error:
        result = Evaluation(candidate.id, Status.FAILED, candidate.attempt, error=described(error))
    _flush()
    if os.getpid() != me:
        os._exit(0)  # a fork that the optimizee let come back here: the connection is not its own
    _enter(payload.cwd)
    return pickle.dumps(result, protocol=pickle.HIGHEST_PROTOCOL)


def _enter(folder: str) -> None:
    if folder and os.path.isdir(folder):
        os.chdir(folder)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _die_with(parent: int) -> None:
    """Ask the kernel (Linux) to kill this process when the thread that started it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
