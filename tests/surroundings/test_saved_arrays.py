"""Large arrays from many workers at once: into a folder that they share, or through the driver."""

import json
import shutil

import numpy as np
import pytest

from l2l_dask import load

N, IN_FLIGHT = 40, 8  # four slots, and as many in reserve
MB = 2**20
SOAK = [pytest.mark.soak, pytest.mark.timeout(600)]
DRIVER = """
import json, sys, time
from pathlib import Path
import distributed
import numpy as np
import l2l_dask.executors.dask, l2l_dask.trajectory
from l2l_dask import Experiment, Real, Space, minimize

store, address, gate = sys.argv[1:4]
size = int(sys.argv[4])

def fitness(params, context):
    (Path(gate) / str(context.id)).touch()
    until = time.monotonic() + 60
    while len(list(Path(gate).iterdir())) < 4:  # they all save at once
        assert time.monotonic() < until
        time.sleep(0.01)
    time.sleep(0.3)  # shorter ones have a larger reserve
    context.save("trace", np.arange(size // 8, dtype="u8") * (context.id + 1))
    context.save("number", [context.id])
    context.report(0, context.id)
    return params["x"]

def peak():
    status = Path("/proc/self/status").read_text()  # not getrusage, which remembers what forked us
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024

before = peak()
space = Space({"x": Real(0, 1)})
search = Experiment(fitness, "random", space=space, objectives=minimize("f"), store=store, cluster=address,
                    evaluations=int(sys.argv[5]), timeout=120)
ended = search.run()
print(json.dumps({"state": ended.state, "grown": peak() - before}))
"""


@pytest.fixture
def gate(elsewhere, request):
    """A folder that the workers share with this process, and with no other test."""
    folder = elsewhere.folder / f"gate-{request.node.name}"
    folder.mkdir()
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("way", ["shared", "through the driver"])
@pytest.mark.parametrize("size", [20 * MB, pytest.param(100 * MB, marks=SOAK)], ids=["20 MB", "100 MB"])
def test_arrays_that_four_workers_save_at_once_arrive_whole(elsewhere, gate, call, tmp_path, way, size):
    here = gate.parent / f"{gate.name}.zarr" if way == "shared" else tmp_path / "a.zarr"
    try:
        done = call("python", "-c", DRIVER, here, elsewhere.address, gate, size, N, timeout=500)
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert said["state"] == "finished"
        ended = load(here)
        assert ended.counts()["done"] == len(ended) == N
        for id in range(N):
            saved = ended.saved(id)
            assert sorted(saved) == ["learning_curve", "number", "trace"]
            assert saved["number"].tolist() == [id]
            assert saved["learning_curve"].tolist() == [[0, id]]
            assert np.array_equal(saved["trace"], np.arange(size // 8, dtype="u8") * (id + 1))
        if way == "shared":
            assert said["grown"] < 20 * MB, "nothing went through the driver"
        else:
            assert said["grown"] < 3 * IN_FLIGHT * size < N * size, "those in flight, with Dask's copies of them"
    finally:
        shutil.rmtree(here, ignore_errors=True)
