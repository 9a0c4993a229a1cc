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
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from l2l_dask import family, memory
from l2l_dask.bundle import Answer, Book
from l2l_dask.child import Payload
from l2l_dask.evaluating import described
from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.reports import Order, Report

_LOOK = 0.5  # seconds between two looks at the memory in use
_TAIL = 4000  # bytes kept of what a failed evaluation printed
_MUCH = 64 << 20  # bytes printed by running evaluations, at most; more is thrown away
_LONG = 1.0  # seconds after which a bundle rests: what has ended is worth more to the search than the way to us costs
_LAST_BREATH = 5.0
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_SETUP = 600.0  # seconds that setup() may take at least, where evaluations have a limit


class ClosedError(RuntimeError):
    """The child was closed before anything of a bundle had ended."""


class Child:
    """One process that evaluates one thing after the other, kept warm; started anew when it was lost.

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
    on_report
        Called with what evaluations report while they run, on the thread that evaluates.
    environment
        Variables of its own.
    """

    def __init__(
        self,
        payload: Payload,
        timeout: float | None = None,
        memory_limit: int = 0,
        folder: str | None = None,
        on_report: Callable[[Report], None] | None = None,
        *,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._payload, self._on_report = payload, on_report
        self._environment = dict(environment or {})
        if payload.threads:
            self._environment |= dict.fromkeys(_THREADS, str(payload.threads))
        self._timeout = math.inf if timeout is None else timeout
        self._memory_limit = memory_limit
        self._connection: Connection | None = None
        self._problem = ""
        self._begun = 0.0, 0.0  # the present unit: by the clock, and by one that nobody sets
        self._printed = 0  # bytes before that
        self._trusted = math.inf  # until then it does not end by itself
        self._looked, self._used = -math.inf, 0  # when its memory was measured, and how much it was
        self._until = math.inf  # when the present unit must have ended
        self._sending = threading.Lock()  # of the next three: orders come from another thread
        self._conversing = False
        self._at_work: frozenset[int] = frozenset()
        self._to_stop: set[int] = set()
        self._lock = threading.RLock()  # of the next four: another thread may close us
        self._process: subprocess.Popen[bytes] | None = None
        self._closed = self._busy = False
        self._scratch = Path(tempfile.mkdtemp(prefix="l2l-child-", dir=folder))
        self._output = (self._scratch / "printed").open("a+b", buffering=0)
        # The kernel ties a child to the life of the thread that started it: this one lives as long as we do.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="l2l-starter")

    def evaluate(self, candidates: Sequence[Candidate]) -> list[Evaluation]:
        """Evaluate, whatever happens, and return what has ended, in the candidates' order: at least one.

        It is one result for each candidate unless that takes longer than a second: then those that have not begun by
        then are left out.

        Raises
        ------
        ClosedError
            If it was closed before any had ended; where some had, they are returned.
        """
        with self._lock:
            self._busy = not self._closed
        book, until = Book(candidates, self._payload.batch_size), time.monotonic() + _LONG
        with self._sending:
            self._at_work, self._to_stop = frozenset(c.id for c in candidates), set()
        try:
            while not (book.over or self._closed or (time.monotonic() >= until and book.may_rest)):
                self._work_on(book, until)
        finally:
            with self._lock:
                busy, self._busy = self._busy, False
            if busy and self._closed:
                self._clear_up()
        results = book.results()
        if candidates and not results:
            raise ClosedError("the process was closed")
        return results

    def stop(self, ids: Iterable[int]) -> None:
        """Let individuals stop at their next reports, those of them that are evaluated here; from any thread."""
        with self._sending:
            new = self._at_work.intersection(ids) - self._to_stop
            self._to_stop |= new
            if new and self._conversing and self._connection is not None:
                with contextlib.suppress(OSError):  # it is gone: what takes its place is told then
                    self._connection.send_bytes(pickle.dumps(Order(new)))

    def _work_on(self, book: Book, until: float) -> None:
        """Do what there is to do, up to that time or the loss of the process."""
        self._begun = time.time(), time.monotonic()
        try:
            if self._process is not None and (self._is_ending() or self._is_too_big()):
                self.kill()
            self._forget_printed()
            if self._process is None:
                self._starter.submit(self._start).result()
            if self._problem:
                book.fail(self._failed(Status.FAILED, self._problem))
            else:
                self._converse(book, until)
        except BaseException as error:
            trouble = self._trouble(error)
            if not isinstance(error, Exception):
                raise
            if not self._closed:
                book.blame(trouble)
        finally:
            self._trusted = time.monotonic() + 0.9 * self._payload.idle

    def _trouble(self, error: BaseException) -> Evaluation:
        """End the process with which talking failed: nobody knows what it would say next."""
        if isinstance(error, EOFError | OSError):
            return self._failed(Status.CRASHED, self._obituary())
        return self._failed(Status.FAILED, f"its process could not be understood: {described(error)}")

    def _is_ending(self) -> bool:
        """Tell whether it ended between two evaluations, or is about to; its guard notices that a moment later."""
        assert self._connection is not None
        return self._connection.poll() or time.monotonic() > self._trusted

    def _is_too_big(self) -> bool:
        """Tell whether it uses too much memory; it is not measured more often than needed."""
        if not self._memory_limit or time.monotonic() < self._looked + _LOOK:
            return False
        self._looked = time.monotonic()
        return self._memory() > self._memory_limit

    def _start(self) -> None:
        ours, theirs = Pipe()
        module = [sys.executable, "-P", "-m", "l2l_dask.child"]
        with theirs, self._lock:
            if self._closed:
                raise ClosedError("the process was closed")
            self._connection = ours
            self._process = subprocess.Popen(
                [*module, str(theirs.fileno()), str(os.getpid()), str(self._scratch)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                start_new_session=True,
                env=os.environ | self._environment if self._environment else None,
            )
        ours.send_bytes(pickle.dumps(self._payload))
        patience = max(self._timeout, _SETUP)
        ready = ours.poll(None if math.isinf(patience) else patience)
        self._problem = (
            ours.recv_bytes().decode() if ready else f"TimeoutError: setup() took longer than {patience:g} s"
        )
        self._looked = -math.inf
        if not self._problem and self._is_too_big():
            self._problem = self._too_big("setup() left")

    def _converse(self, book: Book, until: float) -> None:
        """Hand over all that is to be done, and take the answers."""
        assert self._connection is not None
        with self._sending:
            request = replace(book.request(until - time.monotonic()), stop=frozenset(self._to_stop))
            self._connection.send_bytes(pickle.dumps(request))
            self._conversing = True
        try:
            self._listen(book)
        finally:
            with self._sending:
                self._conversing = False

    def _listen(self, book: Book) -> None:
        """Take the answers, and pass on the reports that come in between."""
        assert self._connection is not None
        self._until = time.monotonic() + self._timeout
        trouble = None
        while True:
            trouble = trouble or self._await_answer()
            if trouble is not None:
                book.blame(trouble)
                return
            answer: Answer | Report = pickle.loads(self._connection.recv_bytes())
            if isinstance(answer, Report):
                if self._on_report is not None:
                    self._on_report(answer)
                trouble = self._excess()  # one that reports without rest is watched no less
                continue
            self._show(answer.printed)
            tail = self._tail(answer.printed) if any(e.error for e in answer.ended) else ""
            book.end([replace(e, error=e.error + tail) if e.error else e for e in answer.ended])
            if not answer.begins:
                return
            if answer.ended and self._is_too_big():  # which cannot be told of whom: the next one has hardly begun
                self.kill()
                return
            book.begin(answer.begins)
            self._begun, self._printed = (time.time(), time.monotonic()), answer.printed
            self._until = self._begun[1] + self._timeout
            if answer.printed > _MUCH:
                self._forget_printed()

    def _await_answer(self) -> Evaluation | None:
        """Wait for the process; return why it was killed, if it was."""
        assert self._connection is not None
        trouble = None
        while trouble is None and not self._connection.poll(max(0.0, min(self._until - time.monotonic(), _LOOK))):
            trouble = self._excess()
        return trouble

    def _excess(self) -> Evaluation | None:
        """Kill the process if it took too long or uses too much memory, and return why; keep small what it prints."""
        if time.monotonic() >= self._until:
            return self._failed(Status.TIMED_OUT, f"TimeoutError: took longer than {self._timeout:g} s")
        if self._is_too_big():
            return self._failed(Status.CRASHED, self._too_big("used"))
        if os.fstat(self._output.fileno()).st_size > _MUCH:
            self._forget_printed()
        return None

    def _memory(self) -> int:
        """Measure what the process and all it started use; where that is too much, with shared pages counted once."""
        process = self._process
        if process is None:
            return 0
        members = memory.family(process.pid)
        used = memory.resident(members)
        self._used = memory.proportional(members) if used > self._memory_limit else used
        return self._used

    def _too_big(self, did: str) -> str:
        return f"MemoryError: {did} {self._used / 1e6:.0f} MB, the limit is {self._memory_limit / 1e6:.0f} MB"

    def _failed(self, status: Status, reason: str) -> Evaluation:
        """End the process, and say why; of whom is not said."""
        started, since = self._begun
        took = time.monotonic() - since
        self.kill(0.0 if status is Status.CRASHED else family.GRACE)  # what uses too much memory is given no time
        self._show()
        return Evaluation(
            -1,
            status,
            error=reason + self._tail(),
            host=socket.gethostname(),
            started=started,
            finished=started + took,
        )

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

    def _tail(self, until: int = sys.maxsize) -> str:
        """Quote the end of what was printed, up to the byte after which the next one began."""
        printed = self._read(until, _TAIL).decode(errors="replace").strip("\n")
        return f"\nprinted:\n{printed}" if printed else ""

    def _show(self, until: int = sys.maxsize) -> None:
        """Print what was printed, where that is wanted."""
        if self._payload.show_output:
            with contextlib.suppress(OSError):  # nobody looks any more
                os.write(2, self._read(until, _MUCH))

    def _read(self, until: int, most: int) -> bytes:
        self._output.seek(0, os.SEEK_END)
        end = min(self._output.tell(), until)
        begin = max(self._printed if self._printed <= end else 0, end - most)
        self._output.seek(begin)
        return self._output.read(end - begin)

    def _forget_printed(self) -> None:
        self._output.truncate(0)
        self._printed = 0

    def kill(self, grace: float = family.GRACE) -> None:
        """End the process and all that it started; for the thread that evaluates."""
        self._end_process(grace)
        if self._connection is not None:
            with self._sending:
                self._connection.close()

    def _end_process(self, grace: float = family.GRACE) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:  # its number is its own
                family.ask(process.pid, grace)
                family.end(process.pid)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def close(self) -> None:
        """End the process and remove its files; from any thread, also while another evaluates.

        That one notices when the process is gone, and removes the files then.
        """
        with self._lock:
            self._closed, first = True, not self._closed
            busy = self._busy
        self._end_process(family.GRACE if busy else 0.0)
        self._starter.shutdown(wait=False, cancel_futures=True)
        if first and not busy:
            self._clear_up()

    def _clear_up(self) -> None:
        self.kill()
        self._output.close()
        shutil.rmtree(self._scratch, ignore_errors=True)
