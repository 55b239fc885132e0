"""One point of a study, run where an executor puts it; and what the store says of points."""

from __future__ import annotations

import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from foretrain.conventions import DATA_POLICY
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.storage.attempts import put_together
from foretrain.storage.reader import StudyReader
from foretrain.storage.record_file import Recording
from foretrain.storage.records import folder_name, read_name
from foretrain.storage.url_store import open_store
from foretrain.storage.urls import as_root, is_url, join

Train = Callable[[dict[str, Any]], Any]
"""What trains one point: takes `Point.config`, records in the store, or returns observations."""


class JobFailed(Exception):
    """What `train` raised, as text: not every exception survives the way between processes."""


@dataclass(frozen=True)
class Job:
    """Runs `train` on a point's configuration, once: a point that is finished in the store is left alone.

    So it does no harm when an executor runs it twice, or a scheduler restarts it. To be sent to another
    process it must be picklable, as `train` then has to be: a function at the top level of a module.

    Attributes:
        train: What trains one point.
    """

    train: Train

    def __call__(self, config: dict[str, Any]) -> str:
        """Trains the point.

        Args:
            config: As `Point.config` makes it.

        Returns:
            The point's id.

        Raises:
            JobFailed: If `train` raised, or left no finished run in the store.
            KeyboardInterrupt: If training was interrupted.
        """
        if read_run(config).state == "finished":
            return str(config["point"])
        handler = signal.getsignal(signal.SIGINT) if _in_main_thread() else None
        try:
            told = self.train(dict(config))
            if told is not None:
                _record(config, told)
        except KeyboardInterrupt:
            raise
        except SystemExit as error:
            # Lightning turns an interrupt into an exit, and ignores interrupts from then on.
            if handler is not None:
                signal.signal(signal.SIGINT, handler)
            if isinstance(error.__context__, KeyboardInterrupt):
                raise KeyboardInterrupt from None
            raise self._failed(config, f"train ended the process with status {error.code}.") from None
        except Exception:
            raise self._failed(config, traceback.format_exc(limit=-8)) from None
        state = read_run(config).state
        if state != "finished":
            raise JobFailed(
                f"Expected a finished run {config['run']!r} of the study {config['study']!r} under "
                f"{config['root']} when train returned, found it {state}: give ScalingLawMonitor the `root`, "
                "`study` and `run` of the configuration, or return observations."
            )
        return str(config["point"])

    @staticmethod
    def _failed(config: dict[str, Any], why: str) -> JobFailed:
        """The failure; the store has it, too, where the run had not told of it itself."""
        with suppress(Exception):  # what failed is told in any case
            if read_run(config).state != "failed":
                store = open_store(config["root"], config["study"])
                store.begin(RunInfo(run=config["run"], started=time.time()))
                store.finish("failed")
                store.close()
        return JobFailed(why)


def study_place(root: str | os.PathLike[str], study: str) -> str:
    """The folder of a study under a root, or its URL."""
    text = as_root(root)
    if is_url(text):
        return join(text, folder_name(study))
    return str(Path(text).absolute() / folder_name(study))


def read_states(root: str | os.PathLike[str], study: str, runs: Iterable[str]) -> dict[str, str]:
    """The state of each run: "finished", "failed", "running" (or died), or "missing"."""
    found = StudyReader(study_place(root, study)).read().runs
    return {run: found[run].state if run in found else "missing" for run in runs}


def read_run(config: dict[str, Any]) -> RunRecord:
    """The run of a configuration as the store has it, without reading others; "missing" where it has none."""
    run, place = str(config["run"]), study_place(config["root"], config["study"])
    missing = RunRecord(RunInfo(run=run), state="missing")
    if is_url(place):
        return StudyReader(place).read().runs.get(run, missing)
    folder = Path(place, folder_name(run))
    attempts = []
    for path in sorted(folder.glob("*.jsonl")):
        with suppress(OSError):
            recording = Recording()
            if read_name(path.name) is not None and recording.update({str(path): path.stat()}):
                attempts += [] if (attempt := recording.read()) is None else [attempt]
    return put_together(attempts).get(run, missing)


def _record(config: dict[str, Any], told: Any) -> None:
    """Puts the observations that `train` returned into the store."""
    observations = [told] if isinstance(told, Observation) else told
    if not isinstance(observations, list | tuple) or not all(
        isinstance(observation, Observation) for observation in observations
    ):
        raise TypeError(
            f"Expected train to return observations or None, got {told!r:.80}: return "
            "foretrain.observation.Observation records, or record with ScalingLawMonitor and return None."
        )
    if not observations:
        raise ValueError("Expected train to return observations, got none: return None if they are recorded.")
    run = str(config["run"])
    store = open_store(config["root"], config["study"])
    # From scratch: what an earlier try of this point left is not its past.
    conventions = {DATA_POLICY: config[DATA_POLICY]} if isinstance(config.get(DATA_POLICY), str) else {}
    past = {"run": run, "step": 0}
    begun = store.begin(RunInfo(run, conventions=conventions, continues=past, started=time.time()))
    for observation in observations:
        store.append(replace(observation, run=run, attempt=begun.attempt))
    store.finish("finished")
    fault = store.fault
    store.close()
    if fault:
        raise OSError(fault)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
