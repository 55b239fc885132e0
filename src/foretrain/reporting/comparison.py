"""What runs say together: which may be compared, which lies off the others, and the law they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from foretrain.conventions import signature
from foretrain.families.family import family_moments
from foretrain.families.model import MIN_SIZES
from foretrain.fitting import fit
from foretrain.laws.law import Array
from foretrain.projection import LEVELS, band, named_projection
from foretrain.report import JointReport, LawFit
from foretrain.reporting.entering import CONSTANT, DECAYED, KINDS, SAME_PHASE
from foretrain.reporting.findings import Entering
from foretrain.status import FitStatus

MIN_CURVE_POINTS, MAX_CURVES = 8, 250
"""A curve is not thinned below so many points; of more curves so many enter, evenly over the sizes."""

LEAST_POINTS = 7
"""Points below which a joint law is not told, whatever the sizes."""

MAX_FAMILY_POINTS = 600
"""Points that enter a joint fit; longer curves are thinned."""

SIZE_SCALES = (2.0, 10.0)
SIZE_REACH = 100.0
SIZE_GRID = 64


@dataclass(frozen=True)
class RunCurve:
    """One run's points along the data axis.

    Attributes:
        run: Name of the run.
        params: Trainable parameters; 0 where unknown.
        points: (data seen, metric), ascending in data.
        conventions: How things were counted.
        phases: Learning rate at each point over the run's largest, NaN where unknown; empty if never known.
        past: The runs that this one goes on from, each with the data seen up to which its points are this
            run's too; 0 where none of them are.
        finished: Whether the run came to its end.
        pruned: Whether masks have removed parameters.
        entering: Which of its points may enter a law of several runs; where that is not known, None, and all
            are taken.
    """

    run: str
    params: float
    points: tuple[tuple[float, float], ...] = ()
    conventions: dict[str, str] = field(default_factory=dict)
    phases: tuple[float, ...] = ()
    past: dict[str, float] = field(default_factory=dict)
    finished: bool = False
    pruned: bool = False
    entering: Entering | None = None

    @property
    def sized(self) -> bool:
        """Whether its size is known, and still that of its layers: the one in a law of several runs."""
        return self.params > 0 and not self.pruned

    def of_kind(self, kind: str, *, whole: bool = False) -> RunCurve:
        """The curve's points of one kind that may enter a law of several runs.

        Args:
            kind: `entering.DECAYED`, the end, or `entering.CONSTANT`.
            whole: Whether the points just before an end enter, too.
        """
        if self.entering is None:
            return self
        first, last = self.entering.spans.get(kind, (np.inf, -np.inf))
        if kind == DECAYED and not whole:
            first = last
        return self._only([i for i, point in enumerate(self.points) if first <= point[0] <= last])

    def in_phase(self, phase: float) -> RunCurve:
        """The curve's points at which the rate had come as far down, and those where it is unknown."""
        if not self.phases or not np.isfinite(phase):
            return self
        return self._only([i for i, own in enumerate(self.phases) if not abs(own - phase) > SAME_PHASE])

    def beyond(self, x: float) -> RunCurve:
        """The curve's points past an amount of data."""
        return self._only([i for i, point in enumerate(self.points) if point[0] > x]) if x > 0 else self

    def shared(self, other: RunCurve) -> float | None:
        """The data seen up to which two runs are one line of training; None without a common past."""
        own, others = {**self.past, self.run: np.inf}, {**other.past, other.run: np.inf}
        return max((min(own[run], others[run]) for run in own.keys() & others.keys()), default=None)

    def _only(self, kept: Sequence[int]) -> RunCurve:
        phases = tuple(self.phases[i] for i in kept) if self.phases else ()
        return replace(self, points=tuple(self.points[i] for i in kept), phases=phases)


