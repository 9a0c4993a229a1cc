"""A service from a notebook: submit, leave, come back from another process, find the same experiments."""

import json
import os

import pytest

from l2l_dask import Experiment, Real, Space, connect, minimize
from l2l_dask.errors import ClusterError, ConfigError, StoreError
from l2l_dask.service import entries, place
from l2l_dask.service.client import Service
from l2l_dask.trajectory import load

BEGIN = """
import os, time, l2l_dask
from l2l_dask import Experiment, Real, Space, minimize

GO = os.path.abspath("go")

def f(params):
    time.sleep(0.05 if os.path.exists(GO) else 1.0)
    return params["x"]

with l2l_dask.connect("S") as service:
    experiment = Experiment(f, "random", store="any.zarr", evaluations=60, space=Space({"x": Real(0, 1)}),
                            objectives=minimize("f"))
    handle = service.submit(experiment, name="mine", weight=2)
    assert service.client.submit(int, "7").result(60) == 7
    print(handle)
"""
RETURN = """
import l2l_dask
service = l2l_dask.connect("S")
mine = service.experiments["mine"]
mine.pause()
while mine.state != "paused": pass
assert mine.progress["done"] < 60
open("go", "w").close()
mine.unpause()
found = mine.wait(60)
print(found.state, len(found), mine.best.fitness["f"] < 0.2, list(service.experiments), mine.show())
"""


def test_whoever_comes_back_finds_the_same_experiment(site):
    service = site.start("--min", "1")
    begun = site.python("-c", BEGIN)
    assert begun.stdout.startswith("<mine: "), begun.stderr
    back = site.python("-c", RETURN)
    assert back.stdout.startswith("finished 60 True ['mine'] mine: finished, 60 of 60 evaluations"), back.stderr
    assert site.status()["experiments"]["mine"]["weight"] == 2
    site.stop(service)
    with connect(site.root) as ended:
        assert ended.experiments["mine"].result.state == "finished"
        with pytest.raises(ClusterError, match="has ended"):
            ended.client


def _experiment(folder, **options):
    space = Space({"x": Real(0, 1)})
    settings = {"store": folder / "e.zarr", "evaluations": 5, "space": space, "objectives": minimize("f")}
    return Experiment(lambda params: params["x"], "random", **settings | options)


def test_an_experiment_can_be_queued_withdrawn_and_weighed_while_no_service_runs(tmp_path):
    service = Service(tmp_path / "S")
    queued = service.submit(_experiment(tmp_path))
    assert (queued.state, queued.weight, list(service.experiments)) == ("queued", 1.0, ["e"])
    queued.weight = 3
    queued.pause()
    assert (entries.read(queued.store).weight, entries.read(queued.store).paused) == (3.0, True)
    with pytest.raises(ClusterError, match="l2l service start"):
        queued.wait(1)
    queued.stop()
    assert list(service.experiments) == []
    assert load(queued.store).state == "queued"
    assert list(Service(tmp_path / "S").experiments) == []
    service.submit_again(queued.store)
    assert list(service.experiments) == ["e"]


def test_what_makes_no_sense_is_refused_before_anything_is_written(tmp_path):
    service = Service(tmp_path / "S")
    for name, weight, problem in (("a/b", 1, "name"), (".a", 1, "name"), ("a", 0, "weight"), ("a", -1, "weight")):
        with pytest.raises(ConfigError, match=problem):
            service.submit(_experiment(tmp_path), name=name, weight=weight)
    assert not (tmp_path / "S").exists()
    service.submit(_experiment(tmp_path))
    with pytest.raises(StoreError, match="exists"):
        service.submit(_experiment(tmp_path))
    with pytest.raises(KeyError, match="there are e"):
        service.experiments["f"]
    with pytest.raises(StoreError, match="move it there"):
        Service(tmp_path / "T").submit_again(tmp_path / "S" / "e.zarr")
    with pytest.raises(ClusterError, match="no service was ever started"):
        connect(tmp_path)


def test_one_line_says_what_to_do_where_there_is_no_service(site):
    for words in (("status", "S"), ("stop", "S")):
        refused = site.l2l("service", *words)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
        assert "`l2l service start" in refused.stderr
    submitted = site.l2l("service", "submit", "S", site.write("a"), "--name", "a", "--json")
    assert json.loads(submitted.stdout)["service"] == "none"
    for words in (("--min", "3", "--max", "2"), ("--cluster", "sulrm"), ("--cluster", "none.toml")):
        refused = site.l2l("service", "start", "S", *words)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr


def test_a_service_whose_machine_is_gone_is_told_from_one_that_lives(tmp_path):
    at = place.Place(tmp_path)
    at.make()
    place.write(at.settings, {"system": "local", "options": {"cores": 1, "memory": "1 GB"}})
    lost = {"state": "running", "job": "", "machine": "another", "pid": 1, "started": 0.0, "host": "n7", "epoch": 1}
    place.write(at.state, lost)
    assert Service(tmp_path).standing().condition == "running"  # it has just said so
    old = at.state.stat().st_mtime - 1000
    os.utime(at.state, (old, old))
    service = Service(tmp_path)
    assert service.standing().condition == "lost"
    with pytest.raises(ClusterError, match="is gone"):
        service.client
    place.write(at.connection(1), {"address": "tcp://127.0.0.1:9", "tls": "", "host": "n7", "job": "12"})
    with pytest.raises(ClusterError, match=r"no scheduler answers.*is gone.*l2l service start"):
        service.client


def test_a_folder_that_is_not_ours_alone_is_made_so_and_files_that_others_wrote_are_refused(tmp_path, monkeypatch):
    at = place.Place(tmp_path / "S")
    (tmp_path / "S" / ".l2l-service").mkdir(parents=True)
    at.private.chmod(0o777)
    at.make()
    assert at.private.stat().st_mode & 0o777 == 0o700
    place.write(at.state, {"state": "ended"})
    at.state.chmod(0o640)
    with pytest.raises(ClusterError, match="by others"):
        place.read(at.state)
    at.state.chmod(0o600)
    monkeypatch.setattr("os.geteuid", lambda: 12345)
    with pytest.raises(ClusterError, match="another user"):
        place.read(at.state)
    link = at.private / "connection-000001.json"
    link.symlink_to(at.state)
    with pytest.raises(ClusterError, match="cannot be read"):
        place.read(link)


def test_the_command_line_pauses_and_withdraws_what_waits_for_a_driver(site):
    store = site.submit("a")
    assert "paused once its service drives it" in site.l2l("pause", store).stderr
    assert entries.read(store).paused
    assert site.l2l("unpause", store).returncode == 0
    assert not entries.read(store).paused
    assert "out of the queue" in site.l2l("stop", store).stderr
    assert not list(Service(site.root).experiments)
    assert site.l2l("stop", store).returncode == 2
