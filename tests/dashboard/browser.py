"""A real browser that looks at a real server, and notes whatever it should not have seen."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image
from playwright.sync_api import expect

expect.set_options(timeout=60_000)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
IMAGES = Path(__file__).parents[2] / "docs" / "images"
_MOST_BYTES = 200_000

# Bokeh draws into shadow trees: whether anything can be seen in them that is a plot with something in it, or a row of a
# table.
DRAWN = """() => {
  const all = root => [...root.querySelectorAll("*")].flatMap(e => [e, ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
  const colours = canvas => {
    const pixels = canvas.getContext("2d").getImageData(0, 0, 100, canvas.height).data, found = new Set();
    for (let i = 0; i < pixels.length; i += 28) found.add(pixels.slice(i, i + 3).join());
    return found.size;
  };
  return all(document).some(e => {
    const { width, top } = e.getBoundingClientRect();
    return width > 200 && top < innerHeight && (e.classList.contains("slick-row")
      || (e.tagName === "CANVAS" && colours(e) > 5) || (e.tagName === "svg" && all(e).length > 20));
  });
}"""


class Served:
    """``l2l dashboard`` in a process of its own, until it is closed."""

    def __init__(self, folder, *options, port=0, env=None):
        command = [sys.executable, "-m", "l2l_dask", "dashboard", str(folder), *map(str, options)]
        command += [] if port is None else ["--port", str(port)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | (env or {})
        )
        self.link = self.process.stdout.readline().strip()
        assert self.link.startswith("http://"), self.close()

    @property
    def token(self):
        return urlsplit(self.link).query.removeprefix("token=")

    @property
    def host(self):
        return urlsplit(self.link).netloc

    @property
    def base(self):
        return f"http://{self.host}/"

    def close(self, number=signal.SIGINT):
        """End it as Ctrl-C does; return all that it said."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        try:
            return "".join(self.process.communicate(timeout=60))
        except subprocess.TimeoutExpired:
            self.process.kill()
            return "".join(self.process.communicate())


def screenshot(shown, name, folder):
    """Take a picture of a page or a part of one, and return where it is."""
    path = (IMAGES if os.environ.get("L2L_SCREENSHOTS") else folder) / f"dashboard-{name}.png"
    shown.screenshot(path=path)
    with Image.open(path) as image:
        image.convert("RGB").quantize(64).save(path, optimize=True)
    assert path.stat().st_size < _MOST_BYTES
    return path


class Viewer:
    """A tab of the browser.

    Attributes
    ----------
    page
        Playwright's.
    problems
        Requests to other hosts, errors on the console, exceptions in scripts, dialogs: none of it is to be.
    """

    def __init__(self, context, base):
        self.base, self.problems = base, []
        self.page = context.new_page()
        self.page.set_default_timeout(60_000)
        self.page.on("console", lambda message: message.type == "error" and self._note(message.text))
        self.page.on("pageerror", lambda error: self._note(f"exception: {error}"))
        self.page.on("request", self._request)
        self.page.on("dialog", lambda dialog: (self._note(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _note(self, text):
        self.problems.append(text)

    def _request(self, request):
        url = urlsplit(request.url)
        if url.scheme in ("http", "https", "ws", "wss") and url.netloc != urlsplit(self.base).netloc:
            self._note(f"request to {request.url}")

    def open(self, address=""):
        """Open a page of the server, and return the seconds after which its first plot was drawn."""
        began = time.monotonic()
        self.page.goto(self.base + address, wait_until="commit")
        self.page.wait_for_function(DRAWN, polling=20)
        return time.monotonic() - began

    def visit(self, address=""):
        """Open a page that may have no plot."""
        return self.page.goto(self.base + address)

    def see(self, text):
        """Wait until a text is there to be read."""
        found = self.page.get_by_text(text).filter(visible=True).first
        found.wait_for()
        return found

    def screenshot(self, name, folder=None):
        """Take a picture: into the documentation if ``L2L_SCREENSHOTS`` is set, to be looked at and committed."""
        self.page.mouse.move(0, 0)
        return screenshot(self.page, name, folder)
