"""Dominance, crowding and hypervolume by their definitions, and by counting."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizers._pareto import Ranking, best, contributions, crowding, hypervolume, non_dominated_ranks

# Few values, so that equals and duplicates are frequent.
CLOUDS = st.integers(1, 4).flatmap(
    lambda m: st.lists(st.tuples(*[st.integers(0, 5)] * m), min_size=1, max_size=20).map(
        lambda rows: np.array(rows, dtype=float)
    )
)
PAIRS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=12).map(
    lambda rows: np.array(rows, dtype=float)
)


def dominates(a, b):
    return all(a <= b) and any(a < b)


def peeled(costs):
    """Return the ranks by the definition: take away what nothing dominates, again and again."""
    ranks, left, rank = np.full(len(costs), -1), set(range(len(costs))), 0
    while left:
        front = {i for i in left if not any(dominates(costs[j], costs[i]) for j in left)}
        ranks[list(front)] = rank
        left, rank = left - front, rank + 1
    return ranks


def counted(costs, reference):
    """Return the hypervolume of integer points: the number of unit squares that some point dominates."""
    squares = itertools.product(range(int(reference[0])), range(int(reference[1])))
    return sum(any((point <= square).all() for point in costs) for square in map(np.array, squares))


@settings(max_examples=60, deadline=None)
@given(CLOUDS)
def test_ranks_are_those_of_peeling_front_by_front(costs):
    assert non_dominated_ranks(costs).tolist() == peeled(costs).tolist()


@settings(max_examples=80, deadline=None)
@given(CLOUDS, st.integers(1, 8))
def test_a_ranking_kept_up_to_date_equals_one_made_anew(costs, size):
    ranking = Ranking(size, costs.shape[1], crowding)
    for cost in costs:
        slot = ranking.add(cost)
        assert ranking.costs[slot].tolist() == cost.tolist()
        slots = ranking.slots
        assert ranking.ranks[slots].tolist() == peeled(ranking.costs[slots]).tolist()
        if len(ranking) <= size:
            continue
        last = ranking.front(ranking.ranks.max())
        worst = crowding(ranking.costs[last]).min()
        before = {s: ranking.density(s) for s in last.tolist()}
        gone = ranking.evict()
        assert gone in last.tolist()
        assert before[gone] == worst
        assert len(ranking) == size
        slots = ranking.slots
        assert ranking.ranks[slots].tolist() == peeled(ranking.costs[slots]).tolist()


def test_of_the_same_density_the_oldest_goes():
    # Of equals all but the first and the last slot have crowding 0; the newcomer takes the slot that was freed.
    ranking = Ranking(4, 2, crowding)
    slots = [ranking.add(np.array([1.0, 1.0])) for _ in range(4)]
    spare = ranking.add(np.array([1.0, 1.0]))
    assert spare not in slots
    gone = []
    for _ in range(6):
        gone.append(ranking.evict())
        assert ranking.add(np.array([1.0, 1.0])) == gone[-1]
    assert gone == slots[1:] * 2


def test_a_filled_ranking_has_the_ranks_of_its_members_and_takes_more():
    costs = np.array([[1.0, 1.0], [2.0, 2.0], [0.0, 3.0]])
    ranking = Ranking(5, 2, crowding)
    ranking.add(np.array([9.0, 9.0]))
    ranking.fill(costs)
    assert ranking.slots.tolist() == [0, 1, 2]
    assert ranking.ranks[:3].tolist() == [0, 1, 0]
    ranking.add(np.array([1.5, 1.5]))
    assert ranking.ranks[:4].tolist() == [0, 2, 0, 1]


def test_crowding_is_half_the_perimeter_of_the_cuboid_between_the_neighbours():
    # Deb et al., section III-B, figure 1: sides over each objective's range, the ends infinite.
    costs = np.array([[0.0, 10.0], [4.0, 2.0], [1.0, 6.0], [8.0, 0.0]])
    assert crowding(costs).tolist() == [
        np.inf,
        pytest.approx((8 - 1) / 8 + (6 - 0) / 10),
        pytest.approx((4 - 0) / 8 + (10 - 2) / 10),
        np.inf,
    ]


def test_a_front_of_one_or_two_or_of_equals_has_crowding_too():
    assert crowding(np.array([[1.0, 2.0]])).tolist() == [np.inf]
    assert crowding(np.array([[1.0, 2.0], [2.0, 1.0]])).tolist() == [np.inf] * 2
    assert crowding(np.ones((4, 2))).tolist() == [np.inf, 0.0, 0.0, np.inf]


def test_hypervolume_contributions_are_the_rectangles_that_nobody_else_covers():
    # Between (1, 6) and (8, 0): (4, 2) alone covers (8 - 4) x (6 - 2); between (0, 10) and (4, 2): (4 - 1) x (10 - 6).
    costs = np.array([[0.0, 10.0], [4.0, 2.0], [1.0, 6.0], [8.0, 0.0]])
    assert contributions(costs).tolist() == [np.inf, 16.0, 12.0, np.inf]
    # The rectangle between the neighbours of a duplicate is empty.
    assert contributions(costs[[0, 1, 1, 3]]).tolist().count(0.0) == 2


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_hypervolume_counts_the_squares_that_are_dominated(costs):
    reference = np.array([7.0, 7.0])
    assert hypervolume(costs, reference) == counted(costs, reference)
    assert hypervolume(costs, np.array([4.0, 5.0])) == counted(costs, np.array([4.0, 5.0]))


@settings(max_examples=60, deadline=None)
@given(PAIRS)
def test_an_inner_contribution_is_the_hypervolume_lost_without_it(costs):
    front = np.unique(costs[non_dominated_ranks(costs) == 0], axis=0)
    reference = np.array([7.0, 7.0])
    for i, alone in enumerate(contributions(front).tolist()):
        lost = hypervolume(front, reference) - hypervolume(np.delete(front, i, axis=0), reference)
        assert alone == (lost if 0 < i < len(front) - 1 else np.inf)


def test_hypervolume_equals_pymoos():
    indicator = pytest.importorskip("pymoo.indicators.hv").HV(ref_point=np.array([1.0, 1.0]))
    costs = np.random.default_rng(1).random((50, 2))
    assert hypervolume(costs, np.array([1.0, 1.0])) == pytest.approx(indicator(costs))


@pytest.mark.parametrize("repeatedly", [True, False])
def test_the_best_are_whole_fronts_and_the_sparsest_of_the_last(repeatedly):
    front = np.array([[0.0, 10.0], [4.0, 2.0], [1.0, 6.0], [8.0, 0.0]])
    costs = np.concatenate((front + 10, front, front + 20))
    assert sorted(best(costs, 4, crowding, repeatedly=repeatedly)) == [4, 5, 6, 7]
    # Crowding of front + 10: its second has 1.475, its third 1.3.
    assert sorted(best(costs, 7, crowding, repeatedly=repeatedly)) == [0, 1, 3, 4, 5, 6, 7]
    assert sorted(best(costs, 99, crowding, repeatedly=repeatedly)) == list(range(12))


def test_hypervolume_contributions_are_computed_anew_when_one_has_gone():
    costs = np.array([[0.0, 6.0], [1.0, 5.0], [1.1, 4.9], [2.0, 4.6], [3.5, 1.0], [9.0, 0.0]])
    alone = [0.1 * 1, 0.9 * 0.1, 1.5 * 0.3, 5.5 * 3.6]
    assert contributions(costs)[1:-1] == pytest.approx(alone)
    assert sorted(best(costs, 4, contributions)) == [0, 3, 4, 5]
    # Without the third, the second's is 1 x 1 and the fourth's 1.5 x 0.4.
    assert sorted(best(costs, 4, contributions, repeatedly=True)) == [0, 1, 4, 5]
