"""Surroundings of its own: mounts that nobody else sees, a cluster that sees none of the user's files."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

PATIENCE = 120.0
L2L = Path(sys.executable).with_name("l2l")  # not `python -m`, which puts the current folder first


def _unshare():
    """Find out how this user gets a mount namespace; None where that is not permitted."""
    for how in (["unshare", "-m"], ["unshare", "-Urm"]):
        with contextlib.suppress(OSError), tempfile.TemporaryDirectory() as folder:
            tried = subprocess.run([*how, "mount", "-t", "tmpfs", "none", folder], capture_output=True, check=False)
            if tried.returncode == 0:
                return how
    return None


@pytest.fixture(scope="session")
def unshare():
    """The command that runs another with mounts of its own; they are gone when it ends."""
    how = _unshare()
    if how is None:
        pytest.skip("this user may not have a mount namespace of its own (unshare -m)")
    return how


class Elsewhere:
    """A cluster of four workers on what might be another machine: the tests' folders are empty there."""

    def __init__(self, folder, hidden, unshare):
        self.folder, self._processes = folder, []
        file = folder / "scheduler.json"
        options = ["--no-dashboard", "--scheduler-file", str(file), "--host", "127.0.0.1"]
        self._start([], "dask_scheduler", *options, "--port", "0")
        until = time.monotonic() + PATIENCE
        while not self._read(file):
            assert time.monotonic() < until, "waited in vain"
            time.sleep(0.02)
        self.address = self._read(file)["address"]
        hide = [*unshare, "sh", "-c", 'mount -t tmpfs none "$0" && exec "$@"', str(hidden)]
        for _ in range(4):
            self._start(
                hide, "dask_worker", *options, "--no-nanny", "--nthreads", "1", "--local-directory", str(folder)
            )

    def _start(self, prefix, program, *options):
        command = [*prefix, sys.executable, "-P", "-m", f"distributed.cli.{program}", *options]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self._processes.append(subprocess.Popen(command, cwd=self.folder, start_new_session=True, **quiet))

    @staticmethod
    def _read(file):
        with contextlib.suppress(OSError, ValueError):
            return json.loads(file.read_text())
        return None

    def close(self):
        for process in self._processes:
            family = []
            with contextlib.suppress(psutil.NoSuchProcess):
                family = psutil.Process(process.pid).children(recursive=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            psutil.wait_procs(family, timeout=PATIENCE)


@pytest.fixture(scope="session")
def elsewhere(tmp_path_factory, unshare):
    """A cluster that does not see the folders of the tests."""
    folder = Path(tempfile.mkdtemp(prefix="l2l-elsewhere-"))
    cluster = Elsewhere(folder, tmp_path_factory.getbasetemp(), unshare)
    yield cluster
    cluster.close()
    shutil.rmtree(folder)


@pytest.fixture
def write(tmp_path):
    """Write files below the test's folder, by their paths."""

    def write(files, folder="."):
        for path, text in files.items():
            file = tmp_path / folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return tmp_path / folder

    return write


@pytest.fixture
def experiment_file():
    """Describe a search over x from 0 to 1."""

    def experiment_file(optimizee="model.py:fitness", evaluations=6, optimizer="random", more=""):
        return (
            f'[optimizee]\nname = "{optimizee}"\n[space]\nx = {{low = 0.0, high = 1.0}}\n[objectives]\nf = "minimize"\n'
            f'[optimizer]\nname = "{optimizer}"\n[run]\nevaluations = {evaluations}\nseed = 1\nstore = "a.zarr"\n{more}'
        )

    return experiment_file


@pytest.fixture
def call(tmp_path):
    """Call something as a user does in the folder ``cwd``: ``l2l``, ``python -m l2l_dask``, or Python itself."""

    def call(what, *words, cwd=tmp_path, stdin=None, **options):
        programs = {"l2l": [L2L], "-m": [sys.executable, "-m", "l2l_dask"], "python": [sys.executable]}
        command = [*programs[what], *map(str, words)]
        given = {"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}
        options = {"capture_output": True, "text": True, "timeout": PATIENCE, "check": False} | given | options
        return subprocess.run(command, cwd=cwd, **options)

    return call


@pytest.fixture
def one_line():
    """Check that a call was refused in one line that says certain things."""

    def one_line(done, *said):
        lines = done.stderr.splitlines()
        assert "Traceback" not in done.stderr, done.stderr
        assert len([line for line in lines if line.startswith("l2l: ")]) == 1, done.stderr
        for words in said:
            assert words in lines[-1]

    return one_line
