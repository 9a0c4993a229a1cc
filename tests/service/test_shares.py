"""Slots are divided by weight, and what one does not want goes to the others."""

import itertools
from collections import Counter, deque
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask.service.shares import Claim, Ledger, due, quotas

CLAIMS = st.dictionaries(
    st.text("abcdef", min_size=1, max_size=3),
    st.builds(
        Claim,
        weight=st.floats(0.01, 100),
        wanted=st.integers(0, 50),
        cost=st.sampled_from([1.0, 1.0, 2.0, 4.0]),
        behind=st.floats(-100, 100),
    ),
    max_size=8,
)
SLOTS = st.integers(0, 64)


@given(CLAIMS, SLOTS)
def test_no_more_is_granted_than_there_is_or_than_anyone_wants(claims, slots):
    granted = quotas(claims, slots)
    assert granted.keys() == claims.keys()
    assert sum(n * claims[name].cost for name, n in granted.items()) <= slots + 1e-6
    assert all(0 <= n <= claims[name].wanted for name, n in granted.items())


@given(CLAIMS, SLOTS)
def test_no_slot_is_idle_that_somebody_could_use(claims, slots):
    granted = quotas(claims, slots)
    left = slots - sum(n * claims[name].cost for name, n in granted.items())
    assert all(claim.cost > left - 1e-6 for name, claim in claims.items() if granted[name] < claim.wanted)


@given(CLAIMS, SLOTS)
def test_everyone_who_is_not_behind_or_ahead_gets_its_due_to_less_than_an_evaluation(claims, slots):
    claims = {name: replace(claim, behind=0.0) for name, claim in claims.items()}
    shares, granted = due(claims, slots), quotas(claims, slots)
    assert all(granted[name] * claim.cost > shares[name] - claim.cost - 1e-6 for name, claim in claims.items())


@given(CLAIMS, SLOTS)
def test_who_gets_less_than_it_wants_gets_by_weight(claims, slots):
    shares = due(claims, slots)
    short = [name for name, c in claims.items() if shares[name] < c.wanted * c.cost - 1e-6]
    for one, other in itertools.combinations(short, 2):
        a, b = shares[one] / claims[one].weight, shares[other] / claims[other].weight
        assert a == pytest.approx(b, rel=1e-6, abs=1e-9)
    for name in claims.keys() - set(short):
        level = max((shares[s] / claims[s].weight for s in short), default=None)
        assert level is None or shares[name] / claims[name].weight <= level * (1 + 1e-6) + 1e-9


def test_who_is_behind_gets_the_odd_slot():
    a, b = Claim(1, 10, behind=0.5), Claim(1, 10, behind=-0.5)
    assert quotas({"a": a, "b": b}, 3) == {"a": 2, "b": 1}
    assert quotas({"a": b, "b": a}, 3) == {"a": 1, "b": 2}


class Cluster:
    """Slots that are used as drivers and a scheduler do: evaluations that run are let end, first come, first served."""

    def __init__(self, slots, seconds, weights=None, starts=(), seed=1):
        self.slots, self.seconds, self.random = slots, seconds, Random(seed)
        self.weights = weights or dict.fromkeys(seconds, 1.0)
        self.starts = dict.fromkeys(seconds, 0.0) | dict(starts)
        self.queue, self.running, self.now = deque(), [], 0.0
        self.in_flight = dict.fromkeys(seconds, 0)
        self.ledger, self.truly_used = Ledger(), dict.fromkeys(seconds, 0.0)

    def run(self, until):
        while self.now < until:
            there = [name for name in self.seconds if self.now >= self.starts[name]]
            claims = {n: Claim(self.weights[n], 1000, behind=self.ledger.behind(n)) for n in there}
            running = Counter(name for _, name in self.running)
            tick = self.random.uniform(0.1, 0.4)
            self.ledger.enter(claims, self.slots, running, tick)  # as seen now and then
            self._advance(self.now + tick, quotas(claims, self.slots))
        return self

    def _advance(self, until, granted):
        while True:
            for name, quota in granted.items():
                while self.in_flight[name] < quota:
                    self.in_flight[name] += 1
                    self.queue.append(name)
            while self.queue and len(self.running) < self.slots:
                name = self.queue.popleft()
                self.running.append((self.now + self.seconds[name], name))
            self.running.sort()
            end = min([until, *(end for end, _ in self.running[:1])])
            for _, name in self.running:
                self.truly_used[name] += end - self.now
            self.now = end
            if end >= until:
                return
            _, name = self.running.pop(0)
            self.in_flight[name] -= 1


@settings(deadline=None, max_examples=15)
@given(
    st.integers(1, 9),
    st.lists(st.sampled_from([0.3, 1.0, 3.0, 7.0]), min_size=2, max_size=4),
    st.lists(st.sampled_from([1.0, 2.0, 3.0]), min_size=4, max_size=4),
)
def test_slot_seconds_come_out_by_weight_within_a_tenth_whatever_evaluations_take(slots, seconds, weights):
    names = dict(zip("abcd", seconds, strict=False))
    cluster = Cluster(slots, names, dict(zip(names, weights, strict=False)))
    cluster.run(300)
    total, weight = sum(cluster.truly_used.values()), sum(cluster.weights.values())
    for name, used in cluster.truly_used.items():
        assert used / total == pytest.approx(cluster.weights[name] / weight, rel=0.1), cluster.truly_used


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 9), st.sampled_from([0.3, 3.0, 20.0]), st.sampled_from([0.3, 3.0, 20.0]))
def test_one_that_starts_later_has_its_share_as_soon_as_evaluations_end(slots, first, second):
    cluster = Cluster(slots, {"first": first, "second": second}, starts={"second": 50.0})
    cluster.run(50 + max(first, 1.0) + 1)
    assert cluster.in_flight["second"] >= slots // 2
    before = dict(cluster.truly_used)
    cluster.run(cluster.now + 300)
    gained = {name: cluster.truly_used[name] - before[name] for name in before}
    assert gained["second"] == pytest.approx(gained["first"], rel=0.1)
