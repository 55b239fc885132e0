"""The pure pipeline: the records of a study and a question in, a report out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from foretrain.axes import AXES
from foretrain.comparison import RunCurve, comparable, joint_report, off_curve, sound_runs
from foretrain.fitting import fit
from foretrain.flags import Flag, FlagKind
from foretrain.laws import LAWS
from foretrain.laws.law import Array
from foretrain.observation import Observation, RunRecord
from foretrain.projection import LEVELS, band, named_projection
from foretrain.regions import IRREDUCIBLE, MIN_POINTS, POWER_LAW, SMALL_DATA, label_regions, local_slopes
from foretrain.report import CurveRegions, LawFit, NamedProjection, Report
from foretrain.status import FitStatus
from foretrain.uncertainty import CURVE_LAWS, RECENCY, CurveModel, model_curve

__all__ = ["Question", "RunCurve", "analyze", "joint_report"]

MAX_POINTS = 256
SCALES = (2.0, 10.0, 100.0)
FAR = 10.0
FAR_DOUBT = "This is {:.3g} times beyond the last point: few laws have been tested that far."
REACH = 1000.0
GRID = 96
TAIL = 20.0
"""The law is drawn over the last part of the points, by this factor: the earlier ones hardly count in it."""

FLATTER = 0.8
"""A curve flattens if it falls, two standard errors up and down, at most this share as steeply at its end."""

REGIONS = {SMALL_DATA: "small_data", POWER_LAW: "power_law", IRREDUCIBLE: "irreducible"}


@dataclass(frozen=True)
class Question:
    """What is asked about a run.

    Attributes:
        run: Name of the run.
        metric: Name of the metric.
        axis: The data axis, a key of `AXES`.
        targets: Amounts of data to project to, in the axis's unit.
        target_params: Model sizes to project to, in parameters.
        levels: Nominal levels of the intervals.

    Raises:
        ValueError: If the axis is unknown.
    """

    run: str
    metric: str = "val_loss"
    axis: str = "samples"
    targets: tuple[float, ...] = ()
    target_params: tuple[float, ...] = ()
    levels: tuple[float, ...] = LEVELS

    def __post_init__(self) -> None:
        """Refuses an axis that no counts hold."""
        if self.axis not in AXES:
            raise ValueError(f"Expected `axis` to be one of {', '.join(AXES)}, got {self.axis!r}.")

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Question:
        """A question from plain JSON values; unknown names are ignored."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in record.items()
            if name in known
        }
        return cls(**values)


def analyze(runs: Mapping[str, RunRecord], question: Question) -> Report:
    """Everything one fit has to say about one run of a study.

    Args:
        runs: The study's runs by name, among them the one asked about.
        question: What is asked.

    Returns:
        The report. A run that cannot be fitted yet gets a report that says why.

    Raises:
        KeyError: If the run is not in the study.
    """
    record = runs[question.run]
    curves = {name: run_curve(run, question.metric, question.axis) for name, run in runs.items()}
    own, excluded, observations = curves[question.run]
    others = comparable(own, [curve for name, (curve, _, _) in curves.items() if name != question.run])
    others = sound_runs(others)
    flags = _flags(own, observations, others)
    planned = None if record.info.planned is None else AXES[question.axis].read(record.info.planned)
    flagged = any(flag.kind is FlagKind.ABOVE_FAMILY for flag in flags)
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
        "points": own.points,
        "excluded": excluded,
        "flags": flags,
        "joint": joint_report(
            others if flagged else [*others, own],
            target_params=question.target_params,
            levels=question.levels,
        ),
    }
    if not own.points:
        status = FitStatus.TOO_FEW_POINTS
        return Report(**common, status=status.value, sentence=status.sentence)
    x, y = (np.array(values) for values in zip(*own.points, strict=True))
    model = model_curve(x, y)
    status = model.reasons[0] if model.reasons else FitStatus.OK
    grid = np.geomspace(max(x[0], x[-1] / TAIL), REACH * x[-1], GRID)
    return Report(
        **common,
        status=status.value,
        sentence=status.sentence,
        fits=_fits(model, x, y),
        curve=band(model.log_moments(grid), grid, question.levels),
        projections=_projections(model, own.params or None, x, planned, question),
        doubts=_doubts(model, observations, [*others, own]),
        regions=_regions(model, x, y),
    )


def run_curve(
    record: RunRecord, metric: str, axis: str
) -> tuple[RunCurve, dict[str, int], tuple[Observation, ...]]:
    """A run's points along an axis, how many were left out and why, and the observations behind them."""
    excluded: dict[str, int] = {}
    kept: dict[float, Observation] = {}
    params = 0.0
    for observation in record.observations:
        if observation.metric != metric:
            continue
        params = float(observation.counts.params or params)
        x = AXES[axis].read(observation.counts)
        reason = None
        if not np.isfinite(observation.value):
            reason = "not finite"
        elif observation.value <= 0:
            reason = "not positive"
        elif x is None:
            reason = f"{axis} not counted"
        elif x <= 0 or observation.counts.steps <= 0:
            reason = "before the first update"
        if reason is None:
            assert x is not None
            kept[x] = observation
        else:
            excluded[reason] = excluded.get(reason, 0) + 1
    places = thin(np.array(sorted(kept)), MAX_POINTS)
    curve = RunCurve(
        run=record.info.run,
        params=params,
        points=tuple((x, kept[x].value) for x in places),
        conventions=dict(record.info.conventions),
    )
    return curve, excluded, tuple(o for o in record.observations if o.metric == metric)


