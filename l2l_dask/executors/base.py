"""The contract of an executor: it takes candidates and gives evaluations back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from l2l_dask.evaluating import Where
from l2l_dask.evaluation import Candidate, Evaluation
from l2l_dask.optimizee import Optimizee
from l2l_dask.reports import Listener, Report
from l2l_dask.underway import Underway


class Executor(ABC):
    """Runs candidates; the driver's thread alone calls it.

    Attributes
    ----------
    threaded : bool
        Whether evaluations go on while the driver does something else: then the optimizer works on a thread of its own.
    virtual : bool
        Whether the seconds that an evaluation takes are not real: then its result is not worth waiting for the disk.
    listener : callable or None
        Where evaluations happen within :meth:`collect`, what it calls with their reports; it says which are to stop.
    """

    threaded = False
    virtual = False
    listener: Listener | None = None

    @abstractmethod
    def start(self, optimizee: Optimizee, where: Where) -> None:
        """Get ready to evaluate ``optimizee``."""

    @property
    @abstractmethod
    def slots(self) -> int:
        """How many evaluations can run at once."""

    @property
    def waits(self) -> str:
        """What workers are waited for, in a line; empty if none are or it is not known."""
        return ""

    @property
    def capacity(self) -> int:
        """How many candidates should be in flight."""
        return self.slots

    @property
    def quantum(self) -> int:
        """How many candidates are best submitted together."""
        return 1

    @abstractmethod
    def submit(self, candidates: Sequence[Candidate]) -> None:
        """Take candidates to be evaluated."""

    @abstractmethod
    def collect(self, timeout: float) -> list[Evaluation]:
        """Return what has ended; wait up to ``timeout`` seconds for the first."""

    def reported(self) -> list[Report]:
        """Return what evaluations have reported since the last time, where they go on meanwhile."""
        return []

    def underway(self) -> list[Underway]:
        """Return what is evaluated just now, as far as it is known."""
        return []

    def stop(self, places: Mapping[int, str]) -> None:
        """Let individuals stop at their next reports, each at the place that its reports named.

        Where evaluations go on meanwhile; an order that gets lost is repeated by the driver.
        """

    def wake(self) -> None:
        """Make :meth:`collect` return early; may be called from any thread."""

    @abstractmethod
    def close(self) -> None:
        """Give up what runs."""
