"""What finds faults in a run: foretrain's flags, and the rules that are in use elsewhere.

Each is a function of `Runs` to the step of the first alarm of each run, infinite where there is none. All
but foretrain know neither the schedule nor, of a run under way, anything but its validations; Optuna's
pruners also have finished runs of the same recipe.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from flags_runs import Runs
from foretrain.flagging.beside import Beside
from foretrain.flagging.family import MEMORY, Curve
from foretrain.flagging.replay import BESIDE_ORDER, BESIDE_SHARE, MEMORIES, OWN_SHARE
from foretrain.flagging.watch import Watch, limit
from foretrain.runs.annealing import RatePath

WINDOW = 20
"""Validations that the z-score and the median of a spike detector look back at."""


def _places(runs: Runs) -> tuple[np.ndarray, int]:
    """What `Watch` and `Beside` are told of each validation, shape (n, 4), and the first step they see."""
    if runs.lr is None:
        return np.log(runs.step)[:, None] * np.array([1.0, 0.0, 0.0, 0.0]), 1
    path = RatePath.of(runs.lr)
    own = [path.annealed(runs.step, memory) for memory in (*MEMORIES, MEMORY)]
    return np.stack([np.log(path.done(runs.step)), *own], axis=1), path.warmup_end


def foretrain_flags(runs: Runs, false_alarm_rate: float = 0.01) -> np.ndarray:
    """The first flag of `flag_run` without a library, of many runs at once."""
    place, first = _places(runs)
    watch = Watch(np.full(len(runs.y), runs.lr is not None))
    found = np.full(len(runs.y), np.inf)
    for k in np.flatnonzero(runs.step >= first):
        off = watch.update(np.log(runs.y[:, k]), np.repeat(place[k : k + 1, :3], len(runs.y), axis=0))
        if off is not None:
            hit = (off.score > limit(watch.count, false_alarm_rate)).any(axis=1)
            found = np.where(hit, np.minimum(found, runs.step[k]), found)
    return found


def flags_beside(runs: Runs, earlier: int, false_alarm_rate: float = 0.01) -> np.ndarray:
    """The first flag of `flag_run` of all but the first runs, beside those, less the tests of `Family`.

    Args:
        runs: Runs of one recipe.
        earlier: So many of them are the library.
        false_alarm_rate: Share of healthy runs that raise any flag.

    Returns:
        Shape (R - earlier,).
    """
    place, first = _places(runs)
    path = None if runs.lr is None else RatePath.of(runs.lr)
    library = [Curve(path, runs.step, np.log(y), 1.0) for y in runs.y[:earlier]]
    alone = Runs(runs.step, runs.y[earlier:], runs.lr, runs.onset[earlier:])
    found = foretrain_flags(alone, OWN_SHARE * false_alarm_rate)
    beside = [Beside(library) for _ in alone.y]
    every = np.ones(len(alone.y), dtype=bool)
    watch = Watch(every & (runs.lr is not None), every)
    for k in np.flatnonzero(runs.step >= first):
        left = [
            one.update(float(y), place[k, [0, 3]])
            for one, y in zip(beside, np.log(alone.y[:, k]), strict=True)
        ]
        off = watch.update(np.array(left), np.repeat(place[k : k + 1, :3], len(alone.y), axis=0))
        if off is not None:
            bound = limit(watch.count, BESIDE_SHARE * false_alarm_rate)
            hit = (off.score[:, BESIDE_ORDER] > bound).any(axis=1)
            found = np.where(hit, np.minimum(found, runs.step[k]), found)
    return found


def early_stopping(patience: int) -> Callable[[Runs], np.ndarray]:
    """Lightning's own, with `min_delta` 0."""

    def rule(runs: Runs) -> np.ndarray:
        import torch
        from lightning.pytorch.callbacks import EarlyStopping

        found = np.full(len(runs.y), np.inf)
        for row, values in enumerate(runs.y):
            callback = EarlyStopping("y", patience=patience, mode="min")
            for step, value in zip(runs.step, values, strict=True):
                stop, _ = callback._evaluate_stopping_criteria(torch.tensor(value))
                if stop:
                    found[row] = step
                    break
        return found

    return rule


def z_score(runs: Runs, bound: float = 3.0) -> np.ndarray:
    """More than three standard deviations off the mean of the last `WINDOW` validations, to either side."""
    windows = np.lib.stride_tricks.sliding_window_view(runs.y[:, :-1], WINDOW, axis=1)
    off = np.abs(runs.y[:, WINDOW:] - windows.mean(axis=-1)) > bound * windows.std(axis=-1, ddof=1)
    return _first(off, runs.step[WINDOW:])


def spike_detector(runs: Runs, bound: float = 6.0) -> np.ndarray:
    """More than six scaled median absolute deviations above the median of the last `WINDOW` validations."""
    windows = np.lib.stride_tricks.sliding_window_view(runs.y[:, :-1], WINDOW, axis=1)
    median = np.median(windows, axis=-1)
    mad = 1.4826 * np.median(np.abs(windows - median[..., None]), axis=-1)
    return _first(runs.y[:, WINDOW:] > median + bound * mad, runs.step[WINDOW:])


def _first(off: np.ndarray, step: np.ndarray) -> np.ndarray:
    return np.where(off.any(axis=1), step[np.argmax(off, axis=1)], np.inf).astype(float)


def pruner(name: str, library: np.ndarray, values: np.ndarray, step: np.ndarray) -> float:
    """Optuna's pruner of that name on one run, beside finished ones of shape (L, n).

    `MedianPruner` waits for as many validations as foretrain does; the rest is as it comes.
    """
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made = (
            optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=12)
            if name == "median"
            else optuna.pruners.WilcoxonPruner()
        )
    study = optuna.create_study(pruner=made)
    for run in library:
        study.add_trial(
            optuna.trial.create_trial(
                value=float(run[-1]), intermediate_values={k: float(v) for k, v in enumerate(run)}
            )
        )
    trial = study.ask()
    for k, value in enumerate(values):
        trial.report(float(value), k)
        if trial.should_prune():
            return float(step[k])
    return np.inf


ALONE: dict[str, Callable[[Runs], np.ndarray]] = {
    "foretrain": foretrain_flags,
    "EarlyStopping, patience 3": early_stopping(3),
    "EarlyStopping, patience 10": early_stopping(10),
    "z-score": z_score,
    "spike detector": spike_detector,
}
"""Rules that see one run alone."""
