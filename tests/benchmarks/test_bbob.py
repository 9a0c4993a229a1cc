"""What the benchmark of search quality counts."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bbob():
    pytest.importorskip("cocoex")
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import bbob
    finally:
        sys.path.remove(str(BENCHMARKS))
    return bbob


class Notes:
    """An objective whose value is x itself, and which keeps the order of completion."""

    def __init__(self) -> None:
        self.noted, self.times = [], []

    def value(self, x):
        return x

    def note(self, value, now):
        self.noted.append(value)
        self.times.append(now)


class Counting:
    """Asks 0, 1, 2, ...; in generations of ``size`` if there is one."""

    def __init__(self, size: int | None = None) -> None:
        self.size, self.asked, self.told, self.most = size, 0, 0, 0

    def ask(self):
        if self.size and self.asked == self.told + self.size - self.told % self.size:
            return None
        self.asked += 1
        self.most = max(self.most, self.asked - self.told)
        return "token", self.asked - 1

    def tell(self, token, x, cost):
        assert token == "token"
        self.told += 1


def test_targets_are_hit_at_the_evaluation_that_reaches_them(bbob: ModuleType) -> None:
    objective = bbob.Objective(bbob.Cell(True, "x", 2, 1, 1, 1, 1))
    for gap in (1e3, 50.0, 60.0, 1e-9):
        objective.note(objective._optimum + gap)
    # Targets are 10^(2 - k/5): of these, 100 and 63.1 are at least 50, and all are at least 1e-9.
    assert objective.hits == [2, 2] + [4] * 49


def test_the_sphere_of_coco_has_its_optimum_at_the_target_of_zero(bbob: ModuleType) -> None:
    from optimizees.bbob import BBOB

    objective = bbob.Objective(bbob.Cell(True, "x", 5, 1, 1, 2, 1))
    x = BBOB(1, 5, 2).x_opt
    objective.note(objective.value(x + np.array([0.1, 0, 0, 0, 0])))  # the sphere: 0.01 above
    assert objective.gap == pytest.approx(0.01, rel=1e-9)
    assert len(objective.hits) == 21  # 10^2, 10^1.8, ..., 10^-2


def test_one_slot_completes_in_the_order_of_asking(bbob: ModuleType) -> None:
    notes = Notes()
    assert bbob.drive(Counting(), notes, 50, 1, np.random.default_rng(1)) == pytest.approx(1.0)
    assert notes.noted == list(range(50))


def test_thirty_two_slots_complete_by_their_durations(bbob: ModuleType) -> None:
    peer, notes = Counting(), Notes()
    busy = bbob.drive(peer, notes, 200, 32, np.random.default_rng(1))
    lasts = np.random.default_rng(1).lognormal(-0.5, 1.0, 200)
    assert peer.most == 32
    assert sorted(notes.noted) == list(range(200))
    assert notes.noted[0] == int(np.argmin(lasts[:32]))
    assert busy == pytest.approx(1.0)  # no slot waits until the last evaluation begins


def test_a_generation_of_the_budget_leaves_slots_idle(bbob: ModuleType) -> None:
    peer, notes = Counting(32), Notes()
    busy = bbob.drive(peer, notes, 64, 32, np.random.default_rng(1))
    lasts = np.random.default_rng(1).lognormal(-0.5, 1.0, 64)
    assert set(notes.noted[:32]) == set(range(32))
    # In units of the time in which 32 slots that never idle do all 64.
    assert notes.times[31] == pytest.approx(lasts[:32].max() * 32 / lasts.sum())
    # The second generation begins when the longest of the first is over.
    assert busy == pytest.approx(lasts[:32].sum() / (32 * lasts[:32].max()))


def test_the_budget_is_never_exceeded_and_ends_with_what_is_in_flight(bbob: ModuleType) -> None:
    peer = Counting()
    bbob.drive(peer, Notes(), 40, 32, np.random.default_rng(1))
    assert peer.asked == peer.told == 40


def test_a_search_is_the_same_twice(bbob: ModuleType) -> None:
    rows = [bbob.search(bbob.Cell(True, "steady-state-ga", 2, 32, 8, 3, 1)) for _ in range(2)]
    for row in rows:
        del row["seconds"]
    assert rows[0] == rows[1]
    assert rows[0]["evaluations"] == 200


def test_options_belong_to_the_name_before_them(bbob: ModuleType) -> None:
    assert bbob.listed("a,b:x=1,y=true,c") == ["a", "b:x=1,y=true", "c"]
    assert bbob.parsed("b:x=1,y=true,z=word") == ("b", {"x": 1, "y": True, "z": "word"})
