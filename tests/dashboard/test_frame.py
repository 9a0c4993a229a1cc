"""What ``show()`` gives: a line, and in a notebook a frame on a server of the kernel's own."""

import re
import subprocess
import sys
import urllib.error
from html import unescape
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import psutil
import pytest

from l2l_dask.dashboard.pages import PAGES
from l2l_dask.errors import ConfigError
from l2l_dask.notebook import frame

from .asking import get, websocket
from .jupyter import FREE


def test_outside_of_a_notebook_it_is_a_line_and_nothing_is_served(tmp_path):
    program = FREE + (
        "import sys\nmine = search('run.zarr')\nprint(mine.show())\nhandle = mine.start()\nhandle.wait()\n"
        "print(handle.show(), repr(handle.show('workers')), sep='\\n')\n"
        "assert not {'IPython', 'bokeh', 'jupyter_core'} & set(sys.modules)\n"
        "import psutil; assert not psutil.Process().children()"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    first, second, third = done.stdout.splitlines()
    assert (done.stderr, first) == ("", f"{tmp_path}/run.zarr: not started")
    assert second.startswith(f"{tmp_path}/run.zarr: finished, 3000 of 3000, best ")
    assert third == second


def test_the_pages_are_those_of_the_dashboard():
    assert tuple(page.slug for page in PAGES) == frame.PAGES
    with pytest.raises(ConfigError, match=r"expected one of search, parameters, .*, got 'plots'"):
        frame.View("line", Path("a.zarr"), "plots")


@pytest.fixture
def address(tmp_path, stores):
    """Where a frame's page is, outside of a notebook."""
    stores.make(tmp_path / "a.zarr", 20)
    stores.make(tmp_path / "b.zarr", 20)
    html = frame.View("line", tmp_path / "a.zarr")._repr_html_()
    yield unescape(re.search("src='([^']*)'", html)[1])
    frame._one.close()


def test_a_frame_is_for_who_knows_its_address_from_pages_of_this_machine(address):
    status, headers, _ = get(address)
    assert (status, headers["Set-Cookie"], headers["X-Frame-Options"]) == (200, None, None)
    ancestors = headers["Content-Security-Policy"].partition("frame-ancestors ")[2].split()
    assert ancestors[0] == "'self'"
    assert all(re.fullmatch(r"https?://(localhost|127\.0\.0\.1):\*", each) for each in ancestors[1:])
    for known in ("", "?token=", f"{'x' * 43}/"):
        status, _, text = get(re.sub(r"[^/]{43}/", known, address))
        assert status == 403
        assert "show()" in text
    token = re.search(r"[^/]{43}", address)[0]
    assert get(address.replace(f"{token}/", "") + f"&token={token}")[0] == 403
    assert get(address, Origin="http://evil.example")[1]["Access-Control-Allow-Origin"] is None


def test_a_frame_opens_websockets_behind_any_proxy_for_who_knows_its_address(address):
    token, host = re.search(r"[^/]{43}", address)[0], urlsplit(address).netloc
    proxied = {"Host": "localhost", "Origin": "https://hub.example"}
    assert websocket(SimpleNamespace(host=f"{host}/{token}"), "search", **proxied) == 101
    assert websocket(SimpleNamespace(host=host), "search", **proxied) == 403
    assert websocket(SimpleNamespace(host=f"{host}/{'x' * 43}"), "search", **proxied) == 403


def test_a_kernel_has_one_server_for_what_it_showed_and_no_more(address, tmp_path, stores):
    assert get(address)[0] == 200
    assert get(address.replace("a.zarr", "b.zarr"))[0] == 404
    html = frame.View("line", tmp_path / "b.zarr", "individuals")._repr_html_()
    other = unescape(re.search("src='([^']*)'", html)[1])
    assert other.partition("individuals")[0] == address.partition("search")[0]
    assert get(other)[0] == 200


def test_a_server_that_was_killed_is_started_again(address, tmp_path):
    beside = psutil.Process(frame._one.process.pid)
    assert "l2l_dask.cli.beside" in beside.cmdline()
    beside.kill()
    beside.wait(60)
    html = frame.View("line", tmp_path / "a.zarr")._repr_html_()
    again = unescape(re.search("src='([^']*)'", html)[1])
    assert again != address
    assert get(again)[0] == 200


def test_a_server_that_is_closed_is_gone(address):
    assert get(address)[0] == 200
    frame._one.close()
    with pytest.raises(urllib.error.URLError):
        get(address)
