"""Who may talk to a scheduler: whoever can read its key."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from distributed import Security


@dataclass(frozen=True)
class Tls:
    """A certificate that signs itself, and its key: the same for scheduler, workers and clients.

    Attributes
    ----------
    folder : pathlib.Path
        Readable by its owner alone.
    """

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "certificate.pem"

    @property
    def key(self) -> Path:
        return self.folder / "key.pem"

    def security(self) -> Security:
        """Make what Dask takes; it names files, so that a job's script holds no secret."""
        paths = {"cert": str(self.certificate), "key": str(self.key)}
        roles = {
            f"tls_{role}_{kind}": path for role in ("client", "scheduler", "worker") for kind, path in paths.items()
        }
        return Security(require_encryption=True, tls_ca_file=str(self.certificate), **roles)

    def server_context(self) -> ssl.SSLContext:
        """Make what a port takes that lets in nobody but who shows a certificate of this key, as the scheduler's."""
        context: ssl.SSLContext = self.security().get_listen_args("scheduler")["ssl_context"]
        return context

    def client_context(self) -> ssl.SSLContext:
        """Make what is let in there, and trusts nobody who does not show a certificate of this key."""
        context: ssl.SSLContext = self.security().get_connection_args("client")["ssl_context"]
        return context

    def remove(self) -> None:
        """Remove the files, and the folder if nothing else is in it."""
        for path in (self.certificate, self.key):
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def make(folder: Path) -> Tls:
    """Make a certificate and its key, valid for a year, in a folder that only its owner can look into."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    made, tls = Security.temporary(), Tls(folder)
    _write(tls.certificate, made.tls_client_cert)
    _write(tls.key, made.tls_client_key)
    return tls


def _write(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
