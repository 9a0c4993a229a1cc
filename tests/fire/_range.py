"""A process that runs the command line in forks of itself, in which files may fail: ``python _range.py``.

It reads requests, one JSON object a line, and answers each with one. A fork costs a hundredth of a new process. In it,
every operation that changes a file of the store is counted: creating, writing, renaming, removing, cutting and syncing.
The one that was asked for kills the process, before it or with half of its bytes written, or raises an error.
"""

import builtins
import errno
import importlib
import io
import json
import mmap
import os
import signal
import struct
import sys
import threading
from contextlib import suppress

STORE = "run.zarr"
EVENTS = {"os.rename": 0, "os.remove": 0, "os.mkdir": 0, "os.rmdir": 0, "os.truncate": 0, "os.link": 0, "os.symlink": 0}
# What a full disk, missing permissions and a file system gone read-only still let through.
ALLOWED = {"ENOSPC": {"os.remove", "os.rmdir", "os.truncate"}, "EACCES": {"write", "fsync", "os.truncate"}}
PRELOADED = ["l2l_dask.cli.commands", "l2l_dask.cli.progress", "l2l_dask.experiment", "optimizers.steady_state_ga"]
# The arrays are written at every turn of the loop, and the journal goes on in another file after some evaluations.
# However long that takes, the operations are the same: no beat of the lease, no result that is dear for its time.
HASTE = {
    "l2l_dask.driver._FOLD": -1.0,
    "l2l_dask.trajectory.writer._SHARE": 1,
    "l2l_dask.trajectory.writer._SEGMENT_BYTES": 1500,
    "l2l_dask.trajectory.lease.BEAT": 1e6,
    "l2l_dask.driver.DEAR": 1e6,
    "l2l_dask.evaluating.DEAR": 1e6,
    "l2l_dask.trajectory.writer.DEAR": 1e6,
}
BOARD = struct.Struct("<q200s")


class Faults:
    """Counts the operations on the store's files, and lets one of them, or all from one on, go wrong.

    Parameters
    ----------
    kind
        "kill", "torn" or the name of an error; "" to count only.
    at
        Number of the first operation that goes wrong, from 1.
    once
        Whether an error is the only one.
    """

    def __init__(self, board, kind="", at=0, once=False):
        self.board, self.kind, self.at, self.once = board, kind, at, once
        self.n, self.log = 0, []
        self.lock, self.pid = threading.RLock(), os.getpid()
        self.real_write = os.write

    def install(self):
        os.write, os.fsync = self._counted_write, self._counting(os.fsync)
        builtins.open = io.open = self._opening(io.open)
        sys.addaudithook(self._hear)

    def meet(self, what, path, half=None):
        """Come to an operation; ``half`` carries out half of it."""
        if not self._is_ours(path):
            return
        with self.lock:
            self.n += 1
            label = f"{what} {path}"
            self.log.append(label)
            self.board[:] = BOARD.pack(self.n, label.encode()[-200:])
            if not self.kind or self.n < self.at or (self.n > self.at and (self.once or self.kind in ("kill", "torn"))):
                return
            if self.kind in ("kill", "torn"):
                if self.kind == "torn" and half is not None:
                    half()
                os.kill(self.pid, signal.SIGKILL)
            elif what not in ALLOWED.get(self.kind, ()):
                number = getattr(errno, self.kind)
                raise OSError(number, os.strerror(number), path)

    @staticmethod
    def _is_ours(path):
        return f"{STORE}/" in f"{path}/" or f".{STORE}-" in path

    def _hear(self, event, arguments):
        if event == "open":
            path, _, flags = arguments
            if isinstance(path, str) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
                self.meet("open", path)
        elif event in EVENTS:
            path = arguments[EVENTS[event]]
            place = arguments[-1] if event in ("os.remove", "os.rmdir", "os.mkdir") else -1
            if isinstance(path, int):
                path = _named(path)
            elif isinstance(place, int) and place >= 0:
                path = f"{_named(place)}/{os.fspath(path)}"
            if event != "os.mkdir" or not os.path.isdir(path):
                self.meet(event, os.fsdecode(path))

    def _counting(self, real):
        def counted(descriptor):
            self.meet("fsync", _named(descriptor))
            return real(descriptor)

        return counted

    def _counted_write(self, descriptor, data):
        self.meet("write", _named(descriptor), lambda: self.real_write(descriptor, data[: len(data) // 2]))
        return self.real_write(descriptor, data)

    def _opening(self, real):
        faults = self

        class Raw(io.FileIO):
            def write(self, data):
                half = super().write
                faults.meet("write", self.name, lambda: half(bytes(data)[: len(data) // 2]))
                return super().write(data)

        def opened(file, mode="r", buffering=-1, encoding=None, errors=None, newline=None, closefd=True, opener=None):
            if isinstance(file, int) or "r" in mode or not self._is_ours(os.fsdecode(file)):
                return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
            buffered = io.BufferedWriter(Raw(os.fsdecode(file), mode.translate({98: None, 116: None})))
            return buffered if "b" in mode else io.TextIOWrapper(buffered, encoding, errors, newline)

        return opened


def _named(descriptor):
    with suppress(OSError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return ""


def run(request, board):
    """Be the command line; never return."""
    os.chdir(request["folder"])
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(said, stream)
    from l2l_dask import cli

    for name, value in HASTE.items():
        module, _, constant = name.rpartition(".")
        assert hasattr(sys.modules[module], constant), name
        setattr(sys.modules[module], constant, value)
    faults = Faults(board, **request["fault"])
    faults.install()
    sys.argv = ["l2l", *request["words"]]
    status = 70  # of a traceback
    try:
        cli.main()
    except SystemExit as end:
        status = end.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        with open("operations", "w") as file:
            json.dump(faults.log, file)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def main():
    for name in PRELOADED:
        importlib.import_module(name)
    assert threading.active_count() == 1, "a fork takes no thread along"
    for line in sys.stdin:
        request = json.loads(line)
        with mmap.mmap(-1, BOARD.size) as board:
            pid = os.fork()
            if pid == 0:
                run(request, board)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            n, label = BOARD.unpack(board[:])
        print(json.dumps({"code": code, "n": n, "label": label.rstrip(b"\0").decode()}), flush=True)


if __name__ == "__main__":
    main()