def thin(x: Array, most: int) -> list[float]:
    """At most `most` of ascending positive x, evenly spread along ln x; the first and last are kept."""
    if len(x) <= most:
        return [float(value) for value in x]
    wanted = np.linspace(np.log(x[0]), np.log(x[-1]), most)
    index = np.unique(np.clip(np.searchsorted(np.log(x), wanted), 0, len(x) - 1))
    return [float(value) for value in x[np.union1d(index, [0, len(x) - 1])[-most:]]]


def _fits(model: CurveModel, x: Array, y: Array) -> tuple[LawFit, ...]:
    found = []
    for name in CURVE_LAWS:
        if model.share(name) == 0 or len(x) <= len(LAWS[name].parameters):
            continue
        result = fit(name, x, y, weights=(x / x[-1]) ** RECENCY)
        found.append(
            LawFit(name, result.parameters, model.share(name), result.status.value, result.status.sentence)
        )
    return tuple(found)


def _regions(model: CurveModel, x: Array, y: Array) -> CurveRegions | None:
    """The regions of a curve that falls along eight points or more; of another one they mean nothing."""
    if model.average is None or x.size < MIN_POINTS or FitStatus.NON_MONOTONE in model.reasons:
        return None
    known = FitStatus.FLOOR_NOT_IDENTIFIED not in model.reasons and _flattens(x, y)
    found = label_regions(x, y, floor=model.floor_interval if known else None)
    return CurveRegions(
        now=REGIONS[int(found.labels[-1])],
        power_law_from=found.power_law_start,
        irreducible_from=found.irreducible_start,
    )


def _flattens(x: Array, y: Array) -> bool:
    """Whether the curve surely falls less steeply at its end: else only the prior tells of a floor."""
    smooth = local_slopes(np.log(x), np.log(y))
    steepest = float(np.max(-smooth.slope - 2.0 * smooth.error))
    return bool(-smooth.slope[-1] + 2.0 * smooth.error[-1] < FLATTER * steepest)


def _projections(
    model: CurveModel, params: float | None, x: Array, planned: float | None, question: Question
) -> tuple[NamedProjection, ...]:
    places = [(f"{scale:g}x", scale * x[-1]) for scale in SCALES]
    if planned is not None and planned > 0:
        places.append(("planned end", planned))
    places += [(f"{target:g}", target) for target in question.targets]
    return tuple(
        named_projection(
            name,
            model.log_moments(np.array([at])),
            params=params,
            data=at,
            levels=question.levels,
            doubts=(FAR_DOUBT.format(at / x[-1]),) if at > FAR * x[-1] else (),
        )
        for name, at in places
    )


def _doubts(
    model: CurveModel, observations: Sequence[Observation], family: Sequence[RunCurve]
) -> tuple[str, ...]:
    sentences = [reason.sentence for reason in model.reasons]
    rates = [o.lr for o in observations if o.lr is not None and o.lr > 0]
    if rates and rates[-1] < 0.5 * max(rates):
        sentences.append(
            "The learning rate has fallen along the run, so its earlier points are not final losses: "
            "projections beyond the planned end assume what no run has shown."
        )
    last = observations[-1].counts
    if last.unique_samples is not None and last.unique_samples < 0.9 * last.samples:
        sentences.append("The data were repeated, and repeated data help less than new data.")
    if len({curve.params for curve in family}) < 2:
        sentences.append("One model size only: nothing can be said about larger models.")
    return tuple(dict.fromkeys(sentences))


def _flags(
    own: RunCurve, observations: Sequence[Observation], others: Sequence[RunCurve]
) -> tuple[Flag, ...]:
    flags = []
    bad = next((o for o in observations if not np.isfinite(o.value)), None)
    if bad is not None:
        flags.append(
            Flag(
                FlagKind.NOT_FINITE,
                bad.counts.steps,
                f"{bad.metric} was {bad.value} at step {bad.counts.steps}.",
            )
        )
    evidence = off_curve(own, others)
    if evidence is not None:
        step = observations[-1].counts.steps if observations else 0
        flags.append(
            Flag(
                FlagKind.ABOVE_FAMILY,
                step,
                f"The error is {evidence['value']:.4g} where the study's other runs predict "
                f"{evidence['predicted']:.4g} (98 % interval up to {evidence['upper']:.4g}): "
                "the run is off the curve. Look at its learning rate, its data and its labels.",
                evidence,
            )
        )
    return tuple(flags)
