"""The command ``l2l``."""

from __future__ import annotations

import sys

from l2l_dask.errors import L2LError


def main() -> None:
    """Run the command line: bad input is one line and status 2, a failed experiment 1, an interrupted one 130."""
    from l2l_dask.cli.commands import cli

    try:
        cli.main(standalone_mode=True)
    except L2LError as error:
        sys.stderr.write(f"l2l: {error}\n")
        raise SystemExit(2) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
