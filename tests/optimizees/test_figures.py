"""What the figures of the simulations share."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

FIGURES = Path(__file__).parents[2] / "benchmarks" / "figures"


@pytest.fixture
def common(monkeypatch):
    monkeypatch.syspath_prepend(str(FIGURES))
    import _common

    yield _common
    del sys.modules["_common"]


def test_the_middle_duel_is_that_of_the_median_search(common):
    found = [
        common.Duel(seed, SimpleNamespace(best=SimpleNamespace(fitness={"f": fitness, "g": -fitness})), None)
        for seed, fitness in ((1, 0.5), (2, 3.0), (3, 0.1))
    ]
    assert common.middle(found).seed == 1
