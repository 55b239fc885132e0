"""TensorBoard's event files: a folder that holds some is a run."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from foretrain.importers.logs import LogError, LoggedRun, Point, Source, files_named, in_order, name_under
from foretrain.importers.settings import read_flat_yaml
from foretrain.tensorboard.events import read_events
from foretrain.tensorboard.metadata import OWN_SUFFIX


def find(path: Path) -> list[Path]:
    """The folders under a path that hold event files, as TensorBoard finds runs; our reports are no run."""
    files = files_named(path, lambda name: "tfevents" in name and not name.endswith(OWN_SUFFIX))
    return sorted({file.parent for file in files})


def read(place: Path, root: Path, wanted: Collection[str]) -> list[LoggedRun]:
    """The run in one folder.

    Where a later file goes back to an earlier step, what the earlier file has from there on belongs to
    weights that were thrown away, and is left out, as TensorBoard does.

    Raises:
        LogError: If TensorBoard, which knows the format, is not installed.
    """
    kept: dict[str, list[Point]] = {}
    names: dict[str, None] = {}
    settings = read_flat_yaml(place / "hparams.yaml")
    problems = []
    for path in sorted(path for path in place.iterdir() if "tfevents" in path.name and path.is_file()):
        try:
            events = read_events(path)
        except ModuleNotFoundError as error:
            raise LogError(
                "Reading event files needs TensorBoard: pip install 'foretrain[tensorboard]'."
            ) from error
        if events.damaged:
            lost = f", and {events.lost} bytes behind a damaged one" if events.lost else ""
            problems.append(f"{path}: {events.damaged} damaged records{lost} were passed over.")
        settings = {**events.settings, **settings}
        names |= dict.fromkeys(events.scalars)
        for name in events.scalars.keys() & set(wanted):
            points = [Point(step, value, time) for step, time, value in events.scalars[name] if step >= 0]
            first = min((point.step for point in points), default=0)
            kept[name] = [point for point in kept.get(name, []) if point.step < first] + points
    return [
        LoggedRun(
            name=name_under(root, place) if root.is_dir() else place.resolve().name,
            series={name: in_order(points) for name, points in kept.items()},
            names=tuple(name for name in names if not name.startswith("scaling/")),
            settings=settings,
            problems=tuple(problems),
        )
    ]


SOURCE = Source("tensorboard", find, read)
