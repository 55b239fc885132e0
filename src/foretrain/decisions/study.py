"""From the records of a study to a planner: which points of which runs may enter, and why others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.axes import AXES
from foretrain.conventions import NOT_COMPARED, signature
from foretrain.decisions.allocation import FLOPS_PER_WEIGHT
from foretrain.decisions.planner import Planner
from foretrain.laws.law import Array
from foretrain.observation import RunRecord
from foretrain.reporting.comparison import RunCurve, each_once, entering_kind, resumed_as
from foretrain.reporting.entering import KINDS, why_not
from foretrain.reporting.points import best_value, run_curve, thin, usable
from foretrain.reporting.repeats import data_budget
from foretrain.reporting.soundness import MAX_CHECKED, sound_runs
from foretrain.run_flags import FlagBook

MOST_POINTS, FEWEST_OF_RUN = 600, 8
"""Points that enter at most; a curve is not thinned below so many, but then some runs are passed over."""


@dataclass(frozen=True)
class LeftOut:
    """A run that does not enter.

    Attributes:
        run: Its name.
        reason: Why, in words.
    """

    run: str
    reason: str


@dataclass(frozen=True)
class StudyPoints:
    """The points of a study that a joint law may be fitted to.

    Attributes:
        metric: Name of the metric.
        axis: The data axis, a key of `foretrain.axes.AXES`.
        kind: "decayed" or "constant": what the points' learning rates have in common.
        n: Model size of each point, in parameters, shape (m,).
        d: Data, in the axis's unit; where they repeat, the new data that they are worth. Shape (m,).
        y: The metric, in its own unit, shape (m,).
        seen: Data seen, with repeats, shape (m,).
        runs: The run of each point.
        per: FLOPs for each parameter and unit of data seen: as recorded, or 6.
        left_out: The runs that do not enter.
        notes: What there is to know about the points, as sentences.
        conventions: How the runs that enter were counted.
    """

    metric: str
    axis: str
    kind: str
    n: Array
    d: Array
    y: Array
    seen: Array
    runs: tuple[str, ...]
    per: float
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    conventions: dict[str, str]

    @property
    def largest(self) -> tuple[float, float]:
        """Size and data seen of the point that took the most compute."""
        place = int(np.argmax(self.n * self.seen))
        return float(self.n[place]), float(self.seen[place])


def from_study(
    runs: Mapping[str, RunRecord], metric: str, axis: str = "samples", *, seed: int = 0
) -> tuple[Planner, StudyPoints]:
    """The planner of a study's records.

    Args:
        runs: The study's runs by name, as `StudyReader.read().runs`.
        metric: Name of the metric.
        axis: The data axis, a key of `foretrain.axes.AXES`.
        seed: Of the planner's draws.

    Returns:
        The planner, and the points it rests on with the runs that were left out, each with its reason.

    Raises:
        ValueError: If no run can enter, or there is no such axis.

    Example:
        ```python
        from foretrain.decisions import from_study
        from foretrain.storage.reader import StudyReader

        runs = StudyReader("logs/foretrain/default-37a8eec1").read().runs
        planner, points = from_study(runs, "val_loss", "tokens")
        print(planner.optimum(1e18).sentence, *(f"{one.run}: {one.reason}" for one in points.left_out))
        ```
    """
    points = study_points(runs, metric, axis)
    return Planner(points.n, points.d, points.y, per=points.per, seed=seed), points


def study_points(runs: Mapping[str, RunRecord], metric: str, axis: str = "samples") -> StudyPoints:
    """The points of a study that may enter a joint law.

    Finished runs whose learning rate has decayed enter with their last point. Runs at a constant rate enter
    with all points after the warm-up, within a factor of 30 of the last. The two are never mixed: of the two
    kinds the one that tells more about size enters. Points on the way of a decaying rate are no final errors
    and never enter. Where data repeat they count as the new data that they are worth
    (`foretrain.families.repeated.effective_data`).

    Args:
        runs: The study's runs by name.
        metric: Name of the metric.
        axis: The data axis, a key of `foretrain.axes.AXES`.

    Raises:
        ValueError: If no run can enter, or there is no such axis.
    """
    if axis not in AXES:
        raise ValueError(f"Expected one of {', '.join(sorted(AXES))} as the axis, got {axis!r}.")
    reasons: dict[str, str] = {}
    curves = _comparable(runs, metric, axis, reasons)
    kind = entering_kind(curves)
    kept: dict[str, Array] = {}
    most = max(MOST_POINTS // max(len(curves), 1), FEWEST_OF_RUN)
    for curve in curves:
        x = np.array([at for at, _ in curve.of_kind(kind).points])
        if x.size:
            kept[curve.run] = np.array(thin(x, most))
        elif curve.entering is not None:
            reasons[curve.run] = why_not(curve.entering, kind)
    if len(kept) <= MAX_CHECKED:
        _leave_out_flagged(runs, metric, kept, reasons)
    sound = {curve.run for curve in sound_runs([curve for curve in curves if curve.run in kept])}
    for name in kept.keys() - sound:
        reasons[name] = "it lies off the curve of the others"
        del kept[name]
    if not kept:
        told = "; ".join(f"{run}: {reason}" for run, reason in sorted(reasons.items()))
        raise ValueError(
            f"Expected a run whose {metric} along {axis} can enter a joint law, got none of {len(runs)}: "
            f"finish a run. {told}".rstrip()
        )
    return _gathered(runs, metric, axis, curves, kept, kind, reasons)


def _leave_out_flagged(
    runs: Mapping[str, RunRecord], metric: str, kept: dict[str, Array], reasons: dict[str, str]
) -> None:
    book = FlagBook()
    for name in list(kept):
        found = next((flag for flag in book.flags(runs, name, metric) if flag.leaves_out), None)
        if found is not None:
            reasons[name] = f"it is flagged: {found.kind.value} at step {found.step:,}"
            del kept[name]


def _comparable(
    runs: Mapping[str, RunRecord], metric: str, axis: str, reasons: dict[str, str]
) -> list[RunCurve]:
    """The curves that may stand in one law, each measurement once; of the others the reasons are noted."""
    curves = []
    for name, record in runs.items():
        curve, _, _ = run_curve(record, metric, axis)
        if not curve.points:
            reasons[name] = f"it has no positive {metric} along {axis}"
        elif not curve.params:
            reasons[name] = "its model size is unknown"
        elif curve.pruned:
            reasons[name] = "it was pruned: its size is no longer that of its layers"
        else:
            curves.append(curve)
    rules = Counter(signature(curve.conventions) for curve in curves)
    usual = rules.most_common(1)[0][0] if rules else ()
    for curve in curves:
        if signature(curve.conventions) != usual:
            reasons[curve.run] = "it was counted by other conventions than most: " + _differing(
                curve.conventions, dict(usual)
            )
    for run, other in resumed_as(curves).items():
        reasons.setdefault(run, f"it was resumed as {other}")
    for curve in curves:
        # Most runs end at their lowest point, and need no closer look.
        lowest_last = curve.points[-1][1] == min(value for _, value in curve.points)
        if curve.run in reasons or lowest_last:
            continue
        if best_value(usable(runs[curve.run], metric, axis)[0], curve.points).risen:
            reasons[curve.run] = "it is past its best: no law of improvement holds"
    return each_once([curve for curve in curves if curve.run not in reasons])


def _differing(own: Mapping[str, str], usual: Mapping[str, str]) -> str:
    names = sorted(name for name in {*own, *usual} - NOT_COMPARED if own.get(name) != usual.get(name))
    return ", ".join(
        f"{name} is {own.get(name, 'not recorded')}, not {usual.get(name, 'not recorded')}" for name in names
    )


def _gathered(
    runs: Mapping[str, RunRecord],
    metric: str,
    axis: str,
    curves: Sequence[RunCurve],
    kept: Mapping[str, Array],
    kind: str,
    reasons: Mapping[str, str],
) -> StudyPoints:
    rows: list[tuple[float, float, float, float]] = []
    names: list[str] = []
    per: list[float] = []
    repeated = 0
    for curve in curves:
        if curve.run not in kept:
            continue
        record, x = runs[curve.run], kept[curve.run]
        by_x = dict(usable(record, metric, axis)[0])
        budget = data_budget(record, axis, by_x[float(x[-1])].counts)
        repeated += budget.repeats(float(x[-1]))
        for seen, worth in zip(x.tolist(), budget.effective(x).tolist(), strict=True):
            rows.append((curve.params, worth, by_x[seen].value, seen))
            names.append(curve.run)
            flops = by_x[seen].counts.flops
            per.append(flops / curve.params / seen if flops else np.nan)
    notes = [KINDS[kind]]
    if len(rows) > MOST_POINTS:
        notes.append(f"Of {len(rows):,} points {MOST_POINTS} enter, evenly over sizes and data.")
        order = sorted(range(len(rows)), key=lambda i: rows[i])
        chosen = [order[i] for i in np.linspace(0, len(rows) - 1, MOST_POINTS).astype(int)]
        rows, names, per = ([held[i] for i in chosen] for held in (rows, names, per))
    n, d, y, seen_of = np.array(rows).T
    if len(kept) > MAX_CHECKED:
        notes.append(
            f"Of more than {MAX_CHECKED} runs none is checked for flags, nor for lying off the curve of the "
            "others."
        )
    unknown = sum(c.run in kept and c.entering is not None and c.entering.rates_unknown for c in curves)
    if unknown:
        notes.append(
            f"The learning rates of {unknown} of {len(kept)} runs are not known: if they did not decay, "
            "leave those runs out."
        )
    if repeated:
        notes.append(
            f"The data of {repeated} of {len(kept)} runs repeat, and count as the new data that they are "
            "worth: by how much is known for text alone."
        )
    known = np.isfinite(per).all()
    each = float(np.exp(np.median(np.log(per)))) if known else FLOPS_PER_WEIGHT
    if known and max(per) > 1.5 * min(per):
        notes.append(
            f"Compute is taken as {each:.3g} FLOPs for each parameter and unit of data; as recorded it is "
            f"between {min(per):.3g} and {max(per):.3g}, so budgets are rough."
        )
    return StudyPoints(
        metric=metric,
        axis=axis,
        kind=kind,
        n=n,
        d=d,
        y=y,
        seen=seen_of,
        runs=tuple(names),
        per=each,
        left_out=tuple(LeftOut(run, reason) for run, reason in sorted(reasons.items())),
        notes=tuple(notes),
        conventions=next(dict(curve.conventions) for curve in curves if curve.run in kept),
    )
