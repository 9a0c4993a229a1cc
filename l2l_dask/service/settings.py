"""What a service was started with; its successors go by it too."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from l2l_dask import config
from l2l_dask.cluster.profiles import Profile
from l2l_dask.config import ClusterSection
from l2l_dask.errors import ClusterError
from l2l_dask.service import place
from l2l_dask.service.place import Place

_LOCAL_MEMORY = "2 GB"
_MOST = 10
# Options that make a worker job large besides its cores and memory.
_SIZES = ("job_cpu", "job_mem", "resource_spec", "ncpus", "mem")


@dataclass(frozen=True)
class Settings:
    """What a service was started with.

    Attributes
    ----------
    system, options
        What a worker job asks for: see :class:`~l2l_dask.cluster.profiles.Profile`.
    service
        Those options that are others for the service's own job.
    offers
        Resources of a worker, besides its cores.
    fewest, most
        Worker jobs.
    idle
        Seconds after which a worker job that is not needed is cancelled.
    at_once
        How many experiments are driven at the same time; others wait.
    encrypted
        Whether only who can read the connection file can connect.
    here
        Whether it runs where it was started, rather than in a job.
    """

    system: str
    options: Mapping[str, Any] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)
    offers: Mapping[str, float] = field(default_factory=dict)
    fewest: int = 0
    most: int = 1
    idle: float = 60.0
    at_once: int = 16
    encrypted: bool = True
    here: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.fewest <= self.most or self.most < 1:
            raise ClusterError(f"worker jobs: expected 0 <= --min <= --max, got {self.fewest} and {self.most}")

    @property
    def profile(self) -> Profile:
        """What a worker job asks for."""
        return Profile(self.system, self.options)

    @property
    def own_profile(self) -> Profile:
        """What the service's own job asks for: what worker jobs do, but for their size."""
        worker = self.profile
        none = {name: None for name in _SIZES if name in worker.kind.options}
        # Other directives (--qos, -C) may be what the site wants.
        given = worker["job_extra_directives"] or ()
        kept = [directive for directive in given if not re.match(worker.kind.size, directive)]
        return Profile(self.system, {**self.options, **none, "job_extra_directives": kept, **self.service})

    def write(self, at: Place) -> None:
        place.write(at.settings, asdict(self))

    @classmethod
    def read(cls, at: Place) -> Settings:
        """Read what the service in a folder was started with.

        Raises
        ------
        ClusterError
            If none ever was.
        """
        content = place.read(at.settings)
        if not content:
            raise ClusterError(f"no service was ever started in {at.root}: `l2l service start {at.root}` does")
        return cls(**{name: value for name, value in content.items() if name in cls.__dataclass_fields__})


def chosen(where: str, folder: Path, **given: Any) -> Settings:
    """Make settings for what ``--cluster`` names, as for ``l2l run``: a batch system, or a file with ``[cluster]``.

    Parameters
    ----------
    folder
        Where relative paths start.
    given
        Fields of :class:`Settings`; those that are None have defaults.

    Raises
    ------
    L2LError
        If there is no such batch system or file, or it does not say enough.
    """
    section = ClusterSection(**config.cluster(where, folder))
    system, options = section.profile, dict(section.options)
    if system == "local":
        options = {"cores": 1, "memory": _LOCAL_MEMORY} | options
    most = section.workers or (len(os.sched_getaffinity(0)) if system == "local" else _MOST)
    settings: dict[str, Any] = {"most": most, "offers": section.offers, "encrypted": section.tls}
    settings |= {name: value for name, value in given.items() if value is not None}
    return Settings(system, options, **settings)
