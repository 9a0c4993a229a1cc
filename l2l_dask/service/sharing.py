"""An executor on workers that are shared: it asks for no more slots than it was granted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from l2l_dask.errors import L2LError
from l2l_dask.evaluation import Evaluation
from l2l_dask.executors.dask import Dask


class LeftError(L2LError):
    """A driver that leaves because its service says so; the store is whole, and another driver goes on."""


@dataclass
class Grant:
    """What a service allows, from any thread.

    Attributes
    ----------
    quota
        How many evaluations may run at once.
    leave
        Why the driver is to leave now; empty if it is not.
    changed
        Called after a change.
    """

    quota: int = 0
    leave: str = ""
    changed: Callable[[], None] = lambda: None


@dataclass
class Shared(Dask):
    """Evaluation on a Dask cluster, in the slots that were granted.

    Of short evaluations a reserve is under way beyond that, which hides the way to the workers: it takes slots that
    others leave free, and keeps none of them waiting for longer than a fraction of a second.

    Parameters
    ----------
    grant
        May change at any time. Evaluations that run are let end, whatever it says.
    """

    grant: Grant = field(default_factory=Grant)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.grant.changed = self.wake

    @property
    def reach(self) -> int:
        """How many evaluations could run at once on all workers."""
        return super().known

    @property
    def known(self) -> int:
        return min(super().known, self.grant.quota)

    def collect(self, timeout: float) -> list[Evaluation]:
        ended = super().collect(timeout)
        if not ended and self.grant.leave:
            raise LeftError(self.grant.leave)
        return ended
