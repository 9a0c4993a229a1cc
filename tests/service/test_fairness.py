"""Slot-seconds by the record of the evaluations, over minutes."""

import time

import numpy as np
import pytest

from l2l_dask.trajectory import load

CLUSTER = """
[cluster]
profile = "local"
workers = 3
options = {cores = 3, memory = "3 GB"}
"""


def _used(store, begun, ended):
    """Sum up what an experiment's evaluations took of a span of time."""
    record = load(store).record
    began = np.clip(record["started"], begun, ended)
    return float(np.nansum(np.clip(record["finished"], begun, ended) - began))


@pytest.mark.soak
@pytest.mark.parametrize("weight", [1, 3])
def test_nine_slots_are_shared_by_weight_and_a_late_starter_has_its_share_within_half_a_minute(site, weight):
    (site.folder / "cluster.toml").write_text(CLUSTER)
    site.set_seconds(1.5)
    first = site.submit("first", evaluations=100_000)
    service = site.start("--cluster", "cluster.toml", most=3)
    site.wait_until(lambda: site.n_done("first") > 20, 90)
    second = site.submit("second", "--weight", weight, evaluations=100_000, function="other")
    late = time.time()
    site.wait_until(lambda: time.time() > late + 30 + 90, 150)
    ended = time.time() - 5  # what runs has not been recorded yet
    site.stop(service, "--now")
    a, b = (_used(store, late + 30, ended) for store in (first, second))
    assert b == pytest.approx(weight * a, rel=0.1)
    assert a + b > 0.8 * 9 * (ended - late - 30)
