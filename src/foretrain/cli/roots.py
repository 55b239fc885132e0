"""Where a command finds records: a log directory, the foretrain folder in it, one study in that, or a URL."""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from foretrain.axes import AXES
from foretrain.cli.output import CommandError, warn
from foretrain.storage.mirror import Mirror
from foretrain.storage.records import folder_name
from foretrain.storage.urls import as_root, is_url, without_secrets
from foretrain.store import Study, StudyReader


def add_source(parser: argparse.ArgumentParser, *, choose: bool = True) -> None:
    """Adds the arguments that say which records are meant.

    Args:
        parser: Of the subcommand.
        choose: Whether it looks at one metric along one axis.
    """
    parser.add_argument(
        "log_dir", help="the loggers' save_dir, a folder of logs or the foretrain folder in it; or its URL"
    )
    if choose:
        parser.add_argument("--metric", help="default: the one most runs have")
        parser.add_argument("--axis", choices=sorted(AXES), help="default: tokens where all runs count them")


@contextmanager
def study_folders(log_dir: str) -> Iterator[list[Path]]:
    """The folders of the studies in a log directory; of a URL, those of a copy that is removed afterwards.

    Raises:
        CommandError: If it is no root.
    """
    try:
        root = as_root(log_dir)
    except ValueError as error:
        raise CommandError(str(error)) from None
    if not is_url(root):
        yield _folders_in(Path(root))
        return
    with tempfile.TemporaryDirectory(prefix="foretrain-read-", ignore_cleanup_errors=True) as copy:
        mirror = Mirror(root, Path(copy))
        mirror.pull_patiently()
        if mirror.fault:
            warn(mirror.fault)
        yield _folders_in(Path(copy))


def save_dir(log_dir: Path) -> Path:
    """The directory that runs are named in, which holds the folder `foretrain` with their records.

    A logger with the `save_dir` "." writes into `lightning_logs`, which is what TensorBoard is given: that
    directory stands for its parent where the parent's runs are named by it, and it has no records itself.
    """
    if not log_dir.name or (log_dir / "foretrain").is_dir():
        return log_dir
    if log_dir.name == "foretrain":
        return log_dir.parent
    named = folder_name(f"{log_dir.name}/").rpartition("-")[0]  # as the folders of such runs begin
    if any(log_dir.glob("*/*.jsonl")) or not any(log_dir.parent.glob(f"foretrain/*/{named}*/*.jsonl")):
        return log_dir
    return log_dir.parent


def _folders_in(log_dir: Path) -> list[Path]:
    place = save_dir(log_dir)
    root = place / "foretrain" if (place / "foretrain").is_dir() else log_dir
    if any(root.glob("*/*.jsonl")):
        return [root]
    return sorted(folder for folder in root.glob("*") if any(folder.glob("*/*.jsonl")))


def read_studies(folders: Sequence[Path], log_dir: str, metric: str | None = None) -> list[Study]:
    """The studies that have observations; damaged records are passed over, and that is said.

    Args:
        folders: Their folders.
        log_dir: Where the user said they are.
        metric: The metric that is asked for, if one is.

    Raises:
        CommandError: If there is no observation, or none of that metric.
    """
    studies = []
    for folder in folders:
        # The copy of a URL is removed before all of its runs were used.
        study = StudyReader(folder, hold=not is_url(log_dir)).read()
        if study.damaged:
            warn(f"{folder}: {study.damaged} damaged records were passed over.")
        if any(run.metrics for run in study.runs.values()):
            studies.append(study)
    if not studies:
        raise CommandError(
            f"No observations under {without_secrets(log_dir)}: expected the save_dir of a logger whose runs "
            "had a ScalingLawMonitor, or one that `foretrain import` wrote to."
        )
    known = {name for study in studies for run in study.runs.values() for name in run.metrics}
    if metric is not None and metric not in known:
        raise CommandError(
            f"No run under {without_secrets(log_dir)} measured {metric!r}: pass one of "
            f"{', '.join(sorted(known))} as --metric."
        )
    return studies


def choose(study: Study, metric: str | None, axis: str | None) -> tuple[str, str]:
    """The metric and the axis that are asked for, or those that suit most of a study's observations."""
    if metric is None:
        counted: Counter[str] = sum((Counter(run.metrics) for run in study.runs.values()), Counter())
        metric = max(sorted(counted), key=lambda name: counted[name])
    if axis is None:
        newest = [run.newest(metric) for run in study.runs.values()]
        axis = "tokens" if all(o.counts.tokens for o in newest if o is not None) else "samples"
    return metric, axis
