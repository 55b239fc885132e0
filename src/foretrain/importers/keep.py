"""Imported runs in a store: each once, as if its own monitor had recorded it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import Enum

from foretrain.importers.declared import IMPORTED
from foretrain.importers.recorded import ImportedRun
from foretrain.observation import RunRecord
from foretrain.storage.url_store import open_store


class Outcome(Enum):
    """What became of one log."""

    IMPORTED = "imported"
    UPDATED = "updated: the log, or what was said of it, has changed since the last import"
    UNCHANGED = "already imported"
    RECORDED = "left alone: a monitor has recorded this run itself"
    TAKEN = "refused: this name was imported from another kind of log; import it with --prefix"
    FAILED = "failed"


def keep(run: ImportedRun, existing: Mapping[str, RunRecord], root: str) -> tuple[Outcome, str]:
    """Writes a run, unless it is there.

    A log that has changed is written whole, as a new attempt from scratch: the older one stays on disk, and
    is not shown any more.

    Args:
        run: The run.
        existing: The study's runs by name.
        root: Root of the store, a directory or a URL.

    Returns:
        What became of it; and what is wrong, as sentences, where something is.
    """
    info = run.info
    there = existing.get(info.run)
    if there is not None:
        origin, own = there.info.conventions.get(IMPORTED), info.conventions[IMPORTED]
        if origin is None:
            return Outcome.RECORDED, ""
        if origin.partition(";")[0] != own.partition(";")[0]:
            return Outcome.TAKEN, ""
        if there.info.conventions == info.conventions and _is_whole(run, there):
            return Outcome.UNCHANGED, ""
        info = replace(info, continues={"run": info.run, "step": 0})
    store = open_store(root, info.study)
    store.begin(info)
    try:
        store.tell(run.schedule)
        for observation in run.observations:
            store.append(observation)
        if run.state == "running":
            store.sync()
        else:
            store.finish(run.state)
    finally:
        store.close()
    if store.fault:
        return Outcome.FAILED, store.fault
    return (Outcome.IMPORTED if there is None else Outcome.UPDATED), ""


def _is_whole(run: ImportedRun, there: RunRecord) -> bool:
    """Whether the record has come to its end: it is written in order, so the last line tells."""
    last, held = run.observations[-1], there.observations
    return bool(held) and there.state == run.state and held[-1].counts.steps == last.counts.steps
