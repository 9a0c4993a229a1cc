"""Another user of the machine, a real one, who tries to look into a service or to have it work for him."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from l2l_dask import connect
from l2l_dask.cluster import tls
from l2l_dask.service.place import read

from .site import Site

SCRIPT = Path(__file__).with_name("_stranger.py")
NOBODY = ("runuser", "-u", "nobody", "--")


def _python_of_nobody():
    """Find a Python that this user may run; say why there is none."""
    if os.geteuid() != 0:
        return "", "only root can act as another user"
    if shutil.which("runuser") is None:
        return "", "there is no runuser"
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        tried = subprocess.run([*NOBODY, python, "-c", "import ssl"], capture_output=True, check=False)
        if not tried.returncode:
            return python, ""
    return "", "the user nobody can run no Python here"


@pytest.fixture
def python():
    found, why_not = _python_of_nobody()
    if why_not:
        pytest.skip(why_not)
    return found


@pytest.fixture
def open_site(l2l, wait_until):
    """A site in a folder that others can look into, as many homes are."""
    with tempfile.TemporaryDirectory(prefix="site-") as folder:
        Path(folder).chmod(0o755)
        cli = type(l2l)(Path(folder))
        site = Site(Path(folder), cli, wait_until)
        yield site
        site.close()
        cli.close()


def _listening(processes):
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            found |= {tuple(c.laddr) for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN}
    return sorted(found)


def _tried(python, words, paths, ports, pem):
    told = json.dumps({"paths": [str(path) for path in paths], "ports": ports, "pem": pem})
    done = subprocess.run(
        [*words, python, "-c", SCRIPT.read_text()],
        input=told,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_another_user_reads_neither_connection_nor_key_and_no_port_tells_him_anything(open_site, python, tmp_path):
    site = open_site
    service = site.start("--min", "1")
    store = site.submit("a", evaluations=100_000)
    site.wait_until(lambda: site.n_done("a") > 2)
    secret = [site.place.private, *site.place.private.rglob("*"), store / ".l2l/service.json"]
    assert {"connection-000001.json", "key.pem", "settings.json", "state.json"} <= {path.name for path in secret}
    ports = _listening({psutil.Process(service.pid), *site.processes()})
    told = read(site.place.connection(1))
    known = {told["address"].removeprefix("tls://"), told["pages"]}
    assert known <= {f"{host}:{port}" for host, port in ports}
    assert len(ports) >= 4  # nanny, worker
    own = tls.make(tmp_path / "own")
    pem = own.key.read_text() + own.certificate.read_text()

    found = _tried(python, NOBODY, secret, ports, pem)
    assert found == {"uid": found["uid"], "seen": [], "answers": []}
    assert found["uid"] != os.getuid()
    mine = _tried(python, (), [path for path in secret if path.exists()], [], pem)
    assert str(site.place.tls(1) / "key.pem") in mine["seen"]  # the script can see what it may
    with connect(site.root) as known:
        assert known.client.submit(int, "7").result(60) == 7
    site.stop(service, "--now")
