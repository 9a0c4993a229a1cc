"""Dask's own pages of a service: beside ours, for whoever may see ours, and for nobody else."""

import asyncio
import contextlib
import json
import signal
import socket
import ssl

import pytest

from l2l_dask.cluster import tls
from l2l_dask.service.place import read
from tests.conftest import Cli, until
from tests.service.site import Site

from .asking import cookie, get, run, websocket

LOADED = ("dask/status", "dask/statics/css/base.css", "dask/info/main/logs.html", "statics/js/sortable.min.js")
PLACES = ("dask", "dask/", *LOADED, "dask/status/ws")
MARK = "Dask Diagnostic UI"  # in the source of each of its pages


@pytest.fixture
def new_site(tmp_path):
    """Make a folder for a service; whatever runs in it ends with the test."""
    cli = Cli(tmp_path)
    site = Site(tmp_path, cli, until)
    yield site
    site.close()
    cli.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A service at work."""
    folder = tmp_path_factory.mktemp("site")
    cli = Cli(folder)
    site = Site(folder, cli, until)
    site.start("--min", "1")
    site.submit("a", evaluations=100_000)
    until(lambda: site.n_done("a") > 2)
    get(f"https://{connection(site)['pages']}/", tls.Tls(site.place.tls(1)).client_context())  # Dask's pages are made
    yield site
    site.stop(None, "--now")
    site.close()
    cli.close()


@pytest.fixture(scope="module")
def served(site, serving):
    return serving(site.root)


def connection(site):
    return read(site.place.connection(site.place.connections()[-1]))


@pytest.mark.slow
def test_a_browser_sees_its_status_page_live_through_the_link_in_ours_and_asks_no_other_host(served, look, tmp_path):
    viewer = look(served)
    with viewer.page.context.expect_page() as opened:
        viewer.page.get_by_role("link", name="Dask", exact=True).click()
    frames, requests, errors, page = [], [], [], opened.value
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: message.type == "error" and errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("websocket", lambda ws: ws.on("framereceived", lambda frame: frames.append(ws.url)))
    for name, drawn in (("status", ".bk-Figure"), ("workers", ".slick-row"), ("tasks", ".bk-Figure")):
        answer = page.goto(f"{served.base}dask/{name}")
        assert (answer.status, MARK in answer.text()) == (200, True)
        page.locator(drawn).first.wait_for()
        while frames.count(f"ws://{served.host}/dask/{name}/ws") < 10:  # what changes comes by itself
            page.wait_for_timeout(100)
    page.screenshot(path=tmp_path / "dask.png")
    assert errors == []
    assert [url for url in requests if not url.startswith((served.base, "data:", "blob:"))] == []


@pytest.mark.slow
def test_what_its_plain_pages_would_fetch_elsewhere_is_held_back_by_the_browser(served, look):
    viewer, held = look(served), []
    missing = []
    viewer.page.on("requestfailed", lambda request: held.append((request.url, request.failure)))
    viewer.page.on("response", lambda response: response.status == 404 and missing.append(response.url))
    viewer.visit("dask/info/main/workers.html")
    viewer.see("Memory use")

    def asked():
        return [problem for problem in viewer.problems if problem.startswith("request to ")]

    assert asked()  # else this test could go
    until(lambda: viewer.page.wait_for_timeout(50) or len(held) >= len(asked()))
    assert sorted(f"request to {url}" for url, why in held if why == "csp") == sorted(asked())
    assert missing == []
    viewer.problems.clear()


@pytest.mark.parametrize("place", PLACES)
def test_without_the_token_there_is_nothing_of_dask_either(served, place):
    status, headers, text = get(served.base + place)
    assert (status, headers["Set-Cookie"], MARK in text) == (403, None, False)
    assert "l2l dashboard" in text
    assert get(f"{served.base}{place}?token={served.token[:-1]}x")[0] == 403


def test_its_websocket_is_for_pages_of_the_same_server_with_the_cookie_alone(served):
    let_in, own = cookie(served), f"http://{served.host}"
    assert websocket(served, "dask/status", Origin=own, Cookie=let_in) == 101
    assert websocket(served, "dask/status") == websocket(served, "dask/status", Origin=own) == 403
    for origin in ("http://evil.example", "http://localhost:1", "null"):
        assert websocket(served, "dask/status", Origin=origin, Cookie=let_in) == 403
    assert websocket(served, "dask/status", Cookie=let_in) == 403


def test_its_pages_may_load_from_this_server_alone_and_bring_no_header_of_dask_s_own(served):
    for place in LOADED:
        status, headers, _ = get(served.base + place, Cookie=cookie(served))
        rules = dict(rule.strip().partition(" ")[::2] for rule in headers["Content-Security-Policy"].split(";"))
        assert (status, rules["default-src"], rules["connect-src"]) == (200, "'none'", "'self'")
        assert not any(word in headers["Content-Security-Policy"] for word in ("http", "ws:", "*"))
        assert headers["Server"] is headers["Access-Control-Allow-Origin"] is None
    for place, to in (("dask", "dask/status"), ("dask/", "status")):
        assert get(served.base + place, Cookie=cookie(served))[1]["Location"] == to


def test_no_cookie_reaches_dask(new_site, serve):
    """A server in place of Dask's notes what comes."""
    site, came = new_site, []
    site.place.make()
    secured = tls.make(site.place.tls(1))

    async def attempt():
        from tornado.httpserver import HTTPServer
        from tornado.netutil import bind_sockets

        def note(request):
            came.append(dict(request.headers.get_all()))
            body = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nSet-Cookie: a=b\r\nKeep-Alive: 9\r\n\r\n"
            request.connection.detach().write(body)

        sockets = bind_sockets(0, "127.0.0.1")
        server = HTTPServer(note, ssl_options=secured.server_context())
        server.add_sockets(sockets)
        told = {"address": "", "tls": str(secured.folder), "pages": f"127.0.0.1:{sockets[0].getsockname()[1]}"}
        path = site.place.connection(1)
        path.touch(mode=0o600)
        path.write_text(json.dumps(told))
        served = serve(site.root)
        sent = {"Cookie": cookie(served) + "; other=1", "Authorization": "x", "Te": "trailers", "X-Own": "1"}
        answer = await asyncio.to_thread(get, served.base + "dask/status", **sent)
        server.stop()
        return answer

    status, headers, _ = run(attempt())
    assert (status, headers["Set-Cookie"], headers["Keep-Alive"]) == (200, None, None)
    assert len(came) == 1
    assert set(came[0]) & {"Cookie", "Authorization", "Te", "X-Own"} == set()


