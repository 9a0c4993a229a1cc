"""Evaluations side by side, or one by itself."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

from l2l_dask.gate import Gate, Places


def test_many_are_inside_at_once_and_one_that_is_alone_with_nobody():
    gate, lock, inside, seen = Gate(), threading.Lock(), [], []

    def pass_through(n):
        alone = n % 5 == 0
        assert gate.enter(alone=alone)
        with lock:
            inside.append(n)
            seen.append((alone, tuple(inside)))
        time.sleep(0.005)
        with lock:
            inside.remove(n)
        gate.leave()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(pass_through, range(60)))
    assert all(len(others) == 1 for alone, others in seen if alone)
    assert not any(n % 5 == 0 for alone, others in seen if not alone for n in others)
    assert max(len(others) for _, others in seen) > 2


def test_one_that_waits_to_be_alone_is_not_overtaken_for_ever():
    gate, order = Gate(), []
    gate.enter()

    def enter(name, alone):
        gate.enter(alone=alone)
        order.append(name)
        gate.leave()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(enter, "alone", True)
        while not gate._waiting:
            time.sleep(0.01)
        pool.submit(enter, "later", False)
        time.sleep(0.05)
        assert order == []
        gate.leave()
    assert order == ["alone", "later"]


def test_once_it_is_closed_nobody_enters_and_who_waits_is_sent_away():
    gate = Gate()
    gate.enter()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(gate.enter, alone=True)
        time.sleep(0.05)
        assert not waits.done()
        gate.close()
        assert waits.result(60) is False
    assert gate.enter() is False
    gate.leave()


def test_of_several_places_the_least_used_is_taken_and_of_those_the_first():
    places, choices = Places(), {0: ["0"], 1: ["1"], 2: ["0", "1"]}
    assert [places.take(choices) for _ in range(3)] == [0, 1, 0]
    assert places.take({1: ["1"], 2: ["0", "1"]}) == 1
    places.leave(["0"])
    places.leave(["0"])
    assert places.take(choices) == 0
    assert places.take({3: []}) == 3
