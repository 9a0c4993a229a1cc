"""Between evaluations that report and the loop that decides, for an optimizer that looks at learning curves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from l2l_dask import loop
from l2l_dask.curves import Curves, observes
from l2l_dask.evaluation import Evaluation
from l2l_dask.executors import Executor
from l2l_dask.optimizer import Optimizer
from l2l_dask.replay import Proposed
from l2l_dask.reports import Report
from l2l_dask.trajectory import Record


class Watch:
    """Watches evaluations, and lets them stop; does nothing for an optimizer that does not look at learning curves.

    Parameters
    ----------
    proposed
        The individuals that the optimizer was not told, by id; the driver keeps it up to date.
    """

    def __init__(
        self, optimizer: Optimizer, executor: Executor, record: Record, proposed: Mapping[int, Proposed]
    ) -> None:
        self._executor, self._proposed = executor, proposed
        self._curves = Curves(record, self._is_observed) if observes(optimizer) else None

    def _is_observed(self, id: int) -> bool:
        """Tell whether the optimizer may look at an individual's reports: not when the best are evaluated again."""
        return id in self._proposed and self._proposed[id].final is None

    def events(self, ended: Iterable[Evaluation], reports: Sequence[Report] | None = None) -> list[loop.Event]:
        """Say what is new of learning curves; what has ended brings the whole of its own."""
        if self._curves is None:
            return []
        reports = self._executor.reported() if reports is None else reports
        new = self._curves.new([*reports, *(Report(e.id, 0, e.curve) for e in ended)])
        self._order([report.id for report in reports])
        return [loop.Reported(new)] if new else []

    def stop(self, ids: tuple[int, ...]) -> None:
        """Let individuals stop; that the optimizer wants it is journalled by then."""
        if self._curves is not None:
            self._curves.stop(ids)
            self._order(ids)

    def _order(self, ids: Iterable[int]) -> None:
        """Tell those of them that are to stop, also those that go on reporting: an order may have got lost."""
        if self._curves is not None and (orders := self._curves.orders(ids)):
            self._executor.stop(orders)

    def is_stopping(self, id: int) -> bool:
        return self._curves is not None and self._curves.is_stopping(id)

    def stopped(self, ids: Sequence[int], attempt: int) -> list[loop.Event]:
        """Return the results of those that need not be evaluated: they were to stop, but their process was lost."""
        if self._curves is None:
            return []
        ended = tuple(self._curves.stopped(id, attempt) for id in ids if self._curves.is_stopping(id))
        return [loop.Arrived(ended)] if ended else []

    def whole(self, evaluations: tuple[Evaluation, ...]) -> tuple[Evaluation, ...]:
        """Give those that were stopped the curves for which they were."""
        return evaluations if self._curves is None else tuple(map(self._curves.whole, evaluations))

    def forget(self, ids: Sequence[int]) -> None:
        """Let go what the optimizer is told."""
        if self._curves is not None:
            self._curves.forget(ids)