def comparable(own: RunCurve, others: Sequence[RunCurve]) -> list[RunCurve]:
    """The other runs that were counted by the same conventions and have points and a known size.

    A pruned run is compared with none: its size is no longer that of its layers.
    """
    counted = signature(own.conventions)
    if own.pruned:
        return []
    return [c for c in others if c.points and c.sized and signature(c.conventions) == counted]


def resumed_as(curves: Sequence[RunCurve]) -> dict[str, str]:
    """The runs that another one stands for, and which: what they trained was taken up again there.

    A run that goes on from a checkpoint of another holds its points up to there; what the other measured
    beyond belongs to weights that were thrown away. So do, of runs that go on from one past, those that did
    not finish and that another has passed: they were given up and resumed from an earlier checkpoint. Runs
    that finished beyond what they share with others are none of them: there the others are branches, and all
    came to something.
    """
    return {run: other for line in _lines(curves) for run, other in _resumed_in(line).items()}


def _lines(curves: Sequence[RunCurve]) -> list[list[RunCurve]]:
    """The curves by lines of training: those in different ones have no past in common."""
    lines: dict[str, list[RunCurve]] = {}
    for curve in curves:
        names = {*curve.past, curve.run}
        # Lists are few and mostly of one: a study of thousands of runs is not compared in pairs.
        met = {id(lines[name]): lines[name] for name in names if name in lines}
        line = [c for old in met.values() for c in old] + [curve]
        for name in names.union(*({*c.past, c.run} for c in line)):
            lines[name] = line
    return list({id(line): line for line in lines.values()}.values())


def _resumed_in(curves: Sequence[RunCurve]) -> dict[str, str]:
    """`resumed_as` within one line of training."""
    if len(curves) == 1:
        return {}
    found: dict[str, str] = {}
    for curve in curves:
        on = [c for c in curves if curve.run in c.past and c.run not in curve.past and c.run != curve.run]
        reach = max((c.past[curve.run] for c in on), default=0.0)
        if on and not (curve.finished and curve.points and curve.points[-1][0] > reach):
            found[curve.run] = max(on, key=_reached).run
    last = [curve for curve in curves if curve.run not in found]
    for curve in last:
        passed = [c for c in last if c.run not in curve.past and _reached(c) > _reached(curve)]
        passed = [c for c in passed if curve.shared(c) is not None]
        if passed and not curve.finished:
            found[curve.run] = max(passed, key=_reached).run
    return found


def _reached(curve: RunCurve) -> tuple[float, int, str]:
    """How far a run has come; equal ones in the order in which loggers number them."""
    return curve.points[-1][0] if curve.points else 0.0, len(curve.run), curve.run


def each_once(curves: Sequence[RunCurve]) -> list[RunCurve]:
    """The curves with each measurement once.

    Left out are runs that another one stands for. Of branches that share a past, the first keeps it.
    """
    lines = _lines(curves)
    resumed = {run: other for line in lines for run, other in _resumed_in(line).items()}
    line_of = {curve.run: number for number, line in enumerate(lines) for curve in line}
    related: dict[int, list[RunCurve]] = {}
    kept: list[RunCurve] = []
    for curve in curves:
        if curve.run not in resumed:
            before = related.setdefault(line_of[curve.run], [])
            own = curve.beyond(max((curve.shared(other) or 0.0 for other in before), default=0.0))
            if own.points:
                kept.append(own)
                before.append(own)
    return kept


def entering_kind(curves: Sequence[RunCurve]) -> str:
    """The kind of points that tells a law of size; ends with a decayed rate where both do."""

    def told(kind: str) -> tuple[bool, int, bool]:
        some = [curve for curve in (c.of_kind(kind) for c in curves) if curve.points]
        sizes, count = len({c.params for c in some}), sum(len(c.points) for c in some)
        return sizes >= MIN_SIZES and count >= LEAST_POINTS, sizes, kind == DECAYED

    return max((DECAYED, CONSTANT), key=told)


