"""The journal: append-only files of checksummed records, one sequence of segments for each epoch (each driver).

A record is its payload's length and CRC-32 (two little-endian unsigned 32-bit numbers) and the payload, a MessagePack
map. Reading ends at the first record that is empty, cut short or does not match its checksum: what a crash tore off, or
the zeros that a file system put there.

The first record of a segment, its header, says from where the arrays of the store go on, and which segment came before
and how long that was. A segment without a header was not started.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]

from l2l_dask.errors import StoreError
from l2l_dask.saving import sync
from l2l_dask.trajectory.layout import Layout

_HEAD = struct.Struct("<II")
_pack = msgpack.Packer().pack
_BEGINNING: bytes = _pack("kind")  # of each map, after the byte that counts its keys


def pack(record: dict[str, Any]) -> bytes:
    payload: bytes = _pack(record)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def _frames(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield where each whole record ends, and its payload."""
    with path.open("rb") as file:
        end = 0
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            size, checksum = _HEAD.unpack(head)
            payload = file.read(size)
            if not payload or len(payload) < size or zlib.crc32(payload) != checksum:
                return
            end += _HEAD.size + size
            yield end, payload


def read(path: Path, length: int | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal's file, or of its first ``length`` bytes, up to the first that is not whole."""
    for end, payload in _frames(path):
        if length is not None and end > length:
            return
        yield msgpack.unpackb(payload)


def payloads(path: Path, length: int, kind: str) -> Iterator[bytes]:
    """Yield the payloads of one kind of records among the first ``length`` bytes; the others are not unpacked."""
    beginning = _BEGINNING + _pack(kind)
    for end, payload in _frames(path):
        if end > length:
            return
        if payload.startswith(beginning, 1):
            yield payload


def whole_bytes(path: Path) -> int:
    """Count the bytes up to the end of the last record that is whole."""
    return max((end for end, _ in _frames(path)), default=0)


def goes_on(path: Path, end: int) -> bool:
    """Tell whether whole records follow one that is not: then that was not torn off, but damaged."""
    with path.open("rb") as file:
        file.seek(end)
        rest = file.read()
    at = rest.find(_BEGINNING)
    while at >= 0:
        start = at - 1 - _HEAD.size  # of a record, if the first byte of its payload is the one before
        if start >= 0:
            size, checksum = _HEAD.unpack_from(rest, start)
            if zlib.crc32(rest[at - 1 : at - 1 + size]) == checksum:
                return start > 0  # else nothing is damaged: it was appended just now
        at = rest.find(_BEGINNING, at + 1)
    return False


class Journal:
    """The file of the journal that this process appends to.

    Parameters
    ----------
    path
        Emptied if it is there: for the first segment of an epoch, :func:`claim` made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC, 0o644)
        self.size = 0
        self._pending: list[bytes] = []
        self._unsynced = False
        self._broken = ""  # why nothing can be appended any more

    def start(self, header: dict[str, Any]) -> None:
        """Write the first record; from here on, a crash of the machine does not undo the segment.

        Raises
        ------
        StoreError
            If it cannot be written.
        """
        self.add(header)
        self.append(durable=True)
        try:
            sync(self.path.parent)
        except OSError as error:
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error

    def add(self, record: dict[str, Any]) -> None:
        """Put a record into the next append."""
        self._pending.append(pack(record))

    def append(self, *, durable: bool) -> None:
        """Write what was added, in one piece.

        Parameters
        ----------
        durable
            Wait until it is on the disk, with all that was written before, so that it survives the machine's crash and
            not just the process's.

        Raises
        ------
        StoreError
            If it cannot be written; the file is then as it was before. Where that cannot be had, or the disk failed to
            take what it had accepted, every later append fails too.
        """
        if self._broken:
            raise StoreError(self._broken)
        if not self._pending and not (durable and self._unsynced):
            return
        data = b"".join(self._pending)
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, data[written:] if written else data)
            self._unsynced = True
            if durable:
                os.fsync(self._file)
                self._unsynced = False
        except OSError as error:
            refused = f"{self.path} cannot be written: {error.strerror}"
            # After a failed fsync nobody knows what of all that was not synced is on the disk, nor ever will.
            if not self._cut() or written == len(data):
                self._broken = refused
            raise StoreError(refused) from error
        self._pending.clear()
        self.size += len(data)

    def _cut(self) -> bool:
        """Take back what was written of an append; what stays is no harm as long as nothing is appended to it."""
        try:
            os.ftruncate(self._file, self.size)
        except OSError:
            return False
        return True

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def claim(path: Path) -> bool:
    """Create a journal's file that must not exist yet: of several drivers at once, one succeeds."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    return True


def newest(layout: Layout) -> tuple[int, int] | None:
    """Find the newest segment that was started; None if there is none."""
    for epoch, segment in reversed(layout.segments()):
        if next(read(layout.journal(epoch, segment)), None) is not None:
            return epoch, segment
    return None


def history(layout: Layout) -> list[tuple[Path, int]]:
    """List all segments from the very first on, and how long each was when the next was started.

    What a driver that was suspended and replaced appended later is not part of it.

    Raises
    ------
    StoreError
        If one is missing or damaged.
    """
    chain: list[tuple[Path, int]] = []
    at = newest(layout)
    length = whole_bytes(layout.journal(*at)) if at else 0
    while at is not None:
        path = layout.journal(*at)
        header = next(read(path), None) if path.exists() else None
        if header is None or whole_bytes(path) < length:
            raise StoreError(f"{layout.root} is damaged, and so is its journal: {path} is not whole")
        chain.append((path, length))
        at, length = (tuple(header["before"][:2]), header["before"][2]) if header["before"] else (None, 0)
    return chain[::-1]
