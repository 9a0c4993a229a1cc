"""The experiments that a service drives: stores in its folder that somebody submitted."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from l2l_dask.errors import L2LError
from l2l_dask.service import place
from l2l_dask.trajectory import look

ENDED = ("finished", "failed", "stopped")


@dataclass(frozen=True)
class Submission:
    """What a service knows of a store, in a small file inside of that.

    Attributes
    ----------
    weight
        Its share of the slots, relative to those of others.
    submitted
        When (seconds since 1970).
    paused
        Whether it is to start paused, as it was when its last driver left.
    again
        Whether it is to go on although it was stopped, or failed.
    problem
        Why it is not driven any more; empty if it is.
    """

    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    submitted: float = field(default_factory=time.time)
    paused: bool = False
    again: bool = False
    problem: str = ""


_FORM = TypeAdapter(Submission)


def entry(store: Path) -> Path:
    return store / ".l2l" / "service.json"


def is_submitted(store: Path) -> bool:
    """Tell whether a store is, or was, a service's business."""
    return entry(store).exists()


@contextmanager
def _locked(store: Path) -> Iterator[None]:
    """Keep others, who may be the service or its user, from changing an entry between our reading and writing it."""
    descriptor = os.open(entry(store).with_suffix(".lock"), os.O_CREAT | os.O_RDWR, 0o600)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def submit(store: Path, **said: Any) -> None:
    """Enter a store, or enter it again: what is not said stays as it was."""
    with _locked(store):
        place.write(entry(store), asdict(replace(read(store) or Submission(), **said)))


def withdraw(store: Path) -> None:
    """Take a store out of the queue; one that is gone is not in it."""
    with suppress(FileNotFoundError), _locked(store):
        entry(store).unlink(missing_ok=True)


def read(store: Path) -> Submission | None:
    """Read what was submitted, None if nothing was; what somebody wrote there that makes no sense is its problem."""
    content = place.read(entry(store), secret=False)
    try:
        return _FORM.validate_python(content) if content else None
    except ValidationError as error:
        wrong = {str(fault["loc"][0]): f"{fault['msg']}, got {fault['input']!r}" for fault in error.errors()}
        problem = "; ".join(f"{entry(store)}: {name}: {said}" for name, said in wrong.items())
        right = {name: value for name, value in content.items() if name not in wrong}
        return _FORM.validate_python(right | {"problem": problem})


def change(store: Path, **changes: Any) -> None:
    """Change what a service knows of a store, if it knows of it."""
    if not is_submitted(store):
        return
    with suppress(FileNotFoundError), _locked(store):  # it may be removed at any moment
        known = read(store)
        if known is not None and replace(known, **changes) != known:
            place.write(entry(store), asdict(replace(known, **changes)))


@dataclass(frozen=True)
class Known:
    """A submitted store, as it is now."""

    store: Path
    uuid: str
    state: str
    submission: Submission

    @property
    def unfinished(self) -> bool:
        """Whether it is to go on, now or once there is a driver again."""
        if self.submission.problem or self.state == "finished":
            return False
        return self.state not in ENDED or self.submission.again

    @property
    def waits(self) -> bool:
        """Whether it needs a driver: one that runs has its own, ours or another's."""
        return self.unfinished and self.state not in ("running", "paused")


class Shelf:
    """Watches the stores in a folder.

    Parameters
    ----------
    root
        The folder.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._ended: dict[str, tuple[tuple[int, ...], Known]] = {}

    def look(self) -> Mapping[str, Known]:
        """Return the submitted stores by name; one that cannot be read is left out until it can."""
        found = {}
        try:
            names = sorted(name for name in os.listdir(self._root) if name.endswith(".zarr") and name[0] != ".")
        except OSError:
            return {}
        for name in names:
            try:
                known = self._known(name)
            except (L2LError, OSError):
                continue
            if known is not None:
                found[name.removesuffix(".zarr")] = known
        return found

    def _known(self, name: str) -> Known | None:
        store = self._root / name
        if not entry(store).exists():
            return None
        stamp = tuple(path.stat().st_mtime_ns for path in (entry(store), store / ".l2l" / "state.json"))
        if name in self._ended and self._ended[name][0] == stamp:
            return self._ended[name][1]
        submission = read(store)
        if submission is None:
            return None
        known = Known(store, *look(store), submission)
        if known.state in ENDED:
            self._ended[name] = stamp, known
        return known
