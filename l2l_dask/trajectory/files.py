"""The files of a store's arrays: which were written, and bringing them to the disk."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from zarr.core.buffer import Buffer
from zarr.storage import LocalStore

from l2l_dask.saving import sync
from l2l_dask.trajectory.layout import Layout, write_atomically

_GROUP = "zarr.json"


class Files(LocalStore):
    """A store on the local file system that can bring what it wrote to the disk.

    The group's own metadata are on the disk at once: they say what was run, and nothing else does.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.written: set[str] = set()

    async def set(self, key: str, value: Buffer) -> None:
        if key == _GROUP:
            write_atomically(self.root / key, value.to_bytes(), durable=True)
            return
        self.written.add(key)
        await super().set(key, value)

    async def delete(self, key: str) -> None:
        self.written.discard(key)
        await super().delete(key)

    def sync(self) -> None:
        """Bring all that was written since the last time to the disk, and the folders that it is in."""
        written, self.written = self.written, set()
        try:
            sync_all(self.root, (self.root / key for key in written))
        except OSError:
            self.written |= written
            raise


def sync_all(root: Path, files: Iterable[Path]) -> None:
    """Bring files to the disk, and the folders between them and ``root``; one that is gone is no concern."""
    folders = {root}
    for path in files:
        if not path.exists():
            continue
        sync(path)
        for folder in path.parents:
            if folder in folders:
                break
            folders.add(folder)
    for folder in folders:
        sync(folder)


def sync_store(layout: Layout) -> None:
    """Bring a whole store to the disk, but for what evaluations saved."""
    sync_all(layout.root, _files(layout.root, skip=layout.saved))


def chunks_of(root: Path, names: Iterable[str]) -> dict[str, list[int]]:
    """List the chunks of arrays, by the first index in their names, as far as there are any."""
    found = {name: sorted(_indices(root / name / "c")) for name in names}
    return {name: indices for name, indices in found.items() if indices}


def _indices(folder: Path) -> Iterable[int]:
    for path in _files(folder):
        first = path.relative_to(folder).parts[0]
        if first.isdecimal():
            yield int(first)


def clean(layout: Layout) -> None:
    """Remove what a writer that was killed left half-written."""
    for path in _files(layout.root, skip=layout.saved):
        torn = path.name.startswith(".") and _is_hex(path.name[-32:])
        # The lease is being rewritten by this very process.
        if path.suffix == ".partial" or (torn and not path.name.startswith(".lease")):
            path.unlink(missing_ok=True)


def _files(folder: Path, skip: Path | None = None) -> Iterable[Path]:
    for at, folders, names in os.walk(folder):
        if skip is not None and skip.name in folders and Path(at) == skip.parent:
            folders.remove(skip.name)
        for name in names:
            yield Path(at, name)


def _is_hex(text: str) -> bool:
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
