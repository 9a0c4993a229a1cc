"""Fixtures that several test files share."""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time

import hypothesis
import psutil
import pytest

from l2l_dask import FunctionOptimizee, Optimizee, Real, Space, minimize, shipping
from l2l_dask.child import Payload
from l2l_dask.evaluating import Where
from l2l_dask.process import Child
from l2l_dask.trajectory import look

# The same examples in each run, however busy the machine; others with --hypothesis-profile=default.
hypothesis.settings.register_profile(
    "sure", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("sure")

_PATIENCE = 60.0
_KEPT = ("resource_tracker", "forkserver")  # multiprocessing's own: they end with this process


def pytest_make_parametrize_id(config, val):
    """Name functions by their names, not by their addresses: a test has the same name in each run."""
    return getattr(val, "__name__", None) if callable(val) else None


@pytest.fixture(scope="session", autouse=True)
def no_child_is_left_behind():
    """No process that a test started outlives the session."""
    yield
    children = [child for child in psutil.Process().children(recursive=True) if not _is_kept(child)]
    _, alive = psutil.wait_procs(children, timeout=_PATIENCE)
    assert [" ".join(_command(child)) for child in alive] == []


def _command(process):
    with contextlib.suppress(psutil.Error):
        return process.cmdline()
    return []


def _is_kept(process):
    return any(name in word for word in _command(process) for name in _KEPT)


def _obedient():
    """A shell may have told its background jobs to ignore Ctrl-C; a user's terminal does not."""
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


class Cli:
    """The command line, as a user starts it in the folder ``cwd``."""

    def __init__(self, cwd):
        self.cwd = cwd
        self._started = []

    def start(self, *words, **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL} | options
        options.setdefault("preexec_fn", _obedient)
        process = subprocess.Popen(
            [sys.executable, "-m", "l2l_dask", *map(str, words)],
            cwd=self.cwd,
            text=True,
            start_new_session=True,
            **options,
        )
        self._started.append(process)
        return process

    def __call__(self, *words, timeout=120, **options):
        process = self.start(*words, **options)
        out, err = process.communicate(timeout=timeout)
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def close(self):
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.communicate()


@pytest.fixture
def l2l(tmp_path):
    """Call the command line in the test's folder: ``l2l("show", store)``, or ``l2l.start(..)``."""
    cli = Cli(tmp_path)
    yield cli
    cli.close()


def until(condition, seconds=120.0):
    """Wait for a condition, up to a limit that means failure."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def wait_until():
    """Wait for a condition, up to a limit that means failure: ``wait_until(condition, seconds)``."""
    return until


@pytest.fixture
def press_again():
    """Press Ctrl-C for the second time, in a driver's terminal: ``press_again(driver, store)``.

    Two that come together are one: it is pressed once more if the driver does not stop; and no more.
    """

    def press_again(driver, store):
        def stops():
            return driver.poll() is not None or look(store)[1] == "stopped"

        for _ in range(2):
            if not stops():
                os.killpg(driver.pid, signal.SIGINT)
            end = time.monotonic() + 10.0
            while not stops() and time.monotonic() < end:
                time.sleep(0.02)
        assert stops()

    return press_again


@pytest.fixture
def alive():
    """Tell whether there is a process of that id which still runs."""

    def alive(pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        return False

    return alive


@pytest.fixture
def temp(tmp_path, monkeypatch):
    """The folder for temporary files, ours alone."""
    folder = tmp_path / "temp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


class OneByOne(Child):
    """A child process that is also given single candidates, and is asked until it has evaluated all.

    Attributes
    ----------
    time_is_up
        Tells, by what an evaluation has printed, whether its time is up, long before the limit: that can then be one
        which no other evaluation comes near, however busy the machine.
    """

    time_is_up = None

    def evaluate(self, candidates):
        if not isinstance(candidates, list):
            return super().evaluate([candidates])[0]
        ended = []
        while len(ended) < len(candidates):
            ended += self.evaluate_some(candidates[len(ended) :])
        return ended

    def evaluate_some(self, candidates):
        """Evaluate as a worker has it done: at least one."""
        ended = super().evaluate(candidates)
        assert [e.id for e in ended] == [c.id for c in candidates[: len(ended)]] != []
        return ended

    def _excess(self):
        # The connection is looked at last: if it is empty, what was printed is not the next evaluation's.
        if self.time_is_up and self.time_is_up(self._read(sys.maxsize, 4000)) and not self._connection.poll():
            self._until = 0.0
        return super()._excess()


@pytest.fixture
def child_of(temp):
    """Make children; they are closed after the test."""
    made = []

    def make(what, timeout=30.0, memory_limit=0, paths=(), cwd="", time_is_up=None):
        space = Space({"x": Real(0, 1)})
        optimizee = what if isinstance(what, Optimizee) else FunctionOptimizee(what, space, minimize("f"))
        packed = shipping.pack(optimizee)
        payload = Payload(packed, Where("nowhere.zarr", "", 1), paths, cwd, batch_size=optimizee.batch_size)
        made.append(OneByOne(payload, timeout, memory_limit))
        made[-1].time_is_up = time_is_up
        return made[-1]

    yield make
    for child in made:
        child.close()
