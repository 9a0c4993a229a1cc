"""A JupyterLab of a test's own: its settings, its files and all that it starts are below one folder."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time

import psutil

TOKEN = "of-this-test"
# What a notebook, or a program outside of one, begins with: a search that takes next to no time.
FREE = """\
from l2l_dask import Experiment, Real, Space, minimize

def search(store):
    return Experiment(
        lambda params: params["x"] ** 2, "random", space=Space({"x": Real(-1, 1)}), objectives=minimize("loss"),
        store=store, evaluations=3000, cluster="serial",
    )
"""
_PROXY = "jupyter_server_proxy"
_QUIET = {
    "news_url": None,
    "check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
    "extension_manager": "readonly",
}


class Lab:
    """JupyterLab, as a hub starts it for one of its users, until it is closed.

    Parameters
    ----------
    folder
        Empty.
    proxy
        Whether jupyter-server-proxy is there.
    password
        Whether it asks for one, in place of a token.
    module
        What is started: ``"jupyter_server"`` alone is there sooner.
    """

    def __init__(self, folder, *, proxy, password=False, module="jupyterlab"):
        self.folder, self._log = folder, (folder / "log").open("wb")
        own = {f"JUPYTER_{name}_DIR": str(folder / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")}
        own["JUPYTERLAB_SETTINGS_DIR"] = str(folder / "settings")
        # Of its user: a hub's settings of who runs the tests are not to count.
        outside = {name: value for name, value in os.environ.items() if not name.startswith(("JUPYTER", "JPY", "SSH_"))}
        (folder / "config").mkdir()
        settings = {
            "ServerApp": {
                "ip": "127.0.0.1",
                "port": 0,
                "base_url": "/user/ada/",
                "open_browser": False,
                "allow_root": True,
                "root_dir": str(folder),
                "jpserver_extensions": {_PROXY: proxy},
            },
            "IdentityProvider": {"token": TOKEN},
        }
        if password:
            from jupyter_server.auth.security import passwd

            settings["IdentityProvider"]["token"] = ""
            settings["PasswordIdentityProvider"] = {"hashed_password": passwd("of-this-test")}
        (folder / "config" / "jupyter_server_config.json").write_text(json.dumps(settings))
        (folder / "config" / "jupyter_lab_config.json").write_text(json.dumps({"LabApp": _QUIET}))
        asked = folder / "settings" / "@jupyterlab" / "apputils-extension"
        asked.mkdir(parents=True)
        (asked / "notification.jupyterlab-settings").write_text('{"fetchNews": "false"}')
        self.process = subprocess.Popen(
            [sys.executable, "-m", module],
            cwd=folder,
            env=outside | own | {"HOME": str(folder), "IPYTHONDIR": str(folder / "ipython"), "USER": "ada"},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.base = self._base()

    def _base(self):
        until = time.monotonic() + 120
        while not self._listens():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-3000:]
            assert time.monotonic() < until
            time.sleep(0.05)
        return self._says()["url"]

    def _says(self):
        return json.loads((self.folder / "runtime" / f"jpserver-{self.process.pid}.json").read_text())

    def _listens(self):
        """Tell whether it can be reached: that comes later than what it says of itself."""
        with (
            contextlib.suppress(OSError, ValueError),
            socket.create_connection(("127.0.0.1", self._says()["port"]), 30),
        ):
            return True
        return False

    def write(self, name, *cells):
        """Write a notebook, and return where in the server it is."""
        import nbformat

        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
        notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(notebook, self.folder / name)
        return f"lab/tree/{name}?token={TOKEN}"

    @property
    def started(self):
        """What it started, and what these started, with their commands."""
        found = {}
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it may have ended just now
                found[child] = " ".join(child.cmdline())
        return found

    def find(self, word):
        """Return the one process that it started whose command has that word."""
        (found,) = [child for child, command in self.started.items() if word in command]
        return found

    def close(self):
        """End it with all of its kernels; return what outlives it."""
        started = list(self.started) if self.process.poll() is None else []
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._log.close()
        _, left = psutil.wait_procs(started, timeout=30)
        for process in left:
            process.kill()
        return left
