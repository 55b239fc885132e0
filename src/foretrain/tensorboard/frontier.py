"""What the Scaling tab shows of size against compute: pure functions from the runs' entries to plain JSON."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.schedule import Schedule
from foretrain.tensorboard.law_view import curve_of
from foretrain.tensorboard.plain import MAX_ITEMS, number, positive, short, text
from foretrain.tensorboard.rows import Entry
from foretrain.tensorboard.words import unit

if TYPE_CHECKING:
    from foretrain.decisions import Planner, StudyPoints

LEVEL = 0.9
GRID = 48  # budgets at which the compute-optimal line is drawn
AHEAD = 100.0
"""The line is drawn up to this many times the largest compute so far, and the slider ends there."""
TEN_TIMES = 10.0
MAX_POINTS, MAX_LEFT_OUT = 600, 100
OLDER = "its report was written by an earlier foretrain, which does not tell what compute it took"
NOTHING = "No run here can enter a joint law of size and data yet: finish a run."


@dataclass(frozen=True)
class Frontier:
    """What the runs of a study say of the best size for a budget.

    Attributes:
        axis: Name of the data axis.
        planner: Answers questions; None where no run can enter.
        points: What it rests on; likewise.
        why: Why there is none; empty where there is one.
        left_out: The runs that do not enter, with the reason.
    """

    axis: str
    planner: Planner | None = None
    points: StudyPoints | None = None
    why: str = ""
    left_out: list[list[str]] = field(default_factory=list)


def study_frontier(entries: Sequence[Entry], *, metric: str, axis: str, exclude: Collection[str]) -> Frontier:
    """Takes the runs to a planner, through the pure core.

    Args:
        entries: The runs, as `view.chosen` gives them.
        metric: Name of the metric.
        axis: Name of the data axis.
        exclude: Names of the runs to leave out.
    """
    # Here and not above: these load scipy, which TensorBoard's start should not wait for.
    from foretrain.decisions import Planner, study_points

    out = [
        [item.run, "flagged" if item.flagged else "not among the runs shown"]
        for item in entries
        if item.run in exclude
    ]
    kept = [item for item in entries if item.run not in exclude]
    out += [[item.run, OLDER] for item in kept if item.beside is None]
    runs = {item.run: record_of(item, entries, metric) for item in kept if item.beside is not None}
    if not runs:
        return Frontier(axis, why="No run here tells what compute it took.", left_out=out)
    try:
        points = study_points(runs, metric, axis)
    except ValueError:
        return Frontier(axis, why="", left_out=out + _why_not(runs, metric, axis))
    out += [[one.run, one.reason] for one in points.left_out]
    return Frontier(axis, Planner(points.n, points.d, points.y, per=points.per), points, "", out)


def _why_not(runs: Mapping[str, RunRecord], metric: str, axis: str) -> list[list[str]]:
    """Each run's own reason not to enter, where none does."""
    from foretrain.decisions import study_points

    reasons = []
    for name, record in runs.items():
        try:
            study_points({name: record}, metric, axis)
        except ValueError as error:
            reasons.append([name, str(error).rpartition(f"{name}: ")[2].rstrip(".")])
    return reasons


def record_of(item: Entry, entries: Sequence[Entry], metric: str) -> RunRecord:
    """The run's record, as far as its report tells it: its points are the observations.

    Args:
        item: The run, with what stands beside its points.
        entries: All runs, of which it may go on from one.
        metric: Name of the metric.
    """
    found = item.beside
    assert found is not None
    columns = {**found.columns, item.axis: tuple(x for x, _ in item.points)}
    steps = columns.get("steps", ())
    observations = []
    for i, (_, value) in enumerate(item.points):
        counted = {name: column[i] for name, column in columns.items() if i < len(column)}
        rate = found.rates[i] if i < len(found.rates) else None
        observations.append(
            Observation(item.run, metric, value, _counts(counted, item, found.density), lr=rate)
        )
    # What another run measured is named by the data seen there; records name it by the step.
    past = {
        run: max(
            (int(s) for (x, _), s in zip(item.points, steps, strict=False) if s and x <= upto), default=0
        )
        for run, upto in curve_of(item, entries).past.items()
    }
    schedule = Schedule.from_knots(found.schedule) if len(found.schedule) > 1 else None
    return RunRecord(
        info=RunInfo(
            item.run,
            study=item.study,
            conventions=dict(item.conventions),
            planned=_counts(found.planned, item, None) if found.planned else None,
        ),
        observations=tuple(sorted(observations, key=lambda o: o.counts.steps)),
        state=item.row["state"],
        schedule=schedule,
        past=past,
    )


