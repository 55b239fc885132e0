"""The options that the benchmarks on published curves share."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from curves import SETS, Curve, load
from peers import METHODS, installed, packages


@dataclass(frozen=True)
class Options:
    """What was asked for.

    Attributes:
        data: Folder that holds the sets.
        sets: Those to take.
        horizons: Largest x over that of the fit.
        methods: Those whose packages are installed, in the order asked.
        every: Take each so-many-th curve of a domain.
        markdown: Print tables to paste.
        attainable: Print what the best answer would reach that is found in hindsight.
    """

    data: Path
    sets: tuple[str, ...]
    horizons: tuple[float, ...]
    methods: tuple[str, ...]
    every: int
    markdown: bool
    attainable: bool

    def curves(self) -> Iterator[tuple[float, list[Curve]]]:
        """The curves of each horizon."""
        for horizon in self.horizons:
            yield horizon, thinned(load(self.data, horizon, self.sets), self.every)


def thinned(curves: Sequence[Curve], every: int) -> list[Curve]:
    """Each so-many-th curve of every domain, from its first."""
    seen: dict[str, int] = {}
    kept = []
    for curve in curves:
        place = seen[curve.domain] = seen.get(curve.domain, -1) + 1
        if place % every == 0:
            kept.append(curve)
    return kept


def parse(description: str | None, default: Sequence[str]) -> Options:
    """Reads the command line; `default` are the methods taken without `--methods`."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.environ.get("FORETRAIN_DATA")
    parser.add_argument(
        "--data",
        type=Path,
        required=home is None,
        default=home,
        help="folder that holds the sets, one sub-folder each (default: FORETRAIN_DATA)",
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="sets to take")
    parser.add_argument(
        "--horizon", type=float, nargs="+", default=[2.0], help="largest x over that of the fit (default: 2)"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        choices=METHODS,
        default=list(default),
        metavar="METHOD",
        help=f"of: {'; '.join(METHODS)} (default: {'; '.join(default)})",
    )
    parser.add_argument(
        "--every", type=int, default=1, help="take each so-many-th curve, for slow methods (default: 1)"
    )
    parser.add_argument("--peers-path", type=Path, help="folder of packages outside the environment")
    parser.add_argument("--attainable", action="store_true", help="print what hindsight would reach")
    parser.add_argument("--markdown", action="store_true", help="print tables to paste")
    told = parser.parse_args()
    if told.every < 1:
        parser.error(f"expected --every to be at least 1, got {told.every}")
    packages.add_path(told.peers_path)
    return Options(
        data=Path(told.data),
        sets=tuple(told.sets),
        horizons=tuple(told.horizon),
        methods=tuple(installed(told.methods)),
        every=told.every,
        markdown=told.markdown,
        attainable=told.attainable,
    )
