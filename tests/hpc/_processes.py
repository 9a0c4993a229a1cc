"""The processes of the Slurm in a folder: found, signalled, cleared up.

``python _processes.py FOLDER`` clears up after its standard input ends: when whoever started the Slurm was killed.
"""

import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

_DAEMONS = ("slurmctld", "slurmscriptd", "slurmd", "munged")


def on_node(folder: Path, node: str) -> set[psutil.Process]:
    """Find the node's slurmd, its slurmstepds, what is below them, and what its jobs set free."""
    log, conf = str(folder / "log" / f"{node}.log"), str(folder / "slurm.conf")
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if _is_of_node(process, node, log, conf):
                found |= {process, *process.children(recursive=True)}
    return {process for process in found if _runs(process)}


def _is_of_node(process: psutil.Process, node: str, log: str, conf: str) -> bool:
    if process.name() in {
        "slurmd",
        "slurmstepd",
    }:  # a slurmstepd has no environment, and says in no other way whose it is
        return any(opened.path == log for opened in process.open_files())
    environment = process.environ()
    return environment.get("SLURM_CONF") == conf and environment.get("SLURMD_NODENAME") == node


def _runs(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def send(processes: Iterable[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def clear_up(folder: Path) -> None:
    """Kill what belongs to the Slurm in this folder, and remove the folder."""
    while left := _of_slurm(folder):
        send(left, signal.SIGKILL)
        time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


def _of_slurm(folder: Path) -> set[psutil.Process]:
    """Find all processes of the Slurm in this folder, but not those that only use it, such as the tests."""
    found: set[psutil.Process] = set()
    for node in (folder / "spool").glob("*"):
        found |= on_node(folder, node.name)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.name() in _DAEMONS and process.cwd() == str(folder) and _runs(process):
                found.add(process)
    return found


if __name__ == "__main__":
    sys.stdin.read()
    clear_up(Path(sys.argv[1]))
