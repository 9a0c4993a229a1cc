"""The other side of :mod:`l2l_dask.child`: starting, watching and killing the process that evaluates."""

from __future__ import annotations

import contextlib
import math
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from l2l_dask import memory
from l2l_dask.child import Payload
from l2l_dask.evaluation import Candidate, Evaluation, Status

_LOOK = 0.5  # seconds between two looks at the memory in use
_TAIL = 4000  # bytes kept of what a failed evaluation printed
_LAST_BREATH = 5.0
_SETUP = 600.0  # seconds that setup() may take at least, where evaluations have a limit


class Child:
    """One process that evaluates one candidate at a time, kept warm; started anew when it was lost.

    Parameters
    ----------
    payload
        What it evaluates.
    timeout
        Seconds an evaluation may take; None for no limit.
    memory_limit
        Bytes that the process and what it started may use; 0 for no limit.
    folder
        Where its temporary files go; the system's place for them if None.
    """

    def __init__(
        self, payload: Payload, timeout: float | None = None, memory_limit: int = 0, folder: str | None = None
    ) -> None:
        self._payload = payload
        self._timeout = math.inf if timeout is None else timeout
        self._memory_limit = memory_limit
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._problem = ""
        self._trusted = math.inf  # until then it does not end by itself
        self._scratch = Path(tempfile.mkdtemp(prefix="l2l-child-", dir=folder))
        self._output = (self._scratch / "printed").open("a+b", buffering=0)
        # The kernel ties a child to the life of the thread that started it: this one lives as long as we do.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="l2l-starter")

    def evaluate(self, candidate: Candidate) -> Evaluation:
        """Evaluate, whatever happens."""
        begun = Evaluation(
            candidate.id, Status.FAILED, candidate.attempt, host=socket.gethostname(), started=time.time()
        )
        try:
            self._output.truncate(0)
            if self._process is not None and self._is_ending():
                self.kill()  # this evaluation is not to blame
            if self._process is None:
                self._starter.submit(self._start).result()
            if self._problem:
                problem, self._problem = self._problem, ""
                return self._failed(begun, Status.FAILED, problem)
            begun = replace(begun, started=time.time())
            return self._exchange(candidate, begun)
        except (EOFError, OSError):
            return self._failed(begun, Status.CRASHED, self._obituary())
        finally:
            self._trusted = time.monotonic() + 0.9 * self._payload.idle

    def _is_ending(self) -> bool:
        """Tell whether it ended between two evaluations, or is about to; its guard notices that a moment later."""
        assert self._connection is not None
        return self._connection.poll() or time.monotonic() > self._trusted

    def _start(self) -> None:
        ours, theirs = Pipe()
        with theirs:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "l2l_dask.child",
                    str(theirs.fileno()),
                    str(os.getpid()),
                    str(self._scratch),
                ],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
            )
        self._connection = ours
        ours.send_bytes(pickle.dumps(self._payload))
        patience = max(self._timeout, _SETUP)
        ready = ours.poll(None if math.isinf(patience) else patience)
        self._problem = (
            ours.recv_bytes().decode() if ready else f"TimeoutError: setup() took longer than {patience:g} s"
        )

    def _exchange(self, candidate: Candidate, begun: Evaluation) -> Evaluation:
        assert self._connection is not None
        self._connection.send_bytes(pickle.dumps(candidate))
        until = time.monotonic() + self._timeout
        while not self._connection.poll(max(0.0, min(until - time.monotonic(), _LOOK))):
            if time.monotonic() >= until:
                return self._failed(begun, Status.TIMED_OUT, f"TimeoutError: took longer than {self._timeout:g} s")
            used = self._memory() if self._memory_limit else 0
            if used > self._memory_limit:
                limit = self._memory_limit
                return self._failed(
                    begun, Status.CRASHED, f"MemoryError: used {used / 1e6:.0f} MB, the limit is {limit / 1e6:.0f} MB"
                )
        result: Evaluation = pickle.loads(self._connection.recv_bytes())
        if result.error:
            result = replace(result, error=result.error + self._tail())
        return result

    def _memory(self) -> int:
        """Measure what the process and all it started use; where that is too much, with shared pages counted once."""
        assert self._process is not None
        family = memory.family(self._process.pid)
        used = memory.resident(family)
        return memory.proportional(family) if used > self._memory_limit else used

    def _failed(self, begun: Evaluation, status: Status, reason: str) -> Evaluation:
        finished = time.time()
        self.kill()
        return replace(begun, status=status, finished=finished, error=reason + self._tail())

    def _obituary(self) -> str:
        """Say how the process ended."""
        if self._process is None:
            return "ProcessError: the process could not be started"
        try:
            code = self._process.wait(_LAST_BREATH)
        except subprocess.TimeoutExpired:
            return "ProcessError: the process closed its connection"
        if code >= 0:
            return f"ProcessError: the process exited with status {code}"
        with contextlib.suppress(ValueError):  # a real-time signal has no name
            return f"ProcessError: the process was killed by {signal.Signals(-code).name}"
        return f"ProcessError: the process was killed by signal {-code}"

    def _tail(self) -> str:
        """Quote the end of what was printed."""
        if self._output.closed:
            return ""
        self._output.seek(0, os.SEEK_END)
        self._output.seek(max(0, self._output.tell() - _TAIL))
        printed = self._output.read().decode(errors="replace").strip("\n")
        return f"\nprinted:\n{printed}" if printed else ""

    def kill(self) -> None:
        """End the process and all that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if self._connection is not None:
            self._connection.close()

    def close(self) -> None:
        """End the process and remove its files."""
        self.kill()
        self._starter.shutdown()
        self._output.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
