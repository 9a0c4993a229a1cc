"""The command ``l2l``."""

from __future__ import annotations

import signal
import sys

from l2l_dask.errors import L2LError


def main() -> None:
    """Run the command line: bad input is one line and status 2, a failed experiment 1, an interrupted one 130."""
    import click

    from l2l_dask.cli.batch_script import batch_script
    from l2l_dask.cli.commands import cli
    from l2l_dask.cli.dashboard import dashboard
    from l2l_dask.cli.service import service

    cli.add_command(service)
    cli.add_command(dashboard)
    cli.add_command(batch_script)

    try:
        raise SystemExit(cli.main(prog_name="l2l", standalone_mode=False))
    except SystemExit as end:
        if end.code == 130:  # the end is under way, and a further Ctrl-C would only tear it
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(2) from None
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "l2l"
        _say(f"{error.format_message()} ({command} --help says more)")
        raise SystemExit(2) from None
    except L2LError as error:
        _say(str(error))
        raise SystemExit(error.exit_status) from None
    except click.Abort:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _say("interrupted")
        raise SystemExit(130) from None
    except BrokenPipeError:
        raise SystemExit(1) from None


def _say(message: str) -> None:
    """Write one line, whatever line ends a user's text brought into the message."""
    sys.stderr.write(f"l2l: {' '.join(message.splitlines())}\n")
