"""A service on this machine: experiments are brought to their ends, whatever happens to processes meanwhile."""

import os
import signal
import stat
from contextlib import suppress

import pytest

from l2l_dask.service import entries
from l2l_dask.service.place import read
from l2l_dask.trajectory import load


def test_a_killed_driver_and_a_killed_service_lose_nothing_that_was_told(site, alive):
    site.set_seconds(0.3)
    site.submit("a", evaluations=120)
    service = site.start()
    site.submit("b", evaluations=40)
    site.wait_until(lambda: site.n_done("a") > 10 and site.n_done("b") > 5)

    os.kill(site.driver("a"), signal.SIGKILL)
    told = site.told
    site.wait_until(lambda: len(site.told) > len(told) + 15)
    service.send_signal(signal.SIGKILL)
    service.wait()
    left = [p for p in site.processes() if alive(p.pid)]
    site.wait_until(lambda: not any(alive(p.pid) for p in left), 120)  # Dask's death-timeout is 60 s
    done = site.n_done("a"), site.n_done("b")
    assert max(done) > 10

    site.set_seconds(0.05)
    service = site.start()
    site.wait_until(lambda: site.finished("a", "b"), 120)
    for name, n in (("a", 120), ("b", 40)):
        found = load(site.root / f"{name}.zarr")
        assert found.counts()["done"] == len(found) == n
    status = site.status()
    assert status["experiments"]["a"]["problem"] == ""
    site.stop(service)


def test_stop_leaves_no_process_and_nothing_but_the_stores_and_says_what_remains(site, alive):
    site.set_seconds(0.3)
    site.submit("a", evaluations=1000)
    service = site.start()
    site.wait_until(lambda: site.n_done("a") > 2)
    before = site.processes()
    assert len(before) > 3

    done = site.stop(service)
    assert "unfinished: a" in done.stderr
    assert load(site.root / "a.zarr").state == "interrupted"
    assert site.n_done("a") == site.n_begun  # what ran was let end
    site.wait_until(lambda: not any(alive(p.pid) for p in before))
    assert {path.name for path in site.root.iterdir()} == {"a.zarr", ".l2l-service"}
    kept = {path.name for path in site.place.private.iterdir()}
    assert not {name for name in kept if name.startswith(("connection", "tls"))}
    again = site.l2l("service", "stop", "S")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1)
    assert "has ended" in again.stderr


def test_only_its_owner_can_look_into_a_service_and_a_file_that_others_can_read_is_refused(site):
    service = site.start()
    private = [site.place.private, *site.place.private.rglob("*")]
    assert any(path.name.startswith("key") for path in private)
    modes = {}
    for path in private:
        with suppress(FileNotFoundError):  # written once a second, and then renamed
            modes[path] = path.stat().st_mode
    assert not [path for path, mode in modes.items() if stat.S_IMODE(mode) & 0o077]
    assert site.place.state in modes
    second = site.l2l("service", "start", "S", "--here")
    assert (second.returncode, second.stderr.count("\n")) == (2, 1)
    assert "runs" in second.stderr

    (connection,) = site.place.private.glob("connection-*")
    connection.chmod(0o644)
    code = "import l2l_dask; l2l_dask.connect('S').client"
    refused = site.python("-c", code)
    assert "can be read or written by others" in refused.stderr.splitlines()[-1]
    connection.chmod(0o600)
    assert site.python("-c", code).returncode == 0
    service.send_signal(signal.SIGINT)
    _, said = service.communicate(timeout=30)
    assert service.returncode == 0, said


def test_a_pause_holds_from_one_service_to_the_next(site):
    site.set_seconds(0.5)
    store = site.submit("a", evaluations=120)
    service = site.start()
    site.wait_until(lambda: site.n_done("a") > 2)
    assert site.l2l("pause", store).returncode == 0
    site.wait_until(lambda: entries.read(store).paused)
    site.stop(service, "--now")
    n = site.n_done("a")
    assert n < 120

    service = site.start()
    site.wait_until(lambda: load(store).state == "paused")
    assert site.n_done("a") == n
    site.set_seconds(0.05)
    assert site.l2l("unpause", store).returncode == 0
    site.wait_until(lambda: site.finished("a"))
    site.stop(service)


def test_an_experiment_that_cannot_go_on_is_given_up_with_its_reason_and_goes_on_once_that_is_put_right(site):
    store = site.submit("a")
    model = (site.folder / "model.py").read_text()
    (site.folder / "model.py").write_text("def nothing(): ...")
    service = site.start()
    site.wait_until(lambda: entries.read(store).problem)
    shown = site.l2l("service", "status", "S").stdout
    assert "given up" in shown
    assert "model.py" in shown

    (site.folder / "model.py").write_text(model)
    assert site.l2l("service", "submit", "S", store).returncode == 0
    site.wait_until(lambda: site.finished("a"))
    site.stop(service)


def test_one_that_starts_later_gets_its_share_by_weight(site):
    site.set_seconds(0.2)
    site.submit("a", evaluations=100_000)
    service = site.start(most=3)
    site.wait_until(lambda: site.n_done("a") > 10 and site.status()["slots"]["total"] == 3)
    site.submit("b", "--weight", "2", evaluations=100_000, function="other")
    site.wait_until(lambda: site.n_done("b") > 2)

    def share():
        used = site.slot_seconds()
        site.wait_until(lambda: sum(site.slot_seconds().values()) > sum(used.values()) + 60, 90)
        gained = {name: seconds - used[name] for name, seconds in site.slot_seconds().items()}
        return gained["b"] / sum(gained.values())

    # A machine that stalls for seconds enters them to whoever ran before; then the next minute counts.
    assert any(share() == pytest.approx(2 / 3, rel=0.05) for _ in range(3))
    site.stop(service, "--now")


def test_without_encryption_it_says_what_that_means(site):
    service = site.start("--no-tls")
    assert read(site.place.connection(1))["address"].startswith("tcp://")
    site.stop(service)


def test_stop_clears_up_after_a_service_that_was_killed(site):
    service = site.start()
    service.kill()
    service.wait()
    assert "is gone" in site.l2l("service", "status", "S").stdout
    assert "has ended" in site.stop().stderr
    assert not list(site.place.private.glob("connection*")) + list(site.place.private.glob("tls*"))
