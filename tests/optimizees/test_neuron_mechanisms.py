"""The cache of compiled channels, mostly with a compiler that is none: one process compiles, and failures are named."""

import re
import shutil
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from l2l_dask.errors import PluginError
from optimizees import _neuron_mechanisms as mechanisms
from optimizees._allen import FILES, data_file, published
from optimizees._neuron_mechanisms import NAMES, Sources

SOURCES = Sources("l2l_test_", {"l2l_test_NaTs.mod": "NEURON { SUFFIX l2l_test_NaTs }\n"})


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "l2l-dask"


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    """Pretend to be nrnivmodl: a shell script, which notes each call."""
    path, calls = tmp_path / "nrnivmodl", tmp_path / "calls"

    def install(script):
        path.write_text(f"#!/bin/sh\nls *.mod >> '{calls}'\n{script}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setattr(mechanisms, "_tools", lambda: (str(path), {"PATH": "/usr/bin:/bin"}))
        return calls

    return install


WORKS = f"sleep 0.2; mkdir x86_64; echo compiled > x86_64/{mechanisms._LIBRARY}\n"


class Simulator:
    """NEURON's top level, as far as it is asked."""

    def __init__(self, names):
        self.names, self.loaded = names, []

    def nrn_load_dll(self, path):
        self.loaded.append(path)
        for name in self.names:
            setattr(self, name, object())


def test_the_published_models_find_all_their_channels():
    used = {name.removeprefix("gbar_") for morphology in FILES for name in published(morphology).conductances}
    assert used | {"CaDynamics"} <= set(NAMES)


def test_files_and_mechanisms_have_a_prefix_of_their_own_and_nothing_else_is_changed():
    sources = Sources.read()
    assert re.fullmatch(r"l2l_[0-9a-f]{8}_", sources.prefix)
    for name in NAMES:
        text = sources.files[f"{sources.prefix}{name}.mod"]
        assert re.search(rf"^\s*SUFFIX {sources.prefix}{name}\s*$", text, re.MULTILINE)
        assert text.replace(sources.prefix, "") == data_file("mechanisms/modfiles", f"{name}.mod").read_text()


def test_it_is_compiled_once_and_then_found(compiler, cache):
    calls = compiler(WORKS)
    path = mechanisms.library(SOURCES)
    assert cache in path.parents
    assert path.read_text() == "compiled\n"
    assert mechanisms.library(SOURCES) == path
    assert calls.read_text() == "l2l_test_NaTs.mod\n"


def test_of_many_that_ask_at_once_one_compiles(compiler):
    calls, paths = compiler(WORKS), []
    threads = [threading.Thread(target=lambda: paths.append(mechanisms.library(SOURCES))) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(paths)) == 1
    assert len(paths) == 5
    assert calls.read_text() == "l2l_test_NaTs.mod\n"


def test_what_a_compilation_that_was_killed_has_left_is_removed_by_the_next(compiler, cache):
    compiler(WORKS)
    left = mechanisms._place(SOURCES).parent / "build-killed" / "x86_64"
    left.mkdir(parents=True)
    (left / "NaTs.cpp").touch()
    path = mechanisms.library(SOURCES)
    assert {file.name for file in path.parent.iterdir()} == {path.name, "lock"}


def test_without_locks_no_other_s_compilation_is_removed(compiler, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    compiler(WORKS)
    monkeypatch.setattr(mechanisms.fcntl, "flock", refuse)
    other = mechanisms._place(SOURCES).parent / "build-at-work"
    other.mkdir(parents=True)
    mechanisms.library(SOURCES)
    assert other.is_dir()


def test_where_the_file_system_has_no_locks_it_is_compiled_all_the_same(compiler, monkeypatch):
    def refuse(*_):
        raise OSError("no locks available")

    compiler(WORKS)
    monkeypatch.setattr(mechanisms.fcntl, "flock", refuse)
    assert mechanisms.library(SOURCES).read_text() == "compiled\n"


def test_other_sources_machines_and_versions_have_other_libraries(monkeypatch):
    places = [mechanisms._place(SOURCES), mechanisms._place(Sources("l2l_test_", {"l2l_test_NaTs.mod": "other"}))]
    with monkeypatch.context() as patch:
        patch.setattr(mechanisms.platform, "machine", lambda: "riscv64")
        places.append(mechanisms._place(SOURCES))
    for neuron in (("/elsewhere/neuron", "9.0.2"), ("/elsewhere/neuron", "9.0.3")):
        monkeypatch.setattr(mechanisms, "_neuron", lambda neuron=neuron: neuron)
        places.append(mechanisms._place(SOURCES))
    assert len(set(places)) == 5


def test_without_xdg_cache_home_it_is_in_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path / ".cache" / "l2l-dask" in mechanisms._place(SOURCES).parents


def test_a_failure_shows_the_compiler_s_last_lines_and_leaves_nothing(compiler, cache):
    compiler(WORKS + "for i in $(seq 30); do echo line $i; done; echo 'NaTs.cpp:7: error: no such thing' >&2; exit 3\n")
    with pytest.raises(
        PluginError, match=r"(?s)exit status 3; model = 'hh' needs no compiler.*line 30\n.*no such"
    ) as e:
        mechanisms.library(SOURCES)
    assert "line 5\n" not in str(e.value)
    assert [path.name for path in cache.rglob("*") if path.is_file()] == ["lock"]
    compiler(WORKS)
    assert mechanisms.library(SOURCES).is_file()


def test_a_compiler_that_makes_nothing_has_failed(compiler):
    compiler("echo all is well\n")
    with pytest.raises(PluginError, match=r"(?s)exit status 0.*all is well"):
        mechanisms.library(SOURCES)


def test_a_compiler_that_hangs_is_ended_with_all_that_it_started(compiler, monkeypatch, tmp_path, wait_until):
    started, wait = tmp_path / "started", subprocess.Popen.wait

    def wait_once_it_hangs(process, timeout=None):
        wait_until(lambda: started.exists() and started.read_text().endswith("\n"))
        return wait(process, timeout)

    compiler(f"echo half; sleep 600 & echo $! > '{started}'; wait\n")
    monkeypatch.setattr(subprocess.Popen, "wait", wait_once_it_hangs)
    monkeypatch.setattr(mechanisms, "_PATIENCE", 1.0)
    with pytest.raises(PluginError, match=r"(?s)did not end within 1 s; model = 'hh'.*half"):
        mechanisms.library(SOURCES)
    _, alive = psutil.wait_procs(running(int(started.read_text())), timeout=60)
    assert not alive


@pytest.mark.parametrize(
    ("there", "missing"),
    [
        (["nrnivmodl", "make"], r"a C\+\+ compiler \(g\+\+ or clang\+\+\) must"),
        (["nrnivmodl", "g++"], "make must"),
        ([], r"NEURON's nrnivmodl and a C\+\+ compiler .* and make must"),
    ],
)
def test_what_is_missing_to_compile_is_named_at_once_with_the_model_that_needs_none(there, missing, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/bin/{name}" if name in there else None)
    with pytest.raises(PluginError, match=rf"{missing} be installed.*model = 'hh' needs no compiler"):
        mechanisms.require()


def test_where_it_is_compiled_no_compiler_is_needed(monkeypatch):
    path = mechanisms._place(Sources.read())
    path.parent.mkdir(parents=True)
    path.touch()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    mechanisms.require()


def test_the_compiler_is_the_user_s_if_there_is_one(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/bin/{name}")
    monkeypatch.setenv("CXX", "icpx -v")
    monkeypatch.setenv("MAKEFLAGS", "-n")
    _, environment = mechanisms._tools()
    assert environment["CXX"] == "icpx -v"
    assert "MAKEFLAGS" not in environment


def test_a_cache_that_cannot_be_written_to_is_named(monkeypatch, tmp_path, compiler):
    compiler(WORKS)
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(PluginError, match=r"cannot be kept in .*file/l2l-dask/.*set XDG_CACHE_HOME"):
        mechanisms.library(SOURCES)


def test_the_library_is_loaded_once_in_a_process(compiler):
    compiler(WORKS)
    sources = Sources.read()
    simulator = Simulator([f"{sources.prefix}{name}" for name in NAMES])
    assert mechanisms.load(simulator) == mechanisms.load(simulator) == sources.prefix
    assert simulator.loaded == [str(mechanisms._place(sources))]


def test_mechanisms_of_the_same_name_that_others_loaded_are_not_taken_for_ours(compiler):
    compiler(WORKS)
    sources = Sources.read()
    simulator = Simulator([f"{sources.prefix}{name}" for name in NAMES])
    for name in NAMES:
        setattr(simulator, name, object())
    mechanisms.load(simulator)
    assert len(simulator.loaded) == 1


def test_a_library_that_neuron_does_not_load_is_named(compiler):
    compiler(WORKS)
    with pytest.raises(PluginError, match=rf"NEURON cannot load .*{mechanisms._LIBRARY}: remove .*l2l-dask"):
        mechanisms.load(Simulator([]))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_channels_of_the_same_names_can_be_loaded_by_others_before_and_after(tmp_path, monkeypatch):
    """The user's own: compiled here from the same files, under their plain names, but without any conductance."""
    own = tmp_path / "own"
    own.mkdir()
    for name in ("NaTs", "CaDynamics"):
        text = data_file("mechanisms/modfiles", f"{name}.mod").read_text()
        (own / f"{name}.mod").write_text(text.replace("ina = g*(v-ena)", "ina = 0*g*(v-ena)"))
    command, environment = mechanisms._tools()
    subprocess.run([command, "."], cwd=own, env=environment, check=True, capture_output=True, timeout=300)
    library = next(Path(own).glob(f"*/**/{mechanisms._LIBRARY}"))
    script = """
        import sys
        from optimizees._neuron import neuron
        from optimizees.neuron_cell import NeuronCell
        h = neuron()
        cell = NeuronCell(duration=20)
        if {before}: h.nrn_load_dll({library!r})
        cell.setup()
        if not {before}: h.nrn_load_dll({library!r})
        assert hasattr(h, "NaTs")
        print(cell.trace(dict()).sum())
    """
    printed = [
        subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script.format(before=before, library=str(library)))],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
            timeout=300,
        ).stdout
        for before in (True, False)
    ]
    from optimizees.neuron_cell import NeuronCell

    assert printed == [f"{NeuronCell(duration=20).trace({}).sum()}\n"] * 2


def running(pid):
    try:
        return [psutil.Process(pid)]
    except psutil.NoSuchProcess:
        return []
