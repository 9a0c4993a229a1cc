"""Who may see the dashboard: who holds its token, from its own pages."""

import shlex
import signal
import socket

import pytest

from l2l_dask.cli.dashboard import tunnel

from .asking import cookie, get, websocket

PLACES = ("", "search?store=a.zarr", "static/js/bokeh.min.js", "own/dashboard.js", "metadata", "nowhere", "search/ws")


@pytest.fixture(scope="module")
def folder(tmp_path_factory, stores):
    folder = tmp_path_factory.mktemp("stores")
    stores.make(folder / "a.zarr", 20)
    return folder


@pytest.fixture(scope="module")
def served(folder, serving):
    return serving(folder)


@pytest.mark.parametrize("place", PLACES)
def test_without_the_token_there_is_nothing_but_a_page_that_says_where_the_link_is(served, place):
    status, headers, text = get(served.base + place)
    assert (status, headers["Set-Cookie"]) == (403, None)
    assert "l2l dashboard" in text
    assert served.token not in text
    assert get(f"{served.base}{place}?token={served.token[:-1]}x")[0] == 403
    assert get(f"{served.base}{place}?token=")[0] == 403


def test_the_link_gives_a_cookie_for_its_token_and_takes_it_out_of_the_address(served):
    status, headers, _ = get(f"{served.base}search?store=a.zarr&token={served.token}")
    assert (status, headers["Location"]) == (302, "?store=a.zarr")
    assert all(word in headers["Set-Cookie"] for word in ("HttpOnly", "SameSite=Lax", "Path=/"))
    assert served.token not in str(headers)
    assert [get(served.base + place, Cookie=cookie(served))[0] for place in PLACES[:4]] == [200] * 4


def test_the_cookie_of_one_server_does_not_open_another(served, serve, folder):
    one, other = served, serve(folder)
    name = cookie(other).partition("=")[0]
    assert get(other.base, Cookie=cookie(one))[0] == 403
    assert get(other.base, Cookie=f"{name}={cookie(one).partition('=')[2]}")[0] == 403


def test_a_websocket_without_the_cookie_is_refused(served):
    assert websocket(served, "search") == 403
    assert websocket(served, "search", Origin=f"http://{served.host}") == 403
    assert websocket(served, "search", Origin=f"http://{served.host}", Cookie="l2l-0=1") == 403


def test_a_websocket_is_for_pages_of_this_server_alone_under_whatever_name_it_was_opened(served):
    let_in = cookie(served)
    for name in (served.host, "localhost:9999", "127.0.0.1:9999", "tunnelled.example"):
        assert websocket(served, "search", Host=name, Origin=f"http://{name}", Cookie=let_in) == 101
    for origin in ("http://evil.example", "http://localhost:1", "null", f"http://{served.host}.evil.example"):
        assert websocket(served, "search", Origin=origin, Cookie=let_in) == 403
    assert websocket(served, "search", Cookie=let_in) == 403


def test_without_a_token_names_that_only_lead_here_are_refused(serve, folder):
    served = serve(folder, "--no-token")
    assert get(served.base)[0] == 200
    assert get(served.base, Host="localhost:9999")[0] == 200
    assert get(served.base, Host="evil.example")[0] == 403


def test_a_name_or_an_origin_that_is_none_is_refused_as_a_wrong_one_is(serve, folder):
    served, free = serve(folder), serve(folder, "--no-token")
    let_in = cookie(served)
    for odd in ("[", "[::1", "localhost]", "[v1.x", "[x]"):
        assert websocket(served, "search", Origin=f"http://{odd}", Cookie=let_in) == 403
        assert websocket(free, "search", Origin=f"http://{odd}") == 403
        assert get(free.base, Host=odd)[0] in (400, 403)
        assert get(served.base, Host=odd, Cookie=let_in)[0] in (200, 400)
    assert "Traceback" not in served.close() + free.close()


def test_every_answer_forbids_what_is_not_from_here(served):
    let_in = cookie(served)
    for place in PLACES:
        policy = get(served.base + place, Cookie=let_in)[1]["Content-Security-Policy"]
        rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
        assert rules["default-src"] == "'none'"
        assert rules["connect-src"] == "'self'"
        assert rules["frame-ancestors"] == "'self'"
        assert "unsafe" not in rules["script-src"]
        assert "http" not in policy


def test_a_taken_port_is_told_in_a_line(served, folder, l2l):
    port = served.host.rpartition(":")[2]
    ended = l2l("dashboard", folder, "--port", port)
    assert ended.returncode == 2
    assert len(ended.stderr.splitlines()) == 1
    assert f"port {port}: Address already in use" in ended.stderr


def test_no_token_is_for_this_machine_alone(folder, l2l):
    ended = l2l("dashboard", folder, "--no-token", "--address", "0.0.0.0")
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert "loopback" in ended.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_cleanly(serve, folder, number):
    served = serve(folder)
    assert get(served.link)[0] == 302
    assert served.close(number).splitlines()[-1] == "the dashboard has ended"
    assert served.process.returncode == 0


def test_over_ssh_it_says_what_to_type(serve, folder):
    served = serve(folder, env={"SSH_CONNECTION": "10.0.0.1 50000 10.0.0.2 22", "USER": "ada"})
    port = served.host.rpartition(":")[2]
    said = served.close()
    assert f"ssh -N -L {port}:127.0.0.1:{port} ada@10.0.0.2" in said
    assert f"http://localhost:{port}/?token={served.token}" in said


@pytest.mark.parametrize(
    ("connected", "login"),
    [
        ("10.0.0.1 50000 10.0.0.2 22", "ada@10.0.0.2"),  # a job has what its user had
        ("fe80::1 50000 fe80::2 22", "ada@[fe80::2]"),
        ("", "ada@LOGIN_NODE"),
    ],
)
def test_in_a_job_the_way_leads_through_the_login_node(monkeypatch, connected, login):
    monkeypatch.setenv("SSH_CONNECTION", connected)
    monkeypatch.setenv("USER", "ada")
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    typed, _ = tunnel("http://127.0.0.1:8990/?token=abc", 8990)
    assert shlex.split(typed.partition(": ")[2])[-3:] == ["-J", login, f"ada@{socket.gethostname()}"]


def test_over_ssh_an_address_of_ipv6_stands_in_brackets(monkeypatch):
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 22")
    monkeypatch.setenv("USER", "ada")
    typed, opened = tunnel("http://[::1]:8990/?token=abc", 8990)
    assert shlex.split(typed.partition(": ")[2])[3] == "8990:[::1]:8990"
    assert opened.endswith("http://localhost:8990/?token=abc")
