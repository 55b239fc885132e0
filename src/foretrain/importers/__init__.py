"""Past runs from other loggers' files, as ordinary records of a study.

A source reads one kind of log (`SOURCES`); `Declared` is what the user says of it, since no log tells how
many samples a step takes; `keep` writes records. Reports, fits and projections then see imported runs as any
other, and never mix them with runs that were counted by other conventions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from foretrain.importers import csvlogger, mlflow, tensorboard, wandb
from foretrain.importers.declared import Declared
from foretrain.importers.keep import Outcome, keep
from foretrain.importers.logs import LogError, Source
from foretrain.importers.recorded import ImportedRun, as_recorded
from foretrain.observation import RunInfo, RunRecord
from foretrain.storage.records import folder_name
from foretrain.storage.url_store import open_store
from foretrain.storage.urls import is_url, join
from foretrain.store import StudyReader

__all__ = ["SOURCES", "Declared", "Imported", "LogError", "Outcome", "import_logs"]

SOURCES: dict[str, Source] = {
    source.name: source for source in (tensorboard.SOURCE, csvlogger.SOURCE, wandb.SOURCE, mlflow.SOURCE)
}

_TWICE = "Another log of this import has the same name: import each with a --prefix of its own."


@dataclass(frozen=True)
class Imported:
    """What became of one run, or of a log that could not be read.

    Attributes:
        place: The log.
        outcome: What became of it.
        run: Name of the run; None where the log could not be read.
        observations: How many observations it has.
        problems: What was left out, or why it failed, as sentences.
    """

    place: str
    outcome: Outcome
    run: str | None = None
    observations: int = 0
    problems: tuple[str, ...] = ()


def import_logs(
    source: str,
    path: Path,
    declared: Declared,
    root: str,
    *,
    study: str = "default",
    prefix: str = "",
    like: str | None = None,
    write: bool = True,
    progress: Callable[[list[Path]], Iterable[Path]] = iter,
) -> Iterator[Imported]:
    """Imports every log under a path into a study; a log that cannot be read does not stop the others.

    Args:
        source: The kind of logs, a key of `SOURCES`.
        path: A log, or a directory of logs.
        declared: What is to be known of them.
        root: Root of the store, a directory or a URL.
        study: Name of the study.
        prefix: Put before the names of the runs.
        like: Name of a run of the study; the imported runs are declared to be counted as it is, and are then
            fitted together with it.
        write: Whether to write; otherwise only what would be imported is told.
        progress: Passes the places on, and may show how far it is.

    Yields:
        What became of each run.

    Raises:
        LogError: If there is nothing at the path, no log of that kind, or no run `like`.
        ValueError: If the root cannot be used.
    """
    places = SOURCES[source].find(path)
    if not places:
        raise LogError(f"Expected logs of the kind {source!r} under {path}, found none: check the path.")
    existing = _existing(root, study)
    model = _like(existing, like)
    taken: set[str] = set()
    for place in progress(places):
        try:
            runs = SOURCES[source].read(place, path, declared.keys)
        except (LogError, OSError) as error:
            yield Imported(str(place), Outcome.FAILED, problems=(str(error),))
            continue
        for logged in runs:
            try:
                run = as_recorded(logged, declared, source=source, study=study, prefix=prefix, like=model)
            except (LogError, ValueError) as error:
                yield Imported(str(place), Outcome.FAILED, prefix + logged.name, problems=(str(error),))
                continue
            if run.info.run in taken:
                yield Imported(str(place), Outcome.FAILED, run.info.run, problems=(_TWICE,))
                continue
            taken.add(run.info.run)
            yield _kept(str(place), run, existing, root, write)


def _kept(place: str, run: ImportedRun, existing: dict[str, RunRecord], root: str, write: bool) -> Imported:
    outcome, fault = keep(run, existing, root) if write else (Outcome.IMPORTED, "")
    problems = (*run.problems, fault) if fault else run.problems
    return Imported(place, outcome, run.info.run, len(run.observations), problems)


def _existing(root: str, study: str) -> dict[str, RunRecord]:
    where = join(root, folder_name(study)) if is_url(root) else open_store(root, study).study_dir
    return dict(StudyReader(where).read().runs)


def _like(existing: dict[str, RunRecord], like: str | None) -> RunInfo | None:
    if like is None:
        return None
    if like not in existing:
        known = ", ".join(sorted(existing)[:40]) or "none"
        raise LogError(f"Expected a run of the study with --like, got {like!r}; there are: {known}.")
    return existing[like].info
