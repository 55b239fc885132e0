"""Published families of sizes, each size held out: is it flagged beside the others, as it is and raised?

    python benchmarks/flags_families.py --data FOLDER [--markdown]

The folder holds `gadre2024`, whose errors are those of finished runs of several lengths, and `porian2024`,
whose errors at a size are those of one experiment at several budgets. The errors of a size at its amounts of
data are given to `foretrain.flag_run` as validations at a constant rate, for each is the end of a schedule,
beside those of the other sizes, of all or of the smaller ones. Raised by 5, 10 or 20 % they should be
flagged. `olmo_ladder` has two sizes, too few for a law of size.
"""

from __future__ import annotations

import argparse
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from foretrain import flag_run
from foretrain.flags import Flag
from joint import porian_points, rows_of
from scores import Sheet

STEPS = 100_000
"""The most data of a family are so many steps."""

FEWEST = 4
"""Amounts of data of a size, at least."""

RAISED = (0.0, 0.05, 0.1, 0.2)


def families(folder: Path) -> list[tuple[str, np.ndarray]]:
    """The set, and size, data and error of each point of a family, shape (3, n)."""
    found = [("porian2024", np.stack(points)) for points in porian_points(folder).values()]
    told = defaultdict(list)
    for row in rows_of(folder / "gadre2024" / "runs.csv"):
        for loss in (name for name in row if name.startswith("loss_") and row[name]):
            told[row["train_set"], loss].append([float(row[k]) for k in ("N", "D_tokens", loss)])
    return found + [("gadre2024", np.array(points).T) for points in told.values()]


def run_of(points: np.ndarray, size: float) -> dict[str, np.ndarray | float]:
    """The points of one size as a member of a library."""
    own = points[:, points[0] == size]
    step = np.maximum(np.round(own[1] / points[1].max() * STEPS), 1).astype(int)
    return {"step": step, "y": own[2], "lr": np.ones(STEPS), "n_params": size}


def runs_of(points: np.ndarray) -> list[dict[str, np.ndarray | float]]:
    """The sizes that have enough points, from the smallest."""
    sizes, count = np.unique(points[0], return_counts=True)
    return [run_of(points, float(size)) for size in sizes[count >= FEWEST]]


def above(run: dict, library: list[dict], by: float) -> tuple[bool, bool]:
    """Whether a run raised by so much is flagged at all, and whether by the law of other sizes."""
    flags: tuple[Flag, ...] = flag_run(
        run["step"], run["y"] * np.exp(by), run["lr"], library, n_params=run["n_params"]
    )
    return bool(flags), any("sizes" in flag.evidence for flag in flags)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    home = os.environ.get("FORETRAIN_DATA")
    parser.add_argument("--data", type=Path, required=home is None, default=home, help="folder of the sets")
    parser.add_argument("--markdown", action="store_true", help="print the table to paste")
    args = parser.parse_args()
    found: dict[tuple[str, str], list[list[bool]]] = defaultdict(list)
    for name, points in track(families(Path(args.data)), console=Console(stderr=True)):
        runs = runs_of(points)
        for index, run in enumerate(runs):
            for which, library in (
                ("all others", runs[:index] + runs[index + 1 :]),
                ("smaller", runs[:index]),
            ):
                # The smallest of all is not judged, nor one beside fewer than three others.
                if len(library) > 2 and index:
                    told = [above(run, library, by) for by in RAISED]
                    found[name, which].append([told[0][0], *(by_law for _, by_law in told)])
    sheet = Sheet(
        "published families, a size held out: flagged",
        ("", "beside", "runs", "healthy", *(f"{by:.0%} above" for by in RAISED[1:])),
    )
    for (name, which), rows in sorted(found.items()):
        healthy, _, *raised = np.sum(rows, axis=0)
        sheet.add(name, which, str(len(rows)), *(str(int(one)) for one in (healthy, *raised)))
    sheet.show(markdown=args.markdown)


if __name__ == "__main__":
    main()
