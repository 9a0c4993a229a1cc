"""Jobs of a batch system: their scripts, as text, and what is done with them."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import shlex
import subprocess
import sys
import uuid
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, cast

import dask

from l2l_dask.cluster import pages
from l2l_dask.cluster.profiles import Profile
from l2l_dask.cluster.systems import Standing, System
from l2l_dask.cluster.tls import Tls
from l2l_dask.errors import ClusterError
from l2l_dask.walltime import JOB_END

_log = logging.getLogger(__name__)
_PATIENCE = 30.0  # seconds that a command of the batch system may take
# What a job is given by its batch system: one that is submitted from within it is not to take it for its own.
_OF_A_JOB = (JOB_END, "SLURM_", "SLURMD_", "SBATCH_", "SRUN_", "PBS_", "SGE_", "LSB_", "OAR_")
_SGE = ("SGE_ROOT", "SGE_CELL", "SGE_CLUSTER_NAME", "SGE_QMASTER_PORT", "SGE_EXECD_PORT")
_OF_THE_MACHINE = ("SLURM_CONF", "PBS_CONF_FILE", "PBS_SERVER", *_SGE)


def worker_job(
    profile: Profile,
    name: str,
    address: str,
    tls: Tls | None,
    *,
    offers: Mapping[str, float] | None = None,
    logs: Path | None = None,
) -> Any:
    """Make a job that is one Dask worker, with a slot for each of its cores.

    Parameters
    ----------
    profile
        What it asks for.
    name
        Of the job, and of the worker.
    address, tls
        Of the scheduler.
    offers
        Resources of a worker, besides its ``cores``.
    logs
        Where its output goes, if the profile does not say.
    """
    resources = {"cores": profile.cores} | dict(offers or {})
    extra = [*(profile["worker_extra_args"] or ()), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"]
    extra += ["--resources", shlex.quote(" ".join(f"{key}={value:g}" for key, value in resources.items()))]
    security = tls.security() if tls else None
    return _job(
        profile,
        name,
        logs,
        scheduler=address,
        processes=1,  # dask-jobqueue never replaces a job that it lost with several
        nanny=True,
        security=security,
        protocol="tls://" if security else None,
        worker_extra_args=extra,
    )


def command_job(
    profile: Profile, name: str, command: Sequence[str], *, logs: Path | None = None, after: str | None = None
) -> Any:
    """Make a job that is a command of ours, which gets the signals that the batch system sends to the job.

    Parameters
    ----------
    after
        Id of the job for whose end it is to wait.
    """
    directives = [profile.kind.after.format(job=after)] if after else []
    job = _job(profile, name, logs, directives, scheduler="tcp://none", processes=1)
    job._command_template = "exec " + shlex.join(command)
    return job


def _job(profile: Profile, name: str, logs: Path | None, directives: Sequence[str] = (), **settings: Any) -> Any:
    options = dict(profile.options)
    prologue = [*(profile["job_script_prologue"] or ())]
    own = ["export DASK_LOGGING__DISTRIBUTED=warning", pages.EXPORT]
    if profile.walltime is not None:
        own.append(f"export {JOB_END}=$(( $(date +%s) + {int(profile.walltime)} ))")
    given = profile["job_extra_directives"] or ()
    if isinstance(given, Mapping):  # HTCondor's
        options["job_extra_directives"] = dict(given)
    else:
        options["job_extra_directives"] = [*given, *profile.kind.once, *directives]
    options |= {
        "name": name,
        "job_name": name,
        "python": profile["python"] or f"{shlex.quote(sys.executable)} -P",
        "log_directory": profile["log_directory"] or (str(logs) if logs else None),
        "job_script_prologue": [*own, *prologue],
    }
    job_class = profile.kind.job_class()  # whose import brings defaults
    none = {name.replace("_", "-"): None for name, value in profile.options.items() if value is None}
    section = f"{profile.system}-{uuid.uuid4().hex}"  # which nobody else reads
    try:
        with dask.config.set({f"jobqueue.{section}": dask.config.get(f"jobqueue.{profile.system}", {}) | none}):
            return job_class(config_name=section, **(options | settings))
    except (ValueError, TypeError) as error:
        raise ClusterError(f"{profile.system}: a job cannot be made: {_line(error)}") from None


def submit(job: Any) -> str:
    """Submit a job.

    Returns
    -------
    str
        The batch system's id for it.

    Raises
    ------
    ClusterError
        If it is refused, in the batch system's own words.
    """
    # In a session of its own, in which it does not hear a terminal's Ctrl-C.
    job._call = partial(job._call, env=_outside_jobs(), start_new_session=True)
    try:
        _start(job)
    except FileNotFoundError as error:
        raise ClusterError(
            f"{error.filename} is not installed here: is this machine a login node of the cluster?"
        ) from None
    except TimeoutError:
        raise ClusterError(f"`{job.submit_command}` did not answer within {_PATIENCE:g} s") from None
    except (RuntimeError, ValueError, OSError) as error:
        raise ClusterError(f"`{job.submit_command}` refused a job: {_said(error)}") from None
    return str(job.job_id)


def _start(job: Any) -> None:
    """Start a job whole: one that Ctrl-C came upon, accepted and not yet known to anybody, is cancelled."""
    with ThreadPoolExecutor(1) as thread:
        started = thread.submit(asyncio.run, asyncio.wait_for(job.start(), _PATIENCE))
        try:
            started.result()
        except KeyboardInterrupt:
            if started.exception() is None:
                asyncio.run(job._close_job(job.job_id, job.cancel_command))
            raise


def _outside_jobs() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(_OF_A_JOB) or name in _OF_THE_MACHINE
    }


def own_id(profile: Profile) -> str | None:
    """Return the id of the job that this process is or runs in, None if there is none."""
    if profile.system == "local":
        return str(profile.kind.job_class().id_of(os.getpid()))
    variable = profile.kind.variable
    # With its name before it: that is what OAR's command prints, and dask-jobqueue looks for.
    found = re.search(profile.kind.job_class().job_id_regexp, f"{variable}={os.environ.get(variable, '')}")
    return found["job_id"] if found else None  # as submit() returns it: PBS says more in the variable


def cancel(profile: Profile, ids: Collection[str]) -> None:
    """Cancel jobs; those that have ended already are left alone, and one that cannot be cancelled is warned of."""
    kind = profile.kind.job_class()

    async def close(id: str) -> None:
        if profile.system == "local":
            await kind._close_job(id, kind.cancel_command)
        else:  # dask-jobqueue's would not tell of a failure
            await kind._call([*shlex.split(kind.cancel_command), id])

    async def each() -> list[BaseException | None]:
        return await asyncio.gather(*(asyncio.wait_for(close(id), _PATIENCE) for id in ids), return_exceptions=True)

    failed = {id: failure for id, failure in zip(ids, asyncio.run(each()), strict=True) if failure} if ids else {}
    if failed and states(profile, set(failed)) is None and profile.kind.listing:
        _log.warning(
            "jobs could not be cancelled, since the batch system does not answer; once it does: %s %s",
            kind.cancel_command,
            " ".join(failed),
        )


def states(profile: Profile, ids: Collection[str]) -> dict[str, Standing] | None:
    """Ask the batch system which of some jobs wait and which run.

    Returns
    -------
    dict or None
        Those that have not ended; None if the batch system does not answer, or cannot be asked here.
    """
    if profile.system == "local":
        return cast("dict[str, Standing]", profile.kind.job_class().states(ids))
    all_of_them = listed(profile.kind)
    if all_of_them is None:
        return None
    return {id: standing for id, standing in all_of_them.items() if id in ids}


def listed(kind: System) -> dict[str, Standing] | None:
    """List the user's jobs that have not ended; None if the batch system does not answer, or cannot be asked here."""
    if not kind.listing:
        return None
    try:
        done = subprocess.run(kind.listing, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    found: dict[str, Standing] = {}
    for line in done.stdout.splitlines():
        id, _, rest = line.strip().partition(" ")
        state, _, reason = rest.partition(" ")
        if id:
            found[id] = Standing("pending", reason) if state.startswith(kind.pending) else Standing("running")
    return found


def _said(error: Exception) -> str:
    """Pick the batch system's own words out of dask-jobqueue's account of a command that failed."""
    text = str(error)
    parts = [part.partition("\nstdout:")[0] for part in text.split("stderr:\n")[1:]]
    return _line(parts[0] if parts and parts[0].strip() else text)


def _line(what: object) -> str:
    return " ".join(str(what).split())
