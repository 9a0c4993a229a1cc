"""Which bounds are found in the bounding_func of an optimizee of the original L2L, and which are not."""

import random

import numpy as np
import pytest

from l2l_dask import Integer, Real
from optimizees import from_l2l


class Bounded:
    """Entries between 0 and 10, bounded as a test says."""

    def __init__(self, bounding, create=lambda: {"decay": random.uniform(0, 10), "rise": random.uniform(0, 1)}):
        self.create_individual, self.bounding_func = create, bounding

    def simulate(self, traj):
        return 0.0


def _up_to_the_other(individual):
    decay = np.clip(individual["decay"], 0, 10)
    return {"decay": decay, "rise": np.clip(individual["rise"], 0, decay)}


def _ordered(individual):
    rise, decay = sorted(np.clip([individual["rise"], individual["decay"]], 0, 10))
    return {"decay": decay, "rise": rise}


@pytest.mark.parametrize(
    ("bounding", "decay", "untold"),
    [(_up_to_the_other, Real(0, 10), "rise"), (_ordered, None, "decay, rise")],
)
@pytest.mark.parametrize("constant", [False, True])
def test_a_limit_that_another_entry_sets_is_none_and_a_note_names_what_has_none(
    bounding, decay, untold, constant, caplog
):
    create = {"create": lambda: {"decay": 7.5, "rise": 0.5}} if constant else {}
    space = from_l2l(Bounded(bounding, **create)).space
    assert space["rise"].low is None
    assert space["decay"] == decay or (decay is None and space["decay"].low is None)
    (note,) = caplog.messages
    assert f"no bounds of {untold}, which" in note
    assert f"give bounds={{'{untold.split(',')[0]}': (low, high)}}" in note
    assert from_l2l(Bounded(bounding), bounds={"rise": (0, 10), "decay": (0, 10)}).space["rise"] == Real(0, 10)
    assert len(caplog.messages) == 1


def test_one_that_raises_where_others_are_far_too_large_tells_nothing_about_this_one():
    def bounding(individual):
        if abs(individual["decay"]) > 100:
            raise ValueError("no such decay")
        return {"decay": individual["decay"], "rise": np.clip(individual["rise"], 0, 1)}

    assert from_l2l(Bounded(bounding)).space["rise"] == Real(0, 1)


@pytest.mark.parametrize(
    ("rounded", "expected"),
    [
        (lambda x: round(float(np.clip(x, 0, 1)), 3), Real(0, 1)),
        (lambda x: round(float(np.clip(x, 0, 1)), 2), Real(0, 1)),
        (lambda x: np.float32(np.clip(np.float32(x), 0, 1)), Real(0, 1)),
        (lambda x: np.float16(np.clip(x, -3, 100)), Real(-3, 100)),
        (lambda x: float(np.round(np.clip(x, 0, 5000))), Integer(0, 5000)),
        (lambda x: 1.05 * np.clip(x, 0, 1) if 0 < x < 1 else np.clip(x, 0, 1), None),
    ],
)
def test_bounds_are_found_however_coarse_the_numbers_between_them_are(rounded, expected, caplog):
    bounding = lambda individual: {"x": rounded(individual["x"])}  # noqa: E731
    found = from_l2l(Bounded(bounding, lambda: {"x": random.uniform(0, 1)})).space["x"]
    assert found == expected or (expected is None and found.low is None)
    assert bool(caplog.messages) == (expected is None)
