"""What the commands of the example studies share: their arguments, and telling what became of the runs."""

from __future__ import annotations

import argparse
import logging
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from foretrain.study import process_pool


def run_command(
    doc: str | None,
    root: str,
    run: Callable[..., tuple[Any, Any]],
    show: Callable[[Any, Console], None],
    draw: Callable[[Any, Path], None],
    *,
    data: str | None = None,
) -> None:
    """Runs a study from the command line, says what it tells and draws it.

    Args:
        doc: Description of the command.
        root: Default root of the store.
        run: Takes a root, an executor, `small` and, with `data`, `path`; gives what became of the points and
            what the runs tell.
        show: Says what they tell.
        draw: Draws it into a file.
        data: What the option `--data` is; None for no such option.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=Path, default=Path(root))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--picture", type=Path, help="where to put a picture (needs matplotlib)")
    parser.add_argument("--small", action="store_true", help="a few short runs, to see that it works")
    if data is not None:
        parser.add_argument("--data", type=Path, help=data)
    args = parser.parse_args()
    console = Console()
    console = console if console.is_terminal else Console(width=120)
    options = {"small": args.small}
    if data is not None:
        options["path"] = None if args.data is None else str(args.data.absolute())
    executor = process_pool(args.workers) if args.workers > 1 else None
    begun = time.monotonic()
    outcome, told = run(args.root, executor, **options)
    for failed in outcome.unfinished:
        console.print(f"{failed.point.run} {failed.state}: {failed.error}", style="red", markup=False)
    finished = len(outcome.outcomes) - len(outcome.unfinished)
    console.print(
        f"{finished} of {len(outcome.outcomes)} runs are finished, after {time.monotonic() - begun:.0f} s."
    )
    show(told, console)
    if args.picture is not None:
        draw(told, args.picture)
        console.print(f"Picture: {args.picture}")


def be_quiet() -> None:
    """Has Lightning say nothing of the many short runs of a study."""
    for name in ("lightning.pytorch", "pytorch_lightning", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        ".*does not have many workers.*",
        ".*LeafSpec.*",
        ".*smaller than the logging interval.*",
    ):
        warnings.filterwarnings("ignore", message=message)
