"""A real Slurm on this machine, for tests: a controller and several nodes, and what goes wrong with them on a cluster.

It runs as whoever runs the tests, in a folder of its own, with its own ports and its own munge: several of them can run
side by side, and beside a Slurm that the machine has anyway.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from . import _configuration, _processes
from ._configuration import PARTITION, own_address
from ._processes import clear_up, on_node, send

PROGRAMS = ("slurmctld", "slurmd", "sbatch", "scancel", "scontrol", "sinfo", "squeue", "munged")
PATIENCE = 120.0

# A state that a job does not leave again.
_FINAL = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}


def missing() -> str:
    """Say in one line what this machine lacks for a Slurm; nothing if it lacks nothing."""
    if lacking := [program for program in PROGRAMS if _find(program) is None]:
        return (
            f"Slurm is not installed ({', '.join(lacking)} not found): tests/hpc/install-slurm.sh installs it on Debian"
        )
    if not own_address():
        return (
            f"Slurm needs the host's name to mean this machine: put '127.0.0.1 {socket.gethostname()}' into /etc/hosts"
        )
    return ""


@dataclass(frozen=True)
class Job:
    """A job as squeue shows it; an element of an array has an id like ``7_2``."""

    id: str
    name: str
    state: str  # Slurm's word, in full: PENDING, RUNNING, COMPLETED, NODE_FAIL, ..
    node: str  # several nodes in Slurm's short form; "" before it starts
    reason: str  # why it waits, or why it ended
    comment: str

    @property
    def ended(self) -> bool:
        return self.state in _FINAL


class Slurm:
    """A Slurm of ``nodes`` nodes, n1, n2, .., each with 8 CPUs and 6000 MB; a context manager.

    What the tests start finds it through ``environment``. ``logs()`` are there for when a test fails.
    """

    def __init__(self, nodes: int = 4) -> None:
        self.nodes = tuple(f"n{i + 1}" for i in range(nodes))
        self.folder = Path()
        self.ports: tuple[int, ...] = ()  # the controller's, then the nodes'
        self._daemons: dict[str, subprocess.Popen[bytes]] = {}
        self._hung: set[str] = set()
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def conf(self) -> Path:
        return self.folder / "slurm.conf"

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs in its environment to find this Slurm."""
        return {"SLURM_CONF": str(self.conf)}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it, and wait until each node can take jobs."""
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)  # munge's clients, whoever they are, must reach its socket
        # Outlives this process if that is killed, and then clears up.
        guard = [sys.executable, _processes.__file__, str(self.folder)]
        self._guard = subprocess.Popen(guard, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True)
        try:
            for name in ("log", "state", "spool"):
                (self.folder / name).mkdir()
            self.ports = _configuration.write(self.folder, self.nodes)
            self._start_munge()
            self._start_controller()
            for node in self.nodes:
                self._start_node(node)
            self.wait_for(lambda: all(state == "IDLE" for state in self.node_states().values()))
        except BaseException:
            sys.stderr.write(self.logs())
            self.stop()
            raise

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

    # What users do.

    def run(self, *words: str, timeout: float = PATIENCE) -> str:
        """Run one of Slurm's commands, and return what it prints."""
        environment = _own_environment() | self.environment
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{' '.join(words)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def submit(self, command: str, *options: str) -> str:
        """Submit a shell command as a batch job and return its id; the output is dropped, unless options tell."""
        options = ("--output=/dev/null", "--chdir=/", *options)
        return self.run("sbatch", "--parsable", *options, f"--wrap={command}").strip().split(";")[0]

    def jobs(self) -> list[Job]:
        """All jobs, also those that ended in the last ten minutes."""
        lines = self.run(
            "squeue", "--noheader", "--array", "--states=all", "--format=%i\t%j\t%T\t%N\t%r\t%k"
        ).splitlines()
        return [Job(*(field.replace("(null)", "") for field in line.split("\t", 5))) for line in lines]

    def job(self, job: str) -> Job:
        for each in self.jobs():
            if each.id == job:
                return each
        raise LookupError(f"Slurm knows no job {job}")

    def cancel(self, *jobs: str) -> None:
        self.run("scancel", *jobs)

    # What happens to users.

    def end_soon(self, job: str, seconds: float) -> None:
        """Let the job's walltime end in so many seconds; Slurm looks every 30 s: SIGTERM, and after 15 s SIGKILL."""
        end = datetime.now() + timedelta(seconds=seconds)
        self.run("scontrol", "update", f"JobId={job}", f"EndTime={end:%Y-%m-%dT%H:%M:%S}")

    def crash(self, node: str) -> None:
        """Lose the node with all that runs on it. Slurm notices within about 35 s by itself, at once by ``notice``."""
        self._signal(node, signal.SIGSTOP)  # or one of them would tell of the death of another
        self._signal(node, signal.SIGKILL)
        self._daemons.pop(node).wait()
        self.wait_for(lambda: not self.processes(node))
        self._hung.discard(node)

    def notice(self, node: str) -> None:
        """Have Slurm notice now what it would half a minute later: the node is down, its jobs fail or are requeued."""
        self.run("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=crashed")

    def hang(self, node: str) -> None:
        """Stop the node with all that runs on it, as if it were swapping to death; to Slurm that looks like a crash."""
        self._hung.add(node)
        self._signal(node, signal.SIGSTOP)
        self.wait_for(lambda: all(each.status() == psutil.STATUS_STOPPED for each in self.processes(node)))

    def resume_hung(self, node: str) -> None:
        self._signal(node, signal.SIGCONT)
        self._hung.discard(node)

    def restore(self, node: str) -> None:
        """Bring a node back that crashed or hangs, if it does, and wait until it can take jobs.

        Of a crash that Slurm had not noticed by then it learns from the jobs that are missing, after some 25 s.
        """
        if node in self._hung:
            self.resume_hung(node)
        if not self._is_up(node):
            self._start_node(node)
        if self.node_states()[node].startswith(("DOWN", "DRAIN")):
            with contextlib.suppress(RuntimeError):  # it came back by itself meanwhile
                self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")
        self.wait_for(lambda: self._listens(node) and self.node_states()[node] in {"IDLE", "MIXED", "ALLOCATED"})

    def stop_controller(self) -> None:
        """Let each command fail until ``start_controller``, after some 9 s of trying; jobs run on."""
        self._daemons["slurmctld"].terminate()
        self._daemons.pop("slurmctld").wait()

    def start_controller(self) -> None:
        """Start the controller, if it does not run, and wait until it answers; 3 s later it knows its nodes again."""
        if not self._is_up("slurmctld"):
            self._start_controller()
        self.wait_for(self.answers)

    def refuse_jobs(self) -> None:
        """Let each sbatch fail until ``accept_jobs``."""
        self.run("scontrol", "update", f"PartitionName={PARTITION}", "State=INACTIVE")

    def accept_jobs(self) -> None:
        self.run("scontrol", "update", f"PartitionName={PARTITION}", "State=UP")

    # What tests see.

    def answers(self) -> bool:
        """Tell whether the controller does its work; Slurm's commands wait 9 s for it before they fail."""
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired):
            return bool(self.node_states(timeout=2))
        return False

    def node_states(self, timeout: float = PATIENCE) -> dict[str, str]:
        """Each node's state, in full; a ``*`` at its end says that the node does not answer."""
        lines = self.run("sinfo", "--noheader", "--Node", "--format=%N %T", timeout=timeout).splitlines()
        return {node: state.upper() for node, state in (line.split() for line in lines)}

    def processes(self, *nodes: str) -> list[psutil.Process]:
        """What runs on the nodes (without any: on all of them): Slurm's own processes there, and the jobs'."""
        return [process for node in nodes or self.nodes for process in on_node(self.folder, node)]

    def logs(self, lines: int = 20) -> str:
        """The ends of what the daemons logged."""
        # A slurmd logs to its file, and the same to its output: that is of use only where it did not come so far.
        found = {
            path.stem: path for path in sorted((self.folder / "log").glob("*"), key=lambda path: path.suffix != ".out")
        }
        texts = {name: path.read_text(errors="replace").splitlines()[-lines:] for name, path in sorted(found.items())}
        return "".join(f"--- {name}\n" + "\n".join(end) + "\n" for name, end in texts.items() if end)

    def wait_for(self, happens: Callable[[], bool], seconds: float = PATIENCE) -> None:
        """Wait for what must come about; a TimeoutError, with the jobs and nodes, says that it did not."""
        until = time.monotonic() + seconds
        while not self._now(happens):
            if time.monotonic() > until:
                seen = f"{self.jobs()}, {self.node_states()}" if self.answers() else "the controller does not answer"
                raise TimeoutError(f"waited {seconds:.0f} s in vain: {seen}")
            time.sleep(0.1)

    def wait_for_state(self, job: str, *states: str, seconds: float = PATIENCE) -> Job:
        """Wait until the job is in one of the states."""
        self.wait_for(lambda: self.job(job).state in states, seconds)
        return self.job(job)

    def reset(self) -> None:
        """Make all well again, and end all jobs: what one test leaves to the next."""
        self.start_controller()
        self.accept_jobs()
        for node in self.nodes:
            self.restore(node)
        if running := [job.id for job in self.jobs() if not job.ended]:
            with contextlib.suppress(RuntimeError):  # one of them has ended meanwhile
                self.cancel("--signal=KILL", "--full", *running)  # at once, the batch script too
            with contextlib.suppress(RuntimeError):
                self.cancel(*running)
        self.wait_for(lambda: all(job.ended for job in self.jobs()) and set(self.node_states().values()) == {"IDLE"})

    # How it is done.

    @staticmethod
    def _now(happens: Callable[[], bool]) -> bool:
        # The controller is away or busy; a process has ended since it was listed.
        with contextlib.suppress(RuntimeError, subprocess.TimeoutExpired, psutil.Error):
            return happens()
        return False

    def _listens(self, name: str) -> bool:
        connections = psutil.Process(self._daemons[name].pid).net_connections()
        return any(connection.status == psutil.CONN_LISTEN for connection in connections)

    def _is_up(self, name: str) -> bool:
        return name in self._daemons and self._daemons[name].poll() is None

    def _start_munge(self) -> None:
        key, munge = self.folder / "munge.key", self.folder / "munge.socket"
        key.touch(0o600)
        key.write_bytes(os.urandom(128))
        files = {"key": key, "pid": self.folder / "munge.pid", "seed": self.folder / "munge.seed"}
        options = [f"--{name}-file={path}" for name, path in files.items()]
        self._start("munged", "munged", "--foreground", f"--socket={munge}", *options)
        self.wait_for(munge.exists)

    def _start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-D", "-i")

    def _start_node(self, node: str) -> None:
        self._start(node, "slurmd", "-D", "-N", node)

    def _start(self, name: str, program: str, *options: str) -> None:
        """Start a daemon in the foreground, as our child and with no terminal of ours."""
        with (self.folder / "log" / f"{name}.out").open("ab") as log:
            self._daemons[name] = subprocess.Popen(
                [_find(program) or program, *options],
                env=_own_environment() | self.environment,
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _signal(self, node: str, number: signal.Signals) -> None:
        """Signal everything on the node, until there is nothing that appeared meanwhile."""
        reached: set[psutil.Process] = set()
        while new := on_node(self.folder, node) - reached:
            send(new, number)
            reached |= new


def _find(program: str) -> str | None:
    """Find a program; a user's PATH often lacks the folders of the daemons."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/sbin")))


def _own_environment() -> dict[str, str]:
    """Our environment, without what a Slurm that the tests themselves run on has put there."""
    return {
        key: value for key, value in os.environ.items() if not key.startswith(("SLURM", "SBATCH", "SQUEUE", "SINFO"))
    }
