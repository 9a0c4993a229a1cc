"""When a worker that lives in a batch job may begin an evaluation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2l_dask.walltime import LEAVING, Life, job_end

LIFE = Life(begin=1000.0, ready=1010.0, end=2015.0)  # 1000 s for the first evaluation, which leave 5 s to go


@pytest.mark.parametrize(
    ("needs", "now", "may"),
    [
        (0.0, 1010.0, True),
        (0.0, 2009.0, True),
        (0.0, 2010.0, False),  # it goes itself now
        (500.0, 1510.0, True),
        (500.0, 1511.0, False),
        (1000.0, 1010.0, True),
        (1000.0, 1011.0, True),  # as good as any
        (5000.0, 1010.0, True),  # no worker could
        (5000.0, 1110.0, True),
        (5000.0, 1111.0, False),
        (5000.0, 3000.0, False),
    ],
)
def test_an_evaluation_begins_where_it_can_end_and_one_that_can_nowhere_on_a_fresh_worker(needs, now, may):
    assert LIFE.may_begin(needs, now) is may


def test_a_worker_that_its_nanny_started_late_in_the_job_is_not_fresh():
    late = Life(begin=1000.0, ready=1600.0, end=2000.0)
    assert not late.fresh(1600.0)
    assert not late.may_begin(1000.0, 1600.0)
    assert late.may_begin(300.0, 1600.0)


@given(
    st.floats(0, 1e5),
    st.floats(0, 0.49),
    st.floats(LEAVING + 1, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
)
def test_one_that_a_fresh_worker_refuses_is_begun_by_none_and_no_other_begins_what_it_cannot_end(
    begin, startup, span, needs, passed
):
    life = Life(begin, begin + startup * span, begin + span)
    now = life.ready + passed
    if life.whole > 0:
        assert life.may_begin(needs, life.ready), "else it would wait for ever"
    if life.may_begin(needs, now) and not life.fresh(now):
        assert now + needs <= life.end - LEAVING + 1e-6


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("1700000000", 1.7e9),
        ("1700000000.5", 1700000000.5),
        ("", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("0", None),
    ],
)
def test_the_end_is_read_from_the_environment_and_what_is_no_time_is_none(text, end):
    assert job_end({"L2L_JOB_END": text}) == end
    assert job_end({}) is None
