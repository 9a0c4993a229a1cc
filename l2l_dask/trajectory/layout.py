"""Where things lie in a store, and what may be done to it from outside: state, control, attributes.

A store is a Zarr group ``NAME.zarr``. What the driver needs beside the arrays is in its folder ``.l2l``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal, get_args

from l2l_dask.errors import StoreError
from l2l_dask.saving import sync

_log = logging.getLogger(__name__)

FORMAT = 1
_SEGMENT = re.compile(r"journal-(\d{6,})-(\d{6,})\.log")

State = Literal["queued", "running", "paused", "finished", "stopped", "failed", "interrupted"]
LIVE: tuple[State, ...] = ("queued", "running", "paused")  # in which more is to come
Command = Literal["stop", "stop-now", "pause", "unpause"]


@dataclass(frozen=True)
class Layout:
    """The paths of one store."""

    root: Path

    @property
    def private(self) -> Path:
        return self.root / ".l2l"

    @property
    def metadata(self) -> Path:
        return self.root / "zarr.json"

    @property
    def lease(self) -> Path:
        return self.private / "lease.json"

    @property
    def state(self) -> Path:
        return self.private / "state.json"

    @property
    def control(self) -> Path:
        return self.private / "control.jsonl"

    @property
    def underway(self) -> Path:
        return self.private / "underway.json"

    @property
    def actions(self) -> Path:
        return self.private / "actions.jsonl"

    @property
    def errors(self) -> Path:
        return self.private / "errors.jsonl"

    @property
    def pickled(self) -> Path:
        return self.private / "objects.pickle"

    @property
    def trusted(self) -> Path:
        return self.private / "trusted.json"

    @property
    def targets(self) -> Path:
        return self.private / "targets"

    @property
    def saved(self) -> Path:
        return self.root / "saved"

    @property
    def rebuilding(self) -> Path:
        """There while the arrays are made anew from the journal."""
        return self.private / "rebuilding"

    def journal(self, epoch: int, segment: int = 0) -> Path:
        return self.private / f"journal-{epoch:06d}-{segment:06d}.log"

    def segments(self) -> list[tuple[int, int]]:
        """List the journal's files, ascending: (epoch, segment)."""
        names = os.listdir(self.private) if self.private.is_dir() else []
        found = [_SEGMENT.fullmatch(name) for name in names]
        return sorted((int(match[1]), int(match[2])) for match in found if match)

    def epochs(self) -> list[int]:
        """List the epochs that were claimed, ascending."""
        return sorted({epoch for epoch, _ in self.segments()})


def write_atomically(path: Path, data: bytes, *, durable: bool = False, mode: int = 0o666) -> None:
    """Replace a file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with open(temporary, "xb", opener=partial(os.open, mode=mode)) as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if durable:
            sync(path.parent)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, content: Any, *, durable: bool = False) -> None:
    write_atomically(path, json.dumps(content).encode(), durable=durable)


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a small file that is replaced atomically; None if it is not there."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise StoreError(f"{path} is damaged: {error}") from None
    return content if isinstance(content, dict) else None


def open_layout(store: str | os.PathLike[str]) -> tuple[Layout, dict[str, Any]]:
    """Find a store and read what it says of itself.

    Returns
    -------
    The layout, and the attribute ``l2l_dask`` of the group: ``format``, ``uuid`` and ``experiment``.

    Raises
    ------
    StoreError
        If there is none, it cannot be read, or its format is another version's.
    """
    layout = Layout(Path(store).absolute())  # the folder may change while it is in use
    try:
        content = read_json(layout.metadata)
    except PermissionError:
        raise StoreError(f"{store} cannot be read: permission denied") from None
    except NotADirectoryError:
        content = None
    except OSError as error:
        raise StoreError(f"{store} cannot be read: {error.strerror}") from error
    if content is None:
        raise StoreError(f"there is no store at {store}: expected the folder NAME.zarr that `l2l run` wrote")
    attributes = content.get("attributes")
    described = attributes.get("l2l_dask") if isinstance(attributes, dict) else None
    if not isinstance(described, dict):
        raise StoreError(f"{store} is a Zarr group, but not one that l2l_dask wrote")
    if described.get("format") != FORMAT:
        raise StoreError(
            f"{store} has format {described.get('format')!r}, this version of l2l_dask reads format {FORMAT}: "
            "use the version that wrote it"
        )
    return layout, described


def stores_below(folder: Path) -> list[Path]:
    """Find the stores below a folder, without looking into them."""
    if folder.suffix == ".zarr":
        return [folder]
    found = []
    for place, folders, _ in os.walk(folder):
        found += [Path(place) / name for name in folders if name.endswith(".zarr") and not name.startswith(".")]
        folders[:] = [name for name in folders if not name.endswith(".zarr")]
    return sorted(found)


def store_below(folder: Path, name: str) -> Path | None:
    """Return the store of that path below a folder, if :func:`stores_below` would find it; look at no other."""
    *above, last = name.split("/")
    if not last.endswith(".zarr") or last.startswith("."):
        return None
    for part in above:
        folder /= part
        if part in ("", ".", "..") or part.endswith(".zarr") or os.path.islink(folder):
            return None
    return folder / last if os.path.isdir(folder / last) else None


def send(store: str | os.PathLike[str], command: Command) -> None:
    """Leave a command for the driver of a store, after those that it has not seen yet."""
    layout, _ = open_layout(store)
    try:
        with layout.control.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"command": command}) + "\n")
    except OSError as error:
        raise StoreError(f"{store} cannot be written: {error.strerror}") from None


def sent(layout: Layout, seen: int) -> list[Command]:
    """Read the commands that were left for this driver, but for the first ``seen``; other lines do not count."""
    try:
        lines = layout.control.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    except OSError:
        return []
    return [command for line in lines if (command := _command(layout.control, line))][seen:]


@cache
def _command(path: Path, line: str) -> Command | None:
    """Read a line; one that holds no command is remarked on once."""
    with suppress(ValueError):
        content = json.loads(line)
        command: Command | None = content.get("command") if isinstance(content, dict) else None
        if command in get_args(Command):
            return command
    _log.warning("%s: expected one of %s, skipped %.80r", path, ", ".join(get_args(Command)), line)
    return None


def read_lease(layout: Layout) -> dict[str, Any] | None:
    """Read the lease; one that a power failure damaged is held by nobody known."""
    try:
        return read_json(layout.lease)
    except StoreError:
        epoch = max(layout.epochs(), default=0)
        return {"epoch": epoch, "beat": -1, "machine": "", "host": "an unknown machine", "pid": "unknown"}
