"""Carry out the code blocks of one page, in their order, in the current folder: ``python _page.py PAGE SCRATCH``.

What a block is, its info string and its first line say:

- a block that starts with a comment which is a file's name, ``# my_model.py``, is that file;
- other ``python`` blocks are run in one namespace, as the cells of a notebook; those that start with ``>>>`` are
  doctests;
- in ``console`` blocks each line that starts with ``$`` is a command; what stands below it is what it prints (``...``
  for anything). Those that set a machine up (:data:`NOT_RUN`) are not run. What a command prints goes into the file
  behind a ``>``. One that ends in ``&`` goes on in the background; ``wait`` waits for all of these, ``kill %1`` ends
  one. A trailing ``# exit status 1`` is what it returns;
- ``text`` blocks are for reading. Any other info string is an error, so that no block goes unnoticed.
"""

from __future__ import annotations

import doctest
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"^(?:#!.*\n)?# ([\w./-]+\.\w+)\n")
_STATUS = re.compile(r"\s+# exit status (\d+)$")

NOT_RUN = {"cd", "git", "make", "pip"}
RUN = {"dask", "kill", "l2l", "ls", "python", "sbatch", "srun", "wait"}
ONE_CLUSTER = {"getting-started.md"}  # its "local" workers are started once, and not for each of its many runs
BUDGET = "8"  # evaluations of an example, whose own are too many for a test
HEEDED = {"pause": "paused", "unpause": "running"}  # commands that a driver heeds a little later, and its state then
_PATIENCE = 60.0
_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class BlockError(Exception):
    """A block that does not do what the page says."""


@dataclass
class Block:
    """One fenced block."""

    language: str
    code: str
    line: int


def blocks(page: Path) -> list[Block]:
    """Cut the blocks out of a page."""
    text = page.read_text(encoding="utf-8")
    if text.count("\n```") % 2:
        raise BlockError(f"{page.name}: a code block is not closed")
    return [Block(match[1], match[2], text.count("\n", 0, match.start(2)) + 1) for match in _FENCE.finditer(text)]


@dataclass
class Run:
    """One page being carried out."""

    page: Path
    scratch: Path
    namespace: dict[str, Any]
    settings: dict[str, str]
    background: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def carry_out(self, block: Block) -> None:
        file = _FILE.match(block.code)
        if file:
            path = Path(file[1])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.code, encoding="utf-8")
            if block.code.startswith("#!"):
                path.chmod(0o755)
        elif block.language == "python":
            self._python(block)
        elif block.language == "console":
            self._console(block)
        elif block.language != "text":
            raise BlockError(
                f"a block of {block.language or 'no language'!r}: expected python, console, text or a file"
            )

    def _python(self, block: Block) -> None:
        if block.code.startswith(">>> "):
            test = doctest.DocTestParser().get_doctest(
                block.code, self.namespace, self.page.name, str(self.page), block.line - 1
            )
            if doctest.DocTestRunner(optionflags=_FLAGS).run(test, clear_globs=False).failed:
                raise BlockError("the output is another")
            self.namespace.update(test.globs)
            return
        code = "\n" * (block.line - 1) + block.code  # a traceback then names the page's line
        exec(compile(code, str(self.page), "exec"), self.namespace)

    def _console(self, block: Block) -> None:
        command, expected = "", ""
        for line in [*block.code.splitlines(), "$ "]:
            if not line.startswith("$ "):
                expected += line + "\n"
                continue
            if command:
                self._command(command, expected)
            command, expected = line[2:].strip(), ""

    def _command(self, line: str, expected: str) -> None:
        status = _STATUS.search(line)
        words = shlex.split(line, comments=True)
        if words[0] in NOT_RUN:
            return
        file = words[-1] if words[-2:-1] == [">"] else None
        words = words[:-2] if file else words
        if words[0] not in RUN:
            raise BlockError(f"{line!r}: neither a command that is run nor one that is known not to be")
        if words[:2] == ["l2l", "run"] and words[2].startswith("examples/"):
            words += ["--evaluations", BUDGET]
        if words[-1] == "&":
            self._start(words[:-1])
        elif words[0] == "wait":
            for process in self.background:
                process.wait(3 * _PATIENCE)
            self.background.clear()  # a shell gives their numbers to the next
        elif words[0] == "kill":
            end(self.background[int(words[1].removeprefix("%")) - 1])
        else:
            done = subprocess.run(
                words,
                check=False,
                env=os.environ | self.settings,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
            sys.stdout.write(f"$ {line}\n{done.stdout}")
            if file is not None and not done.returncode:
                Path(file).write_text(done.stdout, encoding="utf-8")
            if done.returncode != int(status[1] if status else 0):
                raise BlockError(f"{line!r} ended with exit status {done.returncode}")
            if expected.strip() and not doctest.OutputChecker().check_output(expected, done.stdout, _FLAGS):
                raise BlockError(f"{line!r}: the page says\n{expected}it printed\n{done.stdout}")
            if words[0] == "l2l" and words[1] in HEEDED:
                wait_until(lambda: state(words[2]) == HEEDED[words[1]], f"{words[2]} is {HEEDED[words[1]]}")

    def _start(self, words: list[str]) -> None:
        """Start a command in the background, and wait until what comes next can rely on it."""
        before = running()
        output = (self.scratch / f"background-{len(self.background)}.txt").open("wb")
        process = subprocess.Popen(
            words,
            env=os.environ | self.settings,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        self.background.append(process)
        if words[0] == "l2l":
            wait_until(lambda: running() - before or process.poll() is not None, "the experiment runs")
        if words[:2] == ["dask", "scheduler"]:
            file = Path(words[words.index("--scheduler-file") + 1])
            wait_until(file.exists, "the scheduler file is there")


def running() -> set[Path]:
    """Find the experiments below the current folder that run."""
    return {store for store in Path().rglob("*.zarr") if (store / ".l2l").exists() and state(store) == "running"}


def state(store: str | Path) -> str:
    from l2l_dask.trajectory import load

    return load(store).state


def wait_until(condition: Any, what: str) -> None:
    until = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > until:
            raise BlockError(f"waited in vain until {what}")
        time.sleep(0.1)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process that was started here, and those that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def cluster(page: Path) -> Iterator[dict[str, str]]:
    """Start a page's cluster, if it has one; Dask's own settings then say where ``local`` is."""
    if page.name not in ONE_CLUSTER:
        yield {}
        return
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=50
    ) as started:
        yield {"DASK_SCHEDULER_ADDRESS": started.scheduler_address}


def main(page: Path, scratch: Path) -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))  # so that what runs in the background is ended
    # As in a notebook: what a page defines belongs to __main__, and not to an importable module.
    sys.modules["__main__"].__dict__.pop("__file__", None)
    sys.path.insert(0, "")
    with cluster(page) as settings:
        run = Run(page, scratch, {"__name__": "__main__"}, settings)
        try:
            for block in blocks(page):
                started = time.monotonic()
                try:
                    run.carry_out(block)
                except BaseException:
                    for file in sorted(scratch.glob("background-*.txt")):
                        sys.stderr.write(f"\n{file.name}:\n{file.read_text(errors='replace')[-2000:]}")
                    sys.stderr.write(f"\n{page.name}, the block at line {block.line}:\n")
                    raise
                sys.stdout.write(f"[{page.name}:{block.line}, {time.monotonic() - started:.1f} s]\n")
        finally:
            for process in reversed(run.background):
                end(process)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