def test_who_shows_no_certificate_of_the_service_is_refused_at_the_port_of_the_pages(site, tmp_path):
    found = connection(site)
    url = f"https://{found['pages']}/dask/status"
    mine = tls.Tls(site.place.tls(1)).client_context()
    assert get(url, mine)[0] in (200, 307)
    bare, own = (ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT) for _ in range(2))
    for context in (bare, own):
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    other = tls.make(tmp_path / "other")
    own.load_cert_chain(other.certificate, other.key)
    for context in (bare, own):
        with pytest.raises(OSError, match=r"(?i)ssl|certificate|reset|closed"):
            get(url, context)
    host, _, port = found["pages"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=10) as plain:
        plain.sendall(b"GET /dask/status HTTP/1.1\r\nHost: x\r\n\r\n")
        said = b""
        with contextlib.suppress(ConnectionError):
            said = plain.recv(1000)
        assert said[:1] in (b"", b"\x15")  # nothing, or an alert of TLS


@pytest.mark.slow
def test_a_service_that_ends_is_killed_or_starts_anew_is_told_and_found_again(new_site, serve):
    site = new_site
    site.root.mkdir()
    served = serve(site.root)
    let_in = {"Cookie": cookie(served)}

    def answer():
        status, _, text = get(served.base + "dask/status", **let_in)
        return status, text

    def has_link():
        return ">Dask</a>" in get(served.base, **let_in)[2]

    def shows():
        status, headers, _ = get(served.base + "dask/status", **let_in)
        if status == 307:
            status = get(served.base + headers["Location"].lstrip("/"), **let_in)[0]
        return status == 200

    status, text = answer()
    assert (status, has_link()) == (502, False)
    assert "no service was ever started" in text
    assert f"l2l service start {site.root}" in text

    first = site.start()
    assert shows()
    until(has_link)
    site.stop(first)
    status, text = answer()
    assert (status, has_link()) == (502, False)
    assert "has ended" in text
    assert f"l2l service start {site.root}" in text

    second = site.start()
    assert shows()
    second.send_signal(signal.SIGKILL)
    second.wait(30)
    status, text = answer()
    assert (status, has_link()) == (502, False)
    assert "Traceback" not in text
    assert "is gone" in text
    assert websocket(served, "dask/status", Origin=f"http://{served.host}", **let_in) == 502

    site.start()
    assert shows()
    assert "Traceback" not in served.close()


@pytest.mark.slow
def test_a_service_without_tls_serves_none_and_says_so(new_site, serve):
    site = new_site
    site.start("--no-tls")
    assert connection(site)["pages"] == ""
    served = serve(site.root)
    status, _, text = get(served.base + "dask/status", Cookie=cookie(served))
    assert status == 502
    assert "without TLS" in text
    assert ">Dask</a>" not in get(served.base, Cookie=cookie(served))[2]


def test_the_status_names_the_place_to_look(site):
    assert f"l2l dashboard {site.root}" in site.l2l("service", "status", "S").stdout
