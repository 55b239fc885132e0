"""What every subcommand prints with: text that cannot act on a terminal, tables, counts, progress."""

from __future__ import annotations

import argparse
import math
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Literal, TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

# C0 and C1 control characters, and those that turn the direction of what follows.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_LONGEST = 200
_LONGEST_NUMBER = 14  # 1,000,000,000 and a little

Item = TypeVar("Item")


class CommandError(Exception):
    """Ends a command; its text is for the user.

    Attributes:
        code: The exit code.
    """

    def __init__(self, text: str, code: int = 1) -> None:
        super().__init__(visible(text, longest=10_000))
        self.code = code


def visible(text: object, longest: int = _LONGEST) -> str:
    """A text as it can be printed: what would move the cursor or turn the writing is shown as its number."""
    shown = _UNSAFE.sub(lambda found: f"\\x{ord(found[0]):02x}", str(text))
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def console() -> Console:
    """Where results go. Names of runs are no markup: "[red]" is printed as it is."""
    return Console(markup=False, highlight=False)


def warn(text: str) -> None:
    """Prints a sentence beside the results."""
    print(visible(text, longest=10_000), file=sys.stderr)


def progress(items: Sequence[Item], doing: str, *, least: int = 8) -> Iterable[Item]:
    """The items one by one, with a bar on a terminal where there are many."""
    screen = Console(stderr=True)
    return track(items, doing, console=screen, disable=len(items) < least or not screen.is_terminal)


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, left: int = 1) -> Table:
    """A table whose first columns are texts and whose other ones are numbers.

    Args:
        title: Its title.
        columns: Their names.
        rows: What they hold.
        left: How many columns hold text.
    """
    made = Table(title=visible(title))
    shown = [[visible(cell) for cell in row] for row in rows]
    for place, column in enumerate(columns):
        words = [column, *(row[place] for row in shown)]
        # A number in two lines is misread; what has several words can give way.
        whole = place >= left and all(len(word) <= _LONGEST_NUMBER and " " not in word for word in words)
        justify: Literal["left", "right"] = "left" if place < left else "right"
        made.add_column(visible(column), justify=justify, overflow="fold", no_wrap=whole)
    for cells in shown:
        made.add_row(*cells)
    return made


def count(x: float) -> str:
    """A count in three digits: 920,000; below a hundred as it is."""
    return f"{float(f'{x:.3g}'):,.0f}" if x >= 100 else f"{x:.3g}"


def positive(text: str) -> float:
    """An argument that is a positive number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number such as 3e18, got {text}")
    return value
