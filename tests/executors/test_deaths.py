"""Who is blamed for the loss of a worker."""

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2l_dask.executors.deaths import Accounts, Ends, Suspects, Verdict


class Workers:
    """Workers with several slots each, as Dask, the gate of a worker and the executor use them."""

    def __init__(self, pieces, poison, slots, workers, most, choose):
        self._suspects, self._poison, self._choose = Suspects(most), poison, choose
        self._names, self._slots = [f"w{n}" for n in range(workers)], slots
        self._keys = itertools.count()
        self._futures = {}  # key: (ids, whether it is to be alone)
        self._at = {name: [] for name in self._names}  # keys in the order in which they came
        self.done, self.condemned, self.losses = [], [], 0
        for ids in pieces:
            self._submit(ids)

    def _submit(self, ids, alone=False):
        key = f"k{next(self._keys)}"
        self._futures[key] = ids, alone
        if alone:
            self._suspects.put_apart([key])

    def _share_out(self):
        placed = {key for keys in self._at.values() for key in keys}
        for key in self._futures:
            free = [name for name, keys in self._at.items() if len(keys) < self._slots]
            if key not in placed and free:
                self._at[self._choose(free)].append(key)

    def _running(self, name):
        """List what has begun: what came before one that is to be alone, or that one by itself."""
        keys = self._at[name]
        first = next((n for n, key in enumerate(keys) if self._futures[key][1]), len(keys))
        return keys[: max(first, 1)]

    def run(self):
        while self._futures:
            self._share_out()
            name, key = self._choose([(name, key) for name in self._names for key in self._running(name)])
            ids, alone = self._futures[key]
            if any(id in self._poison for id in ids):
                self._lose(name, key if alone else None)
            else:
                self.done += ids
                self._forget(key)
                self._suspects.ended(ids)

    def _forget(self, key):
        del self._futures[key]
        self._suspects.gone(key)
        for keys in self._at.values():
            if key in keys:
                keys.remove(key)

    def _lose(self, name, alone):
        self.losses += 1
        verdict = self._suspects.lost(name, {key: self._futures[key][0] for key in self._at[name]}, 0, alone)
        self._at[name] = []  # Dask gives what it held to others
        for key in verdict.condemned:
            self.condemned += self._futures[key][0]
            self._suspects.ended(self._futures[key][0])
            self._forget(key)
        for key, pieces in verdict.apart.items():
            self._forget(key)
            for ids in pieces:
                self._submit(ids, alone=True)


@st.composite
def searches(draw, most_in_a_piece=1):
    n = draw(st.integers(1, 25))
    size = draw(st.integers(1, most_in_a_piece))
    pieces = [list(range(i, min(n, i + size))) for i in range(0, n, size)]
    poison = draw(st.sets(st.integers(0, n - 1), max_size=5))
    random = draw(st.randoms(use_true_random=False))
    numbers = [draw(st.integers(1, 4)) for _ in range(2)]
    return Workers(pieces, poison, *numbers, draw(st.integers(1, 4)), random.choice), n, poison, size


@given(searches())
@settings(deadline=None, max_examples=300)
def test_each_poison_individual_is_set_aside_after_the_losses_it_may_cause_and_no_innocent_is(search):
    workers, n, poison, _ = search
    workers.run()
    assert sorted(workers.condemned) == sorted(poison)
    assert sorted(workers.done) == sorted(set(range(n)) - poison)
    assert workers.losses <= max(2, workers._suspects._most) * len(poison)


@given(searches(most_in_a_piece=8))
@settings(deadline=None, max_examples=300)
def test_a_bundle_is_halved_until_those_who_kill_in_it_are_found(search):
    workers, n, poison, size = search
    workers.run()
    assert sorted(workers.condemned) == sorted(poison)
    assert sorted(workers.done) == sorted(set(range(n)) - poison)
    assert workers.losses <= (max(2, workers._suspects._most) + math.ceil(math.log2(size))) * len(poison)


def test_one_that_is_by_itself_on_its_worker_is_set_aside_with_the_last_loss():
    suspects = Suspects(3)
    assert suspects.lost("a", {"k": [7]}, 0, None) == Verdict()
    assert suspects.lost("b", {"k": [7]}, 0, None) == Verdict({"k": [[7]]})
    suspects.put_apart(["l"])
    assert suspects.lost("c", {"l": [7]}, 0, "l") == Verdict({}, {"l": ["a", "b", "c"]})


def test_what_waits_for_one_that_is_alone_is_not_suspected():
    suspects = Suspects(2)
    suspects.put_apart(["p"])
    suspects.lost("a", {"p": [0], "n": [1]}, 0, "p")
    assert suspects.lost("b", {"n": [1], "m": [2]}, 0, None) == Verdict({"n": [[1]], "m": [[2]]})
    assert suspects.lost("c", {"p": [0]}, 0, "p") == Verdict({}, {"p": ["a", "c"]})


def test_one_that_shares_its_worker_with_another_experiment_is_not_alone():
    suspects = Suspects(1)
    assert suspects.lost("a", {"k": [0]}, 1, None) == Verdict({"k": [[0]]})
    assert suspects.lost("b", {"k": [0]}, 0, None) == Verdict({}, {"k": ["a", "b"]})


def test_an_individual_that_ended_is_suspected_no_more():
    suspects = Suspects(2)
    assert suspects.lost("a", {"k": [0], "l": [1]}, 0, None).apart
    suspects.ended([0, 1])
    assert suspects.lost("b", {"m": [0]}, 0, "m") == Verdict({"m": [[0]]})


@pytest.mark.parametrize(("lost", "over"), [(50.0, False), (94.0, False), (95.0, True), (100.0, True), (400.0, True)])
def test_a_loss_at_the_end_of_a_workers_job_is_its_time_being_over(lost, over):
    ends = Ends()
    ends.told("a", 10.0, 90.0)
    assert not ends.lost("another", lost)
    assert ends.lost("a", lost) is over
    assert not ends.lost("a", 400.0), "another worker may have its address"


def removed(worker, keys, *, expected=False):
    return {"action": "remove-worker", "worker": worker, "processing-tasks": keys, "expected": expected}


@pytest.mark.parametrize("told", [{"whole": 80.0, "left": 90.0}, {}])
@pytest.mark.parametrize("expected", [True, False])
def test_losses_by_walltime_and_those_that_dask_expected_count_for_nothing(told, expected):
    accounts = Accounts(1)
    for n in range(5):
        accounts.hear(0.0, {"worker": "a"} | told)
        verdict = accounts.lost(99.0, removed("a", {"k"}, expected=expected), {"k": [0]})
        assert verdict == (Verdict() if told or expected else Verdict({}, {"k": ["a"] * (n + 1)}))


def test_a_worker_says_which_future_it_evaluates_alone():
    accounts = Accounts(2)
    accounts.suspects.put_apart(["k"])
    accounts.hear(0.0, {"worker": "a", "alone": "k"})
    assert accounts.lost(1.0, removed("a", {"k", "l"}), {"k": [0], "l": [1]}) == Verdict()
    accounts.hear(2.0, {"worker": "b", "alone": "k"})
    assert accounts.lost(3.0, removed("b", {"k", "l"}), {"k": [0], "l": [1]}).condemned == {"k": ["a", "b"]}