def stack(curves: Sequence[RunCurve]) -> tuple[Array, Array, Array]:
    """Size, data and metric of the curves' points, each of shape (k,), long curves thinned alike."""
    if len(curves) > MAX_CURVES:
        by_size = sorted(curves, key=lambda curve: curve.params)
        curves = [by_size[i] for i in np.linspace(0, len(by_size) - 1, MAX_CURVES).astype(int)]
    most = max(MAX_FAMILY_POINTS // max(len(curves), 1), MIN_CURVE_POINTS)
    rows = []
    for curve in curves:
        index = np.unique(np.linspace(0, len(curve.points) - 1, min(most, len(curve.points))).astype(int))
        rows += [(curve.params, *curve.points[i]) for i in index]
    n, d, y = np.array(rows, dtype=float).T
    return n, d, y


def joint_report(
    curves: Sequence[RunCurve],
    *,
    at_data: float | None = None,
    target_params: Sequence[float] = (),
    levels: Sequence[float] = LEVELS,
    left_out: int = 0,
) -> JointReport:
    """What runs of several sizes say together.

    Args:
        curves: The runs. Those counted by other conventions than most are left out, and that is said; what
            was measured before one run went on from another counts once. Of each run only those points enter
            that `foretrain.reporting.entering` allows.
        at_data: The data that the statement about size is for, in the axis's unit; the largest amount that
            every size has reached if None.
        target_params: Model sizes to project to, beside 2 and 10 times the largest.
        levels: Nominal levels of the intervals.
        left_out: Runs that were left out before, because they were counted by other conventions.

    Returns:
        The joint law with its projections, or a status that says why there is none.
    """
    usable = [c for c in curves if c.points and c.sized]
    signatures = [signature(c.conventions) for c in usable]
    usual = Counter(signatures).most_common(1)[0][0] if signatures else ()
    alike = [c for c, counted in zip(usable, signatures, strict=True) if counted == usual]
    left_out += len(usable) - len(alike)
    told = "" if not left_out else f" {left_out} runs counted by other conventions were left out."
    once = each_once(alike)
    kind = entering_kind(once)
    kept = [c for c in (c.of_kind(kind) for c in once) if c.points]
    if any(c.entering is not None for c in kept):
        told += f" {KINDS[kind]}"
    if len(kept) < len(once):
        told += f" {len(once) - len(kept)} of {len(once)} runs have no such points."
    names = tuple(c.run for c in kept)
    if len({c.params for c in kept}) < MIN_SIZES:
        status = FitStatus.TOO_FEW_SIZES
        return JointReport(status=status.value, sentence=status.sentence + told, runs=names)
    n, d, y = stack(kept)
    if at_data is None:
        at_data = float(min(d[n == size].max() for size in np.unique(n)))
    sizes = [(f"{scale:g}x size", scale * float(n.max())) for scale in SIZE_SCALES]
    sizes += [(f"{size:g} parameters", float(size)) for size in target_params]
    grid = np.geomspace(n.min(), SIZE_REACH * n.max(), SIZE_GRID)
    asked = np.concatenate([grid, [size for _, size in sizes]])
    moments, model = family_moments(n, d, y, asked, np.full_like(asked, at_data))
    law = fit("chinchilla", np.stack([n, d]), y) if y.size > 5 else None
    status = model.reasons[0] if model.reasons else FitStatus.OK
    sentence = status.sentence + told
    if not model.n_scores:
        sentence += " The intervals are not calibrated: a fourth size would tell how far to trust the law."
    return JointReport(
        status=status.value,
        sentence=sentence,
        runs=names,
        fit=None
        if law is None
        else LawFit("chinchilla", law.parameters, 1.0, law.status.value, law.status.sentence),
        by_size=band((moments[0][:SIZE_GRID], moments[1][:SIZE_GRID]), grid, levels),
        at_data=at_data,
        projections=tuple(
            named_projection(
                name, (moments[0][i : i + 1], moments[1][i : i + 1]), params=size, data=at_data, levels=levels
            )
            for i, (name, size) in enumerate(sizes, start=SIZE_GRID)
        ),
    )
