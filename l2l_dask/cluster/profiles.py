"""What the jobs of a batch system ask for: on Dask's own configuration, ``jobqueue.yaml``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dask

from l2l_dask.cluster.systems import SYSTEMS, System
from l2l_dask.errors import ClusterError

OPTIONS = (
    "cores",
    "memory",
    "interface",
    "local_directory",
    "death_timeout",
    "worker_extra_args",
    "job_extra_directives",
    "job_directives_skip",
    "job_script_prologue",
    "log_directory",
    "shebang",
    "python",
)
_WALLTIME = re.compile(r"(?:(\d+)-)?(\d+(?::\d+){0,2})")


@dataclass(frozen=True)
class Profile:
    """A batch system and what each of its worker jobs asks for.

    Parameters
    ----------
    system
        One of :data:`~l2l_dask.cluster.systems.SYSTEMS`.
    options
        dask-jobqueue's names for what jobs ask for: ``cores`` and ``memory`` of a whole job, ``walltime``, ``queue``,
        ``job_script_prologue`` and so on. What is not given is looked up in ``jobqueue.yaml``, as dask-jobqueue does;
        what is given as None is not asked for, whatever stands there.

    Raises
    ------
    ClusterError
        If an option is unknown, or it is not said how many cores and how much memory a job has.
    """

    system: str
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.system not in SYSTEMS:
            raise ClusterError(f"batch system: expected one of {', '.join(SYSTEMS)}, got {self.system!r}")
        known = sorted((*OPTIONS, *self.kind.options))
        unknown = sorted(set(self.options) - set(known))
        if unknown:
            raise ClusterError(f"unknown option {unknown[0]!r} of {self.system}: expected some of {', '.join(known)}")
        missing = [name for name in ("cores", "memory") if not self[name]]
        if missing:
            raise ClusterError(
                f"{self.system}: how many cores and how much memory has a job? {' and '.join(missing)} not given: "
                f'[cluster] options = {{cores = 4, memory = "8 GB"}}, or jobqueue.{self.system} in '
                "~/.config/dask/jobqueue.yaml"
            )
        if not isinstance(self["cores"], int) or self["cores"] < 1:
            raise ClusterError(f"cores: expected a whole number of at least 1, got {self['cores']!r}")
        try:
            dask.utils.parse_bytes(self["memory"])
        except (ValueError, TypeError, AttributeError):
            raise ClusterError(f'memory: expected such as "8 GB", got {self["memory"]!r}') from None
        self.walltime  # noqa: B018  which is refused here if it cannot be read

    @property
    def kind(self) -> System:
        return SYSTEMS[self.system]

    def __getitem__(self, name: str) -> Any:
        """Look an option up: given here, or in Dask's configuration."""
        if name in self.options:
            return self.options[name]
        return dask.config.get(f"jobqueue.{self.system}.{name.replace('_', '-')}", None)

    @property
    def cores(self) -> int:
        """Of a job."""
        return int(self["cores"])

    @property
    def walltime(self) -> float | None:
        """Seconds after which the batch system ends a job; None if that is not known."""
        given = self["walltime"]
        return None if given in (None, "") else seconds(given, self.kind)


def seconds(walltime: str | float, system: System) -> float:
    """Read a wall time as a batch system does: ``"02:00:00"``, ``"1-12:00:00"``, ``"2:30"`` or a number.

    Raises
    ------
    ClusterError
        If it is none.
    """
    found = _WALLTIME.fullmatch(f"{walltime}".strip())
    if not found:
        raise ClusterError(f'walltime: expected such as "02:00:00" or "1-00:00:00", got {walltime!r}')
    days, clock = int(found[1] or 0), [int(part) for part in found[2].split(":")]
    largest = (system.number, system.pair, 3600)[len(clock) - 1] if not found[1] else 3600
    return float(86400 * days + sum(part * largest / 60**place for place, part in enumerate(clock)))
