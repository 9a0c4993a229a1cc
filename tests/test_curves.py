"""What an optimizer is shown of learning curves, whatever becomes of the messages that bring them."""

import pytest

from l2l_dask.curves import Curves
from l2l_dask.reports import Report
from l2l_dask.trajectory import Record

WHOLE = tuple((float(step), step / 10) for step in range(8))


@pytest.mark.parametrize(
    "arriving",
    [
        [(0, 2), (3, 5), (5, 6)],
        [(0, 2), (2, 5), (0, 1), (1, 4), (4, 6)],
        [(4, 6), (0, 2), (2, 4)],
    ],
    ids=["one is lost", "another attempt begins anew", "late"],
)
def test_every_point_is_shown_once_and_in_order(arriving):
    curves, shown = Curves(Record({}), {0}.__contains__), []
    for first, end in [*arriving, (0, len(WHOLE))]:  # the last is the result's
        shown += curves.new([Report(0, first, WHOLE[first:end])]).get(0, ())
    assert tuple(shown) == WHOLE
