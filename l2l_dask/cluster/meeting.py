"""How the tasks of an allocation find and trust each other, and part: by a folder that all of them see."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from l2l_dask.cluster import tls
from l2l_dask.cluster.jobs import listed
from l2l_dask.cluster.systems import SYSTEMS
from l2l_dask.errors import ClusterError
from l2l_dask.trajectory.layout import write_json

PATIENCE = 180.0  # seconds until all nodes have started their tasks, and see each other's files
_JOINING = 60.0  # seconds for a worker that knows the scheduler's address


class EndedError(ClusterError):
    """There is nothing to do any more."""


@dataclass(frozen=True)
class Meeting:
    """A folder, which the scheduler makes, by which the tasks find and trust each other."""

    folder: Path
    encrypted: bool = True

    @property
    def secured(self) -> tls.Tls | None:
        return tls.Tls(self.folder) if self.encrypted else None

    @property
    def file(self) -> Path:
        return self.folder / "scheduler.json"

    def open(self, job: str) -> None:
        """Make the folder; what earlier starts have left, which were killed, is removed."""
        living = listed(SYSTEMS["slurm"])
        for other in self.folder.parent.glob("allocation-*"):
            of = other.name.split("-")[1]
            if of == job or (living is not None and of not in living):
                shutil.rmtree(other, ignore_errors=True)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.encrypted:
            tls.make(self.folder)

    def tell(self, **content: str) -> None:
        """Let the others know; they see it whole or not at all."""
        write_json(self.file, content)

    async def address(self, rank: int) -> str:
        """Wait for the scheduler's address, as task ``rank``.

        Raises
        ------
        ClusterError
            If it does not come, or the scheduler has ended by now.
        """
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            with suppress(OSError):
                os.listdir(self.folder)  # has a network file system look again
                told = json.loads(self.file.read_text())
                self.note("came", rank)
                if "error" in told:
                    raise ClusterError(told["error"])
                if self.is_over:  # looked at after the note: who ends it tells, and then looks at the notes
                    self.note("joined", rank)
                    raise EndedError("the search has ended")
                return str(told["address"])
            await asyncio.sleep(0.2)
        raise ClusterError(
            f"task 0, the scheduler, did not start within {PATIENCE:g} s: is {self.folder} on all nodes?"
        )

    def note(self, what: str, rank: int) -> None:
        """Leave word that a task "came", and knows the address or that there is none; or that it has "joined"."""
        with suppress(OSError):
            (self.folder / f"{what}-{rank}").touch()

    def dismiss(self) -> None:
        """Send away who comes from now on, and wait for who is about to join: it could not once all is gone."""
        self.end()
        until = time.monotonic() + _JOINING
        while time.monotonic() < until and self._joining():
            time.sleep(0.1)

    def end(self) -> None:
        """Tell who comes from now on that there is nothing to do."""
        with suppress(OSError):  # a full disk, or it has been closed
            self.tell(ended="the search has ended")

    def _joining(self) -> set[str]:
        """Return who came lately and has not joined; of who came long before, and did not, none is alive."""
        with suppress(OSError):
            ended, joined = self.file.stat().st_mtime, self._noted("joined")  # by the file system's own clock
            return {rank for rank, at in self._noted("came").items() if rank not in joined and ended - at < _JOINING}
        return set()

    def _noted(self, what: str) -> dict[str, float]:
        """Return when which tasks left word of that."""
        found = {}
        with suppress(OSError):  # the folder is gone
            for path in self.folder.glob(f"{what}-*"):
                found[path.name.partition("-")[2]] = path.stat().st_mtime
        return found

    @property
    def is_over(self) -> bool:
        """Whether the scheduler has ended, for one who knew its address."""
        try:
            return "ended" in json.loads(self.file.read_text())
        except OSError:
            return True

    def close(self, others: int = 0, until: float = 0.0) -> None:
        """Leave nothing, once all others have come: who comes later would wait in vain, and the whole job for him."""
        while time.monotonic() < until and self.folder.exists() and len(self._noted("came")) < others:
            time.sleep(0.2)
        for _ in range(2):  # once more for what was noted meanwhile
            shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()  # if nothing else is in it
