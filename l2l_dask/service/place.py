"""Where a service's files lie: its stores in the open, all else in a folder that only its owner can look into."""

from __future__ import annotations

import json
import os
import re
import stat
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from l2l_dask.errors import ClusterError
from l2l_dask.trajectory.layout import write_atomically

_STALE = 90.0  # seconds: a service tells its state every second, and file systems are slow to tell
_CONNECTION = re.compile(r"connection-(\d{6,})\.json")
_EPOCH = re.compile(r"epoch-(\d{6,})")


@dataclass(frozen=True)
class Place:
    """The paths of one service.

    Attributes
    ----------
    root
        The folder that the user named: the stores are in it.
    """

    root: Path

    @property
    def private(self) -> Path:
        return self.root / ".l2l-service"

    @property
    def settings(self) -> Path:
        """What the user asked for."""
        return self.private / "settings.json"

    @property
    def state(self) -> Path:
        """What the service does, renewed all the time."""
        return self.private / "state.json"

    @property
    def control(self) -> Path:
        """What it is told."""
        return self.private / "control.json"

    @property
    def logs(self) -> Path:
        return self.private / "logs"

    def connection(self, epoch: int) -> Path:
        return self.private / f"connection-{epoch:06d}.json"

    def tls(self, epoch: int) -> Path:
        return self.private / f"tls-{epoch:06d}"

    def is_silent(self) -> bool:
        """Tell whether the service has not said for long what it does."""
        return time.time() - self.state.stat().st_mtime > _STALE

    def make(self) -> None:
        """Make the folders; the private ones are so whatever they were before."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            for folder in (self.private, self.logs):
                folder.mkdir(mode=0o700, exist_ok=True)
                folder.chmod(0o700)
        except OSError as error:
            raise ClusterError(
                f"{error.filename or self.private} cannot be made private: {error.strerror}; choose another folder"
            ) from None

    def epochs(self) -> list[int]:
        """List the starts that there were, ascending."""
        return self._numbers(_EPOCH)

    def connections(self) -> list[int]:
        """List the starts that left a connection file, ascending."""
        return self._numbers(_CONNECTION)

    def claim(self, epoch: int) -> bool:
        """Claim a start, which only one process can."""
        try:
            os.close(os.open(self.private / f"epoch-{epoch:06d}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False
        for old in self.epochs():
            if old < epoch:
                (self.private / f"epoch-{old:06d}").unlink(missing_ok=True)
        return True

    def _numbers(self, pattern: re.Pattern[str]) -> list[int]:
        names = os.listdir(self.private) if self.private.is_dir() else []
        return sorted(int(match[1]) for name in names if (match := pattern.fullmatch(name)))


def write(path: Path, content: Mapping[str, Any]) -> None:
    """Replace a file at once, by one that only its owner can read."""
    write_atomically(path, json.dumps(content).encode(), durable=True, mode=0o600)


def read(path: Path, *, secret: bool = True) -> dict[str, Any]:
    """Read a file that is ours alone; empty if it is not there.

    Parameters
    ----------
    secret
        Whether others may not read it either; in no case may they write it.

    Raises
    ------
    ClusterError
        If others could have read or written it: whoever knows its content can run code as its owner, and whoever
        wrote it can have code run by its reader.
    """
    try:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.geteuid():
                raise ClusterError(f"{path} belongs to another user: start a service of your own, in a folder of yours")
            if stat.S_IMODE(facts.st_mode) & (0o077 if secret else 0o022):
                raise ClusterError(
                    f"{path} can be {'read or ' if secret else ''}written by others, who could run code as you: "
                    f"chmod go= {path}, and if it is of a service, stop that and start it again"
                )
            content = json.load(file)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ClusterError(f"{path} is damaged: {error}") from None
    except OSError as error:
        raise ClusterError(f"{path} cannot be read: {error.strerror}") from None
    return content if isinstance(content, dict) else {}
