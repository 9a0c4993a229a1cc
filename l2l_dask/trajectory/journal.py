"""The journal: an append-only file of checksummed records, one file per epoch (per driver).

A record is its payload's length and CRC-32 (two little-endian unsigned 32-bit numbers) and the payload, a MessagePack
map. Reading ends at the first record that is empty, cut short or does not match its checksum: what a crash tore off, or
the zeros that a file system put there.
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

_HEAD = struct.Struct("<II")


def pack(record: dict[str, Any]) -> bytes:
    payload: bytes = msgpack.packb(record)
    return _HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a journal up to the first that is not whole."""
    with path.open("rb") as file:
        while len(head := file.read(_HEAD.size)) == _HEAD.size:
            length, checksum = _HEAD.unpack(head)
            payload = file.read(length)
            if not payload or len(payload) < length or zlib.crc32(payload) != checksum:
                return
            yield msgpack.unpackb(payload)


class Journal:
    """The journal that this process appends to.

    Parameters
    ----------
    path
        Must exist and be empty: :func:`claim` made it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._length = 0
        self._pending: list[bytes] = []

    def add(self, record: dict[str, Any]) -> None:
        """Put a record into the next append."""
        self._pending.append(pack(record))

    def append(self, *, durable: bool) -> None:
        """Write what was added, in one piece.

        Parameters
        ----------
        durable
            Wait until it is on the disk, so that it survives the machine's crash and not just the process's.

        Raises
        ------
        StoreError
            If it cannot be written; the file is then as it was before.
        """
        if not self._pending:
            return
        data = b"".join(self._pending)
        try:
            written = 0
            while written < len(data):
                written += os.write(self._file, data[written:])
            if durable:
                os.fsync(self._file)
        except OSError as error:
            self._cut()
            raise StoreError(f"{self.path} cannot be written: {error.strerror}") from error
        self._pending.clear()
        self._length += len(data)

    def _cut(self) -> None:
        try:
            os.ftruncate(self._file, self._length)
        except OSError:
            return  # a torn tail is as good: reading stops there

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def claim(path: Path) -> bool:
    """Create a journal that must not exist yet: of several drivers at once, one succeeds."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    return True
