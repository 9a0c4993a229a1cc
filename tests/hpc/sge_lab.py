"""A real Grid Engine on this machine, for tests: a qmaster and one host, in a folder and on ports of their own.

``python sge_lab.py FOLDER`` clears up after its standard input ends: when whoever started the Grid Engine was killed.
"""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

SLOTS = 16  # more than the machine has cores: what the tests run is small
PATIENCE = 120.0

_PROGRAMS = Path("/usr/lib/gridengine")  # Debian's
_DEFAULTS = Path("/usr/share/gridengine")
_BOOTSTRAP = """\
admin_user none
default_domain none
ignore_fqdn true
spooling_method classic
spooling_lib libspoolc
spooling_params {spooling}
binary_path {folder}/bin
qmaster_spool_dir {folder}/spool/qmaster
security_mode none
listener_threads 2
worker_threads 2
scheduler_threads 1
"""
# Debian's defaults, but for these: root may submit, and everything is quick.
_CONFIGURATION = {
    "execd_spool_dir": "{folder}/spool/execd",
    "mailer": "/bin/true",
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:01",
}
_QUEUE = {"qname": "main.q", "hostlist": "{host}", "load_thresholds": "NONE", "pe_list": "smp", "slots": str(SLOTS)}
_SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}


def missing() -> str:
    """Say in one line what this machine lacks for a Grid Engine; nothing if it lacks nothing."""
    if not (_PROGRAMS / "sge_qmaster").exists() or not (_PROGRAMS / "sge_execd").exists():
        return "Grid Engine is not installed: tests/hpc/install-sge.sh installs it on Debian"
    if os.geteuid() != 0:
        return "Grid Engine starts jobs only as root, which the tests are not"
    return ""


