"""What batch systems have in common, and where they differ beyond what dask-jobqueue knows."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Literal, NamedTuple, TypeAlias

State: TypeAlias = Literal["pending", "running"]


class Standing(NamedTuple):
    """How a job stands that has not ended: what it does, and, in the batch system's own words, why it waits."""

    state: State
    reason: str = ""


@dataclass(frozen=True)
class System:
    """A batch system.

    Attributes
    ----------
    job : str
        dask-jobqueue's class for its jobs, which writes their scripts and knows the commands.
    variable : str
        Of a job's environment, which holds its id; empty if none is known.
    options : tuple of str
        Keyword arguments that only this system's class takes.
    once : tuple of str
        Directives of each job, which keep it from starting that again by itself, and in a shell other than bash.
    after : str
        The directive by which a job waits for the end, however it comes, of the job ``{job}``; empty if there is none.
    listing : tuple of str
        The command that lists the user's jobs, a line with id, state and reason each; empty if none is known here.
    pending : str
        What states of jobs that wait begin with.
    size : str
        A pattern that matches, from their beginnings, the directives that make a job large.
    number, pair : int
        Seconds of a wall time's unit where it is a bare number, and of the first of two: ``"30"``, ``"2:30"``.
    """

    job: str
    variable: str
    options: tuple[str, ...]
    once: tuple[str, ...] = ()
    after: str = ""
    listing: tuple[str, ...] = ()
    pending: str = ""
    size: str = r"(?!)"
    number: int = 1
    pair: int = 60

    def job_class(self) -> Any:
        """Import dask-jobqueue's class, and keep Python's own answer to Ctrl-C, which the import replaces."""
        module, _, name = self.job.partition(":")
        with sigint_kept():
            return getattr(import_module(module), name)


@contextmanager
def sigint_kept() -> Iterator[None]:
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        with suppress(ValueError):  # not the main thread: there dask-jobqueue could not replace it either
            signal.signal(signal.SIGINT, before)


# Its states are letters, which say most of why a job waits: qw, hqw (held), Eqw (its start failed).
_QSTAT = """\
jobs=$(qstat -u "$(id -un)") || exit
echo "$jobs" | awk 'NR > 2 {print $1, ($5 ~ /qw/) ? "PENDING " $5 : "RUNNING"}'
"""

# All resources but single ones that say when and where a job may run, or what must be there.
_RESOURCE = (
    r"(-(hard|soft)\s+)?-[lL](?!\s*[\"']?(walltime|[hs]_rt|h|hostname|arch|os|filesystems|place)=(?!\S*excl)[^,\s]+$)"
)

SYSTEMS = {
    "slurm": System(
        "dask_jobqueue.slurm:SLURMJob",
        "SLURM_JOB_ID",
        ("queue", "account", "walltime", "job_cpu", "job_mem"),
        once=("--no-requeue",),
        after="--dependency=afterany:{job}",
        listing=("squeue", "--me", "--noheader", "--format=%A %T %r"),
        pending="PENDING",
        size=r"--(gres|gpu|tres|nodes|ntasks|cpus|cores|mem|mincpus|core-spec|sockets|extra-node-info|exclusive)|-[GNncSB]",
        number=60,
    ),
    "pbs": System(
        "dask_jobqueue.pbs:PBSJob",
        "PBS_JOBID",
        ("queue", "account", "walltime", "resource_spec"),
        once=("-r n",),
        after="-W depend=afterany:{job}",
        size=_RESOURCE,
    ),
    "sge": System(
        "dask_jobqueue.sge:SGEJob",
        "JOB_ID",
        ("queue", "project", "walltime", "resource_spec"),
        once=("-r n", "-S /bin/bash"),
        after="-hold_jid {job}",
        listing=("sh", "-c", _QSTAT),
        pending="PENDING",
        size=rf"-pe\b|{_RESOURCE}",
    ),
    "lsf": System(
        "dask_jobqueue.lsf:LSFJob",
        "LSB_JOBID",
        ("queue", "project", "walltime", "ncpus", "mem", "lsf_units", "use_stdin"),
        once=("-rn",),
        after='-w "ended({job})"',
        size=r"-[nM](?=[\s\d])|-nnodes\b|-x\b|-gpu\b|-R\b.*(rusage|span|affinity)",
        number=60,
        pair=3600,
    ),
    "oar": System(
        "dask_jobqueue.oar:OARJob",
        "OAR_JOB_ID",
        ("queue", "project", "walltime", "resource_spec", "memory_per_core_property_name"),
        after="-a {job}",
        size=r"-l|--resource",
        number=3600,
        pair=3600,
    ),
    "htcondor": System(
        "dask_jobqueue.htcondor:HTCondorJob",
        "",
        ("disk", "submit_command_extra", "cancel_command_extra"),
    ),
    "local": System("l2l_dask.cluster.processes:ProcessJob", "", ("walltime",), after="{job}"),
}