def _counts(counted: Mapping[str, float | None], item: Entry, density: float | None) -> Counts:
    def whole(name: str) -> int | None:
        found = counted.get(name)
        return None if found is None else round(found)

    return Counts(
        samples=whole("samples") or 0,
        steps=whole("steps") or 0,
        epochs=counted.get("epochs") or 0.0,
        tokens=whole("tokens"),
        unique_samples=whole("unique_samples"),
        params=None if item.params is None else round(item.params),
        density=density,
        flops=whole("flops"),
    )


def frontier_view(found: Frontier, *, metric: str) -> dict[str, Any]:
    """What the page shows of size against compute.

    Args:
        found: From `study_frontier`.
        metric: Name of the metric.

    Returns:
        Plain JSON values without NaN; `line` and `isoflop` are empty where the runs do not tell them, and
        `sentence` then says what would help.
    """
    view: dict[str, Any] = {
        "status": "none",
        "sentence": found.why or NOTHING,
        "notes": [],
        "left_out": [[text(run), text(reason)] for run, reason in found.left_out[:MAX_LEFT_OUT]],
        "points": [],
        "envelope": [],
        "line": None,
        "isoflop": [],
        "without_isoflop": "",
        "range": None,
        "data_label": unit(found.axis),
    }
    planner, points = found.planner, found.points
    if planner is None or points is None:
        return view
    import numpy as np

    from foretrain.decisions import envelope
    from foretrain.decisions.isoflop import NO_EQUAL_COMPUTE, equal_compute

    compute = points.per * points.n * points.seen
    blocked = " ".join(reason.sentence for reason in planner.blocking)
    best_at, best_n, best_y = envelope(points.n, points.seen, points.y, per=points.per)
    curves = equal_compute(points.n, points.seen, points.y, points.per)
    view |= {
        "status": planner.blocking[0].value if planner.blocking else "ok",
        "sentence": f"{blocked} {planner.next_run().sentence}" if blocked else planner.contrary,
        "notes": [text(note) for note in points.notes[:MAX_ITEMS]],
        "points": [
            [text(run), *(short(float(v)) for v in row)]
            for run, *row in zip(points.runs, compute, points.n, points.seen, points.y, strict=True)
        ][:MAX_POINTS],
        "envelope": [[short(float(v)) for v in row] for row in zip(best_at, best_n, best_y, strict=True)][
            -MAX_POINTS:
        ],
        "isoflop": [
            _isoflop(*row)
            for row in zip(curves.budgets, curves.sizes, curves.losses, curves.optima, strict=True)
        ],
        "range": [short(float(compute.min())), short(AHEAD * float(compute.max()))],
        "start": short(TEN_TIMES * float(compute.max())),
    }
    if not view["isoflop"]:
        view["without_isoflop"] = NO_EQUAL_COMPUTE
    if not planner.blocking:
        view["line"] = _line(planner, points, np.geomspace(compute.min(), AHEAD * compute.max(), GRID))
    return view


def _line(planner: Planner, points: StudyPoints, at: Any) -> dict[str, Any] | None:
    """The compute-optimal sizes along the budgets, as a band of the page."""
    import numpy as np

    draws, _ = planner.advice.optimum(at[:, None], points.per)
    ends = np.quantile(draws, [0.5, 0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=1, method="lower")
    rows = [
        [short(positive(float(v))) for v in row]
        for row in zip(at, *ends, strict=True)
        if positive(float(row[1]))
    ]
    if len(rows) < 2:
        return None
    return dict(zip(("x", "median", "lower", "upper"), map(list, zip(*rows, strict=True)), strict=True))


def _isoflop(budget: Any, sizes: Any, losses: Any, best: Any) -> dict[str, Any]:
    n, spread = positive(float(best.n)), number(float(best.log_n_std))
    inside = bool(best.inside) and n is not None
    return {
        "budget": short(float(budget)),
        "curve": [[short(float(a)), short(float(b))] for a, b in zip(sizes, losses, strict=True)],
        "best": [short(n), short(positive(float(best.loss)))] if inside else None,
        "log_std": short(spread) if inside else None,
    }
