"""How many individuals share a future."""

import pytest

from l2l_dask.evaluation import Candidate, Evaluation, Status
from l2l_dask.executors.sizing import Sizing


def took(seconds, n=1):
    return [Evaluation(i, Status.DONE, started=100 + i * seconds, finished=100 + (i + 1) * seconds) for i in range(n)]


def settled(seconds, batch_size=1, *, bundle=True):
    """Size with evaluations of so many seconds, long enough for the size not to change any more."""
    sizing = Sizing(batch_size, bundle=bundle)
    for _ in range(30):
        sizing.note(took(seconds, sizing.per_future))
    return sizing


def candidates(n):
    return [Candidate(i, {}, 0) for i in range(n)]


@pytest.mark.parametrize("seconds", [1e-4, 0.001, 0.01, 0.03])
def test_a_bundle_lasts_about_a_fifth_of_a_second(seconds):
    lasting = seconds * settled(seconds).per_future
    assert lasting == pytest.approx(0.2) or 0.2 / 1.25 <= lasting * (1 + 1e-9) <= 0.2  # within the slack of a quarter


@pytest.mark.parametrize(("seconds", "k"), [(0.1, 2), (0.15, 1), (10.0, 1)])
def test_long_evaluations_share_no_future(seconds, k):
    assert settled(seconds).per_future == k


def test_the_size_of_a_bundle_does_not_follow_every_small_change():
    sizing = settled(0.001)
    before = sizing.per_future
    for factor in (0.9, 1.1, 0.95, 1.05, 1.0):
        sizing.note(took(0.001 * factor, before))
        assert sizing.per_future == before


def test_a_bundle_grows_twofold_at_most_from_one_future_to_the_next():
    sizing, sizes = Sizing(1, bundle=True), []
    for _ in range(5):
        sizing.note(took(1e-4, sizing.per_future))
        sizes.append(sizing.per_future)
    assert sizes == [2, 4, 8, 16, 32]


def test_a_bundle_shrinks_when_evaluations_become_long():
    sizing = settled(0.001)
    for _ in range(30):
        sizing.note(took(0.1, sizing.per_future))
    assert sizing.per_future <= 2


def test_without_leave_a_future_holds_one_individual_however_short():
    assert settled(1e-5, bundle=False).per_future == 1


def test_a_future_holds_whole_batches():
    assert settled(10.0, batch_size=8, bundle=False).per_future == 8
    assert settled(10.0, batch_size=8).per_future == 8
    assert settled(0.003, batch_size=8).per_future % 8 == 0
    assert [len(p) for p in settled(10.0, batch_size=8).pieces(candidates(20), 4, 0)] == [8, 8, 4]


def test_long_evaluations_have_no_reserve_and_short_ones_a_deep_one():
    assert settled(10.0, bundle=False).capacity(32) == 32
    assert settled(1.0, bundle=False).capacity(32) == 33
    assert settled(1e-4, bundle=False).capacity(32) == 32 * 9


def test_bundles_have_one_more_waiting_at_each_slot():
    sizing = settled(0.001)
    assert sizing.futures(4) == 8
    assert sizing.capacity(4) == 8 * sizing.per_future


def test_few_individuals_are_shared_out_evenly_among_the_free_slots():
    sizing = settled(0.001)
    assert [len(p) for p in sizing.pieces(candidates(32), 4, 0)] == [4] * 8
    assert [len(p) for p in sizing.pieces(candidates(32), 4, 6)] == [16] * 2


def test_what_one_future_gave_back_makes_up_the_next():
    sizing = settled(0.001)
    n = sizing.per_future
    assert [len(p) for p in sizing.pieces(candidates(n), 4, 7)] == [n]


def test_pieces_lose_no_candidate_and_keep_their_order():
    pieces = settled(0.001).pieces(candidates(1001), 3, 2)
    assert [c.id for piece in pieces for c in piece] == list(range(1001))


def test_durations_that_are_not_known_or_negative_are_not_counted():
    sizing = Sizing(1, bundle=True)
    sizing.note([Evaluation(0, Status.CRASHED)])
    sizing.note([Evaluation(0, Status.DONE, started=5.0, finished=1.0)])
    assert (sizing.per_future, sizing.capacity(3)) == (1, 3)
