"""The pure pipeline: the records of a study and a question in, a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from foretrain.axes import AXES
from foretrain.flags import Flag
from foretrain.observation import RunRecord
from foretrain.report import Report
from foretrain.reporting.comparison import MAX_CURVES, RunCurve, comparable, joint_report, resumed_as
from foretrain.reporting.earlier import Shelf
from foretrain.reporting.history import history
from foretrain.reporting.points import run_curve
from foretrain.reporting.question import Question
from foretrain.reporting.run import analyze_run
from foretrain.reporting.soundness import MAX_CHECKED, off_curve, sound_runs
from foretrain.status import FitStatus

__all__ = ["Question", "RunCurve", "Shelf", "analyze", "joint_report", "resumed_as"]

OFF_DOUBT = (
    "The error is {value:.4g} where the study's other runs predict {predicted:.4g} (98 % interval up to "
    "{upper:.4g}): the run is left out of laws of several runs. Look at its learning rate, its data and its "
    "labels."
)
PRUNED_DOUBT = (
    "The model is pruned: it is compared with no other run, since its size is no longer that of its layers."
)
ONE_SIZE_DOUBT = "One model size only: nothing can be said about larger models."


def analyze(runs: Mapping[str, RunRecord], question: Question, shelf: Shelf | None = None) -> Report:
    """Everything one fit has to say about one run of a study.

    Args:
        runs: The study's runs by name, among them the one asked about.
        question: What is asked.
        shelf: Where finished runs are kept for the next analysis; the report is the same without.

    Returns:
        The report. A run that cannot be fitted yet gets a report that says why.

    Raises:
        KeyError: If the run is not in the study.
    """
    shelf = shelf or Shelf()
    record = runs[question.run]
    metric, axis = question.metric, question.axis
    _, excluded, _ = run_curve(record, metric, axis)
    own = shelf.curve(record, metric, axis)
    chosen = None
    if len(runs) > MAX_CURVES:
        chosen = shelf.survey(runs, metric, axis).choose(question.run, own.params)
    curves = [shelf.curve(runs[name], metric, axis) for name in (chosen.runs if chosen else runs)]
    known = [c for c in curves if c.run != question.run and c.points and c.sized]
    others = comparable(own, known)
    left_out = 0 if own.pruned else len(known) - len(others) + (chosen.left_out if chosen else 0)
    resumed = resumed_as([*others, own])
    others = [curve for curve in others if curve.run not in resumed]
    if len(others) <= MAX_CHECKED:
        others = [c for c in others if not _left_out(shelf.flags.flags(runs, c.run, metric))]
    others = sound_runs(others)
    sound = {curve.run for curve in others}
    flags = shelf.flags.flags(runs, question.run, metric)
    off = off_curve(own, others)
    planned = None if record.info.planned is None else AXES[question.axis].read(record.info.planned)
    stands_apart = off is not None or own.pruned or _left_out(flags)
    # In one order, and of thousands of runs only those that were chosen: the same for every run that is asked
    # about, so that it is fitted once for all.
    together = [c for c in curves if c.run in sound or (c.run == question.run and not stands_apart)]
    common: dict[str, Any] = {
        "run": question.run,
        "study": record.info.study,
        "metric": question.metric,
        "axis": question.axis,
        "step": max((o.counts.steps for o in record.observations), default=0),
        "state": record.state,
        "params": own.params or None,
        "planned": planned,
        "conventions": dict(record.info.conventions),
        "past": own.past,
        "points": own.points,
        "entering": own.entering,
        "history": history(record, metric, axis, own.points),
        "excluded": excluded,
        "flags": flags,
        "joint": shelf.joint_report(
            together,
            target_params=question.target_params,
            levels=question.levels,
            left_out=left_out,
        ),
    }
    if not own.points:
        status = FitStatus.TOO_FEW_POINTS
        return Report(**common, status=status.value, sentence=status.sentence)
    nearest = chosen.nearest if chosen and not own.pruned else [c.run for c in others]
    told = analyze_run(
        record,
        own,
        [runs[name] for name in nearest],
        question,
        shelf,
        family=() if stands_apart else others,
    )
    if own.pruned:
        told["doubts"] = (*told["doubts"], PRUNED_DOUBT)
    elif len({curve.params for curve in [*others, own]}) < 2:
        told["doubts"] = (*told["doubts"], ONE_SIZE_DOUBT)
    if off is not None:
        told["doubts"] = (*told["doubts"], OFF_DOUBT.format(**off))
    return Report(**{**common, **told})


def _left_out(flags: Sequence[Flag]) -> bool:
    return any(flag.leaves_out for flag in flags)
