"""The `foretrain` command: a module a subcommand, each with `add_parser(commands)` and `run(args) -> int`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from foretrain import __version__
from foretrain.cli import compare, fit, flags, import_logs, plan, report, store, study
from foretrain.cli.output import CommandError

COMMANDS = (report, fit, flags, compare, import_logs, store, plan, study)
"""The subcommands, in the order in which the help lists them."""

EXIT_CODES = """\
exit codes: 0 all is well; 1 there was nothing to do it with, or something in the data is damaged or missing;
2 the command was not understood."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command and its subcommands."""
    parser = argparse.ArgumentParser(
        prog="foretrain", description="Scaling laws of training runs.", epilog=EXIT_CODES
    )
    parser.add_argument("--version", action="version", version=f"foretrain {__version__}")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in COMMANDS:
        command.add_parser(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        argv: The arguments; the process's own if None.

    Returns:
        0, or 1 where there was nothing to do it with or something is damaged, or 2 where what was asked for
        makes no sense.
    """
    args = make_parser().parse_args(argv)
    try:
        code = int(args.run(args))
        sys.stdout.flush()
        return code
    except CommandError as error:
        print(error, file=sys.stderr)
        return error.code
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
