"""The `metrics.csv` of Lightning's CSVLogger: columns `epoch`, `step` and one a metric."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from foretrain.importers.columns import Columns, read_rows
from foretrain.importers.logs import LogError, LoggedRun, Source, files_named, name_under
from foretrain.importers.settings import read_flat_yaml

STEP = "step"


def find(path: Path) -> list[Path]:
    """The files `metrics.csv` under a path, or the file itself whatever its name."""
    return files_named(path, lambda name: name == "metrics.csv")


def read(place: Path, root: Path, wanted: Collection[str]) -> list[LoggedRun]:
    """The run that one file tells of; its hyperparameters are in `hparams.yaml` beside it.

    Raises:
        LogError: If the file has no column `step`.
    """
    header, rows = read_rows(place)
    if STEP not in header:
        raise LogError(
            f"Expected a column `step` in {place}, got {', '.join(header[:20])}: this is not the metrics.csv "
            "of Lightning's CSVLogger; W&B's exports are imported as `wandb`."
        )
    columns = Columns(wanted, STEP)
    for row in rows:
        columns.add(row)
    folder = place.parent
    return [
        LoggedRun(
            name=name_under(root if root.is_dir() else folder, folder),
            series=columns.series,
            names=tuple(name for name in header if name not in (STEP, "epoch")),
            settings=read_flat_yaml(folder / "hparams.yaml"),
            problems=columns.problems(place),
        )
    ]


SOURCE = Source("csv", find, read)