class GridEngine:
    """A Grid Engine of one host; a context manager.

    What the tests start finds it through ``environment``. ``logs()`` are there for when a test fails.
    """

    def __init__(self) -> None:
        self.folder = Path()
        self.host = socket.gethostname()
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to find this Grid Engine; a site's settings.sh sets the same."""
        qmaster, execd = map(str, self.ports)
        there = {"SGE_ROOT": str(self.folder), "SGE_CELL": "lab"}
        return there | {"SGE_QMASTER_PORT": qmaster, "SGE_EXECD_PORT": execd}

    def __enter__(self) -> Self:
        self.folder = Path(tempfile.mkdtemp(prefix="sge-"))
        self.folder.chmod(0o755)
        # Outlives this process if that is killed, and then clears up.
        guard = [sys.executable, __file__, str(self.folder)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            self.ports = _free_ports()
            self._write()
            self._start("sge_qmaster")
            self.wait_for(lambda: bool(self.run("qconf", "-sh")))
            self.run("qconf", "-as", self.host)
            self._start("sge_execd")
            self._configure()
            self.wait_for(lambda: self.run("qhost", "-h", self.host).splitlines()[-1].split()[2] != "-")
        except BaseException:
            sys.stderr.write(self.logs())
            self.stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        """End all of it and all jobs at once; nothing is left, neither process nor file."""
        for daemon in self._daemons.values():
            daemon.kill()
            daemon.wait()
        self._daemons.clear()
        clear_up(self.folder)
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()
            self._guard = None

    def run(self, *words: str) -> str:
        """Run one of Grid Engine's commands, and return what it prints."""
        environment = _without_another() | self.environment
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def jobs(self) -> dict[str, str]:
        """Each job that has not ended: its id, and its state in Grid Engine's letters, such as ``r`` or ``hqw``."""
        lines = self.run("qstat", "-u", "*").splitlines()[2:]
        return {words[0]: words[4] for words in map(str.split, lines)}

    def processes(self) -> list[psutil.Process]:
        """What runs in jobs."""
        return [process for process in _processes(self.folder) if not process.name().startswith("sge_")]

    def cancel(self, *jobs: str) -> None:
        self.run("qdel", *jobs)

    def reset(self) -> None:
        """End all jobs: what one test leaves to the next."""
        if left := self.jobs():
            with contextlib.suppress(RuntimeError):  # one of them has ended meanwhile
                self.cancel("-f", *left)
        self.wait_for(lambda: not self.jobs())

    def logs(self) -> str:
        """What the daemons logged."""
        found = [*(self.folder / "log").glob("*"), *(self.folder / "spool").glob("*/**/messages")]
        return "".join(f"--- {path}\n{path.read_text(errors='replace')[-2000:]}\n" for path in found)

    def wait_for(self, happens: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait for what must come about."""
        until = time.monotonic() + seconds
        while not self._now(happens):
            if time.monotonic() > until:
                raise TimeoutError(f"waited {seconds:.0f} s in vain")
            time.sleep(0.1)

    @staticmethod
    def _now(happens: Callable[[], bool]) -> bool:
        # The qmaster is not there yet, or busy; a process has ended since it was listed.
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired, psutil.Error):
            return happens()
        return False

    def _write(self) -> None:
        """Make the folder what an installation's is."""
        common, spool = self.folder / "lab/common", self.folder / "spool"
        for path in (common, spool / "qmaster/job_scripts", spool / "execd", self.folder / "log"):
            path.mkdir(parents=True)
        architecture = subprocess.check_output([_DEFAULTS / "util/arch"], text=True).strip()
        for name in ("bin", "lib", "utilbin"):
            (self.folder / name).mkdir()
            (self.folder / name / architecture).symlink_to(_PROGRAMS)
        (self.folder / "util").symlink_to(_DEFAULTS / "util")
        spooling = f"{common};{spool / 'qmaster'}"
        (common / "bootstrap").write_text(_BOOTSTRAP.format(folder=self.folder, spooling=spooling))
        (common / "act_qmaster").write_text(f"{self.host}\n")
        (common / "host_aliases").write_text(f"{self.host} localhost\n")
        settings = _changed((_DEFAULTS / "default-configuration").read_text(), _CONFIGURATION, folder=self.folder)
        (self.folder / "configuration").write_text(settings)
        resources = _DEFAULTS / "util/resources"
        self.run(str(_PROGRAMS / "spoolinit"), "classic", "libspoolc", spooling, "init")
        for words in (
            ("configuration", self.folder / "configuration"),
            ("complexes", resources / "centry"),
            ("usersets", resources / "usersets"),
            ("managers", "root"),
        ):
            self.run(str(_PROGRAMS / "spooldefaults"), *map(str, words))

    def _configure(self) -> None:
        """Make a queue, an environment for several cores, and the scheduler quick."""
        self.run("qconf", "-Ap", str(_DEFAULTS / "util/resources/pe/smp"))
        for name, shown, changed, option in (
            ("queue", "-sq", _QUEUE, "-Aq"),
            ("scheduler", "-ssconf", _SCHEDULER, "-Msconf"),
        ):
            path = self.folder / name
            path.write_text(_changed(self.run("qconf", shown), changed, host=self.host))
            self.run("qconf", option, str(path))

    def _start(self, name: str) -> None:
        """Start a daemon in the foreground, as our child."""
        with (self.folder / "log" / name).open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [f"/usr/sbin/{name}"],
                env=_without_another() | self.environment | {"SGE_ND": "1"},
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


def _changed(settings: str, changes: dict[str, str], **names: object) -> str:
    """Put values in place of those in lines of a name and a value each."""
    lines = [line.split(maxsplit=1) for line in settings.splitlines() if line and not line.startswith("#")]
    found = {name: " ".join(value) for name, *value in lines} | {n: v.format(**names) for n, v in changes.items()}
    return "".join(f"{name} {value}\n" for name, value in found.items())


def _without_another() -> dict[str, str]:
    """Our environment, without what another Grid Engine has put there."""
    return {key: value for key, value in os.environ.items() if not key.startswith("SGE_")}


def _free_ports() -> tuple[int, int]:
    """Find two ports that are free now, below those which the system gives away."""
    while True:
        port = random.SystemRandom().randrange(20000, 32000)
        with contextlib.suppress(OSError), socket.socket() as one, socket.socket() as two:
            one.bind(("", port))
            two.bind(("", port + 1))
            return port, port + 1


def clear_up(folder: Path) -> None:
    """Kill what belongs to the Grid Engine in this folder, and remove the folder."""
    while left := _processes(folder):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _processes(folder: Path) -> list[psutil.Process]:
    """Find its daemons and jobs, but not those that only use it, such as the tests."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            environment = process.environ()
            ours = environment.get("SGE_ROOT") == str(folder)
            if ours and ("JOB_ID" in environment or process.name().startswith("sge_")):
                found.append(process)
    return [process for process in found if _runs(process)]


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


if __name__ == "__main__":
    sys.stdin.read()
    clear_up(Path(sys.argv[1]))
