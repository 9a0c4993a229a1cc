"""The twin of a batch system on this machine: jobs are processes, with which all else can be tried out."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from dask_jobqueue.core import Job

from l2l_dask.birth import is_same, started
from l2l_dask.cluster.systems import Standing

_GRACE = 5.0


class ProcessJob(Job):
    """A job that is a process group of this machine. Its id is that of the process, with when it began.

    Parameters
    ----------
    walltime
        When its end would come; nothing here ends it.
    """

    submit_command: Any = "bash"
    cancel_command: Any = "kill"
    config_name = "local"
    job_id_regexp = r"(?P<job_id>\d+-\d+)"

    def __init__(self, scheduler: Any = None, name: Any = None, walltime: Any = None, **settings: Any) -> None:  # noqa: ARG002
        settings["shebang"] = settings.get("shebang") or "#!/usr/bin/env bash"
        super().__init__(scheduler=scheduler, name=name, **settings)  # type: ignore[no-untyped-call]
        self.job_header = "\n".join(self.job_extra_directives)

    def job_script(self) -> str:
        """Return the script; what it has to wait for is the id of another one."""
        waits = "".join(
            f"while kill -0 {after.partition('-')[0]} 2>/dev/null; do sleep 0.2; done\n"
            for after in self.job_extra_directives
        )
        prologue = "\n".join(self._job_script_prologue)
        return f"{self.shebang}\n{waits}{prologue}\n{self._command_template}\n"

    async def _submit_job(self, script_filename: str) -> str:
        output: Any = subprocess.DEVNULL
        if self.log_directory:
            output = Path(self.log_directory, f"{self.job_name}.log").open("ab")  # noqa: SIM115  closed below
        try:
            process = subprocess.Popen(
                ["bash", "-c", Path(script_filename).read_text()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if output is not subprocess.DEVNULL:
                output.close()
        return self.id_of(process.pid)

    @classmethod
    async def _close_job(cls, job_id: str, cancel_command: str) -> None:  # noqa: ARG003
        pid = int(job_id.partition("-")[0])
        if job_id not in cls.states([job_id]):
            return
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGTERM)
            for _ in range(int(_GRACE / 0.1)):
                if job_id not in cls.states([job_id]):
                    break
                await asyncio.sleep(0.1)
            os.killpg(pid, signal.SIGKILL)

    @staticmethod
    def id_of(pid: int) -> str:
        """Return the id of the job that a process is."""
        return f"{pid}-{int(started(psutil.Process(pid)))}"

    @staticmethod
    def states(ids: Collection[str]) -> dict[str, Standing]:
        """Tell which of some jobs run."""
        found: dict[str, Standing] = {}
        for id in ids:
            pid, _, began = id.partition("-")
            with suppress(psutil.Error):
                process = psutil.Process(int(pid))
                if is_same(process, int(began)) and process.status() != psutil.STATUS_ZOMBIE:
                    found[id] = Standing("running")
        return found
