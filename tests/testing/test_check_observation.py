"""check_optimizer on those that look at learning curves: it catches what a resumed search could not repeat."""

import itertools
import math

import pytest

from l2l_dask.registry import find
from l2l_dask.testing import check_optimizer
from l2l_dask.testing.optimizer import RULES, default_spaces

RandomSearch = find("optimizers", "random")
OTHERS = set(RULES) - {"observe"}
SPACES = {"real": default_spaces()["real"]}


class Strict(RandomSearch):
    """Keeps the rule."""

    def _observe(self, reports):
        return [id for id, points in reports.items() if any(value > 0.4 for _, value in points)]


class AtWhim(RandomSearch):
    """Counts all looks of all instances."""

    looks = itertools.count(1)

    def _observe(self, reports):
        n = next(AtWhim.looks)
        return sorted(reports)[:1] if math.isqrt(n) ** 2 == n else []


class Uneven(RandomSearch):
    """What it stops depends on how many were made before it."""

    made = itertools.count()

    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.born = next(Uneven.made)

    def _observe(self, reports):
        return sorted(reports)[self.born % 2 : self.born % 2 + 1]


class KeepsCurves(Strict):
    def __init__(self, space, objectives, *, seed=0):
        super().__init__(space, objectives, seed=seed)
        self.curves = {}

    def _tell(self, evaluations):
        self.curves.update(dict.fromkeys(evaluations.ids.tolist()))


class ChangesReports(Strict):
    def _observe(self, reports):
        for points in reports.values():
            points.clear()
        return []


class NamesStrangers(Strict):
    def _observe(self, reports):
        return [max(reports) + 1]


class ReturnsASet(Strict):
    def _observe(self, reports):
        return set(super()._observe(reports))


BROKEN = [
    (AtWhim, "observe stops the same individuals for the same events"),
    (Uneven, "observe stops the same individuals for the same events"),
    (KeepsCurves, "'curves' still holds every id, though all of them were told"),
    (ChangesReports, "observe does not change what it is shown"),
    (NamesStrangers, "observe returns a list of ids out of those reported"),
    (ReturnsASet, "observe returns a list of ids out of those reported"),
]


def test_one_that_keeps_the_rule_passes():
    check_optimizer(Strict, spaces=SPACES, evaluations=40)


@pytest.mark.parametrize(("optimizer", "message"), BROKEN, ids=[b[0].__name__ for b in BROKEN])
def test_what_breaks_it_is_caught(optimizer, message):
    with pytest.raises(AssertionError, match=message):
        check_optimizer(optimizer, spaces=SPACES, evaluations=60, skip=OTHERS)
