"""How the settings of `forecast` along one axis are chosen, and what they reach where they were not chosen.

    python benchmarks/choose.py --data FOLDER [--markdown]

Settings (the prior over shapes, the windows, how far the likelihood is tempered, how faint a fall is half
believed): each candidate changes one
of those shipped. The error of a group of curves is the mean RMSLE at each horizon; a candidate's score is the
mean log error over groups and horizons, 2x counting twice. Leave-group-out: for each group the candidate is
taken that scores best on the other groups, and its error there is shown beside that of the settings shipped.

Scales (what each part adds to the width of the intervals): fitted to coverage and interval score together, on
all domains but one, and the coverage of that one is shown. That of the straight line is held at 1: it is a
standard error, and none of these curves is both short and noisy.

The log slope that a curve of unknown law may have: told by the learners of LCDB 1.1 that do not fall before
the cut, most of which are in no other table.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import track
from scipy.optimize import minimize
from scipy.special import expit

from curves import Curve, lcdb, load
from foretrain import forecast
from foretrain.forecasting import averaging, past_forecasts, uncertainty
from options import parse
from scores import Sheet, coverage, log_ends, rmsle, share, short, winkler

HORIZONS = (2.0, 4.0, 8.0)
COUNTS = {2.0: 2.0, 4.0: 1.0, 8.0: 1.0}
LEVELS = (0.8, 0.9)
SLOPES = (0.05, 0.1, 0.15, 0.2, 0.25)
ALL = 10**6
CANDIDATES: list[dict[str, Any]] = [
    {},
    {"FAINT": 0.0},
    {"FAINT": 0.8},
    {"FAINT": 1.8},
    {"TEMPER": 1.2},
    {"TEMPER": 1.5},
    {"TEMPER_POWER": -0.4},
    {"TEMPER_POWER": -0.1},
    {"FLOOR_POWER": -0.9},
    {"FLOOR_POWER": -0.5},
    {"ALPHA_CENTRE": 0.55},
    {"ALPHA_CENTRE": 0.85},
    {"ALPHA_WIDTH": 0.45},
    {"ALPHA_WIDTH": 0.8},
    {"SHIFT_ODDS": 0.006},
    {"SHIFT_ODDS": 0.05},
    {"WINDOWS": (1.2, 3.0)},
    {"WINDOWS": (1.0, 5.0)},
    {"WINDOWS": (1.0, 2.0, 4.0)},
    {"RESOLUTION": 2e-4},
    {"RESOLUTION": 1e-3},
]


def group_of(curve: Curve) -> str:
    """What is left out together: one data set of image classification, else the whole domain."""
    return ", ".join(curve.group.split(", ")[:2]) if curve.domain == "IC" else curve.domain


@contextmanager
def changed(settings: dict[str, Any]) -> Iterator[None]:
    """`forecast` with some settings changed."""
    homes = {name: uncertainty if hasattr(uncertainty, name) else averaging for name in settings}
    before = {name: getattr(home, name) for name, home in homes.items()}

    def put(values: dict[str, Any]) -> None:
        for name, value in values.items():
            setattr(homes[name], name, value)
            if name == "WINDOWS":
                past_forecasts.WINDOWS = value
        none, shifts = averaging._NONE, averaging._SHIFTS
        uncertainty.COARSE = averaging._grid((14, 10, np.concatenate([none, shifts])))
        past_forecasts.COARSE = uncertainty.COARSE
        uncertainty.FINE = averaging._grid((40, 30, none), (14, 10, shifts))

    put(settings)
    try:
        yield
    finally:
        put(before)


def error(curve: Curve) -> float:
    """RMSLE of `forecast` on one curve."""
    model = uncertainty.model_curve(curve.x, curve.y, y_se=curve.y_se)
    return rmsle(np.exp(model.log_moments(curve.x_far)[0]), curve.y_far)


def choose_settings(curves: Sequence[tuple[float, Curve]], *, markdown: bool) -> None:
    """The table of the settings."""
    cells = sorted({(group_of(curve), horizon) for horizon, curve in curves})
    member = np.array([cells.index((group_of(curve), horizon)) for horizon, curve in curves])
    means = []
    for candidate in track(CANDIDATES, "settings"):
        with changed(candidate):
            errors = np.array([error(curve) for _, curve in curves])
        means.append(np.bincount(member, errors) / np.bincount(member))
    logs = np.log(np.array(means) + 2e-4)
    counts = np.array([COUNTS[horizon] for _, horizon in cells])
    sheet = Sheet(
        "Mean RMSLE with the settings shipped, and with those chosen without the group",
        ["group", "horizon", "shipped", "chosen without it", "what was chosen"],
    )
    for place, (group, horizon) in enumerate(cells):
        others = np.array([name != group for name, _ in cells])
        best = int(np.argmin(logs[:, others] @ counts[others]))
        told = ", ".join(f"{name} {value}" for name, value in CANDIDATES[best].items()) or "as shipped"
        sheet.add(group, f"{horizon:g}x", short(means[0][place]), short(means[best][place]), told)
    sheet.show(markdown=markdown)
    print("\nScores of the candidates, as shipped = 0, less is better:")
    for candidate, score in sorted(
        zip(CANDIDATES, (logs - logs[0]) @ counts / counts.sum(), strict=True), key=lambda pair: pair[1]
    ):
        print(f"  {score:+.4f}  {candidate or 'as shipped'}")


@dataclass(frozen=True)
class Asked:
    """What `forecast` says of a curve at its held-out points, at most 60 of them.

    Attributes:
        horizon: How far the curve's end lies beyond the fit.
        curve: The curve.
        model: The laws averaged over its fitted part.
        z: How far beyond the fit the points lie, in ln x, shape (n,).
        error: Log error that came minus what was said, shape (n,).
        parts: What makes up the scale, see `CurveModel.scale_parts`, shape (8, n).
    """

    horizon: float
    curve: Curve
    model: uncertainty.CurveModel
    z: np.ndarray
    error: np.ndarray
    parts: np.ndarray

    @property
    def scale(self) -> np.ndarray:
        """Student's t scale as shipped, shape (n,)."""
        return np.asarray(np.sqrt(np.square(list(uncertainty.SCALES.values())) @ self.parts**2))


def ask(curves: Sequence[tuple[float, Curve]]) -> list[Asked]:
    """`forecast` asked about every curve."""
    found = []
    for horizon, curve in curves:
        model = uncertainty.model_curve(curve.x, curve.y, y_se=curve.y_se)
        chosen = np.unique(np.linspace(0, curve.x_far.size - 1, 60).round().astype(int))
        mean, parts = model.scale_parts(curve.x_far[chosen])
        z = np.log(curve.x_far[chosen]) - model.log_top
        found.append(Asked(horizon, curve, model, z, np.log(curve.y_far[chosen]) - mean, parts))
    return found


class Intervals:
    """The parts of the scale at every held-out point, and how well scales turn them into intervals."""

    def __init__(self, asked: Sequence[Asked]) -> None:
        self.cells = sorted({(one.curve.domain, one.horizon) for one in asked})
        parts, errors, weights, member = [], [], [], []
        for one in asked:
            if one.model.average is None:  # the width is `SLOPE_PRIOR`'s, whatever the scales
                parts.append(np.vstack([np.zeros_like(one.parts), one.scale]))
            else:
                parts.append(np.vstack([one.parts, np.zeros(one.error.size)]))
            errors.append(np.abs(one.error))
            weights.append(np.full(one.error.size, 1.0 / one.error.size))
            member.append(np.full(one.error.size, self.cells.index((one.curve.domain, one.horizon))))
        self.squares = np.concatenate(parts, axis=1) ** 2
        self.error, self.weight = np.concatenate(errors), np.concatenate(weights)
        self.member = np.concatenate(member)
        self.counts = np.bincount(self.member, self.weight)

    def measure(self, scales: np.ndarray, level: float, soft: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Coverage and mean interval score of each cell; coverage smoothed for a search if `soft`."""
        half = uncertainty.quantile_factor(level) * np.sqrt(
            np.append(scales, 1.0) ** 2 @ self.squares + 1e-18
        )
        inside = expit(np.log(half / (self.error + 1e-12)) / soft) if soft else self.error <= half
        score = 2 * half + 2 / (1 - level) * np.maximum(self.error - half, 0)
        return (
            np.bincount(self.member, self.weight * inside) / self.counts,
            np.bincount(self.member, self.weight * score) / self.counts,
        )

    def fit(self, use: np.ndarray) -> np.ndarray:
        """Scales that fit the cells in use: coverage near nominal, and then a small interval score."""
        held = uncertainty.SCALES["line"]
        importance = np.array(
            [use[i] * COUNTS[h] * (self.counts[i] >= 30 or 0.3) for i, (_, h) in enumerate(self.cells)]
        )

        def loss(log_scales: np.ndarray) -> float:
            total = 0.0005 * float(((log_scales - np.log(0.3)) ** 2).sum())
            for level in LEVELS:
                covered, score = self.measure(np.append(np.exp(log_scales), held), level, soft=0.12)
                short_by, over_by = np.maximum(level - covered, 0), np.maximum(covered - level - 0.03, 0)
                cell = 4 * (short_by**2 + over_by**2 / 4) / (1 - level) + 0.6 * np.log(score)
                total += float(importance @ cell / importance.sum())
            return total

        shipped = np.log(list(uncertainty.SCALES.values())[:-1])
        starts = shipped, np.full_like(shipped, np.log(0.3)), np.full_like(shipped, np.log(0.8))
        found = [
            minimize(loss, start, method="L-BFGS-B", bounds=[(-5, 1.5)] * start.size) for start in starts
        ]
        return np.append(np.exp(min(found, key=lambda result: result.fun).x), held)


def choose_scales(curves: Sequence[tuple[float, Curve]], *, markdown: bool) -> None:
    """The table of the scales."""
    intervals = Intervals(ask(curves))
    shipped = np.array(list(uncertainty.SCALES.values()))
    domains = sorted({domain for domain, _ in intervals.cells})
    left_out = {
        domain: intervals.fit(np.array([float(d != domain) for d, _ in intervals.cells]))
        for domain in track(domains, "scales")
    }
    everything = intervals.fit(np.ones(len(intervals.cells)))
    columns = [f"{who}: {level:.0%}" for who in ("shipped", "without it") for level in LEVELS]
    sheet = Sheet(
        "Coverage with the scales shipped, and with scales fitted without the domain",
        ["domain", "horizon", *columns, "score 90%: shipped", "without it"],
    )
    for place, (domain, horizon) in enumerate(intervals.cells):
        cells, scores = [], []
        for scales in (shipped, left_out[domain]):
            cells += [share(float(intervals.measure(scales, level)[0][place])) for level in LEVELS]
            scores.append(short(float(intervals.measure(scales, 0.9)[1][place])))
        sheet.add(domain, f"{horizon:g}x", *cells, *scores)
    sheet.show(markdown=markdown)
    print(f"\n{'scale':12}{'shipped':>10}{'fitted to all':>15}" + "".join(f"{d[:12]:>14}" for d in domains))
    for i, name in enumerate(uncertainty.SCALES):
        row = "".join(f"{left_out[domain][i]:14.3f}" for domain in domains)
        print(f"{name:12}{shipped[i]:10.3f}{everything[i]:15.3f}{row}")


def choose_slope(data: Path, *, markdown: bool) -> None:
    """The table of the slope that a curve may have of which no law can be told."""
    sheet = Sheet(
        "Learners of LCDB that do not fall, projected from their last value: 90 % coverage, interval score",
        ["slope", *(f"{h:g}x: {what}" for h in HORIZONS[:2] for what in ("coverage", "score"))],
    )
    flat = {}
    for h in HORIZONS[:2]:
        learners = lcdb(data, h, limit=ALL, improves=lambda y, se: True)
        flat[h] = [c for c in track(learners, f"{h:g}x") if uncertainty.model_curve(c.x, c.y).average is None]
    shipped = uncertainty.SLOPE_PRIOR
    for slope in SLOPES:
        cells = []
        uncertainty.SLOPE_PRIOR = slope
        for curves in flat.values():
            found = []
            for curve in curves:
                said = forecast(curve.x, curve.y, curve.x_far, levels=(0.9,))
                ends = said.lower[0.9], said.upper[0.9]
                low, high = log_ends(*ends, said.median)
                score = winkler(low, high, np.log(curve.y_far), 0.9)
                found.append((coverage(*ends, curve.y_far), float(score.mean())))
            covered, scored = np.mean(found, axis=0)
            cells += [share(covered), short(scored)]
        sheet.add(f"{slope:g}" + (" (shipped)" if slope == shipped else ""), *cells)
    uncertainty.SLOPE_PRIOR = shipped
    sheet.show(markdown=markdown)
    print(f"\n{', '.join(f'{len(c)} learners at {h:g}x' for h, c in flat.items())}")


def main() -> None:
    """Prints the tables."""
    options = parse(__doc__, ("foretrain",))
    if "lcdb11" in options.sets and (options.data / "lcdb11").is_dir():
        choose_slope(options.data, markdown=options.markdown)
    curves = [(h, c) for h in HORIZONS for c in load(options.data, h, options.sets)]
    smooth = [(h, c) for h, c in curves if c.domain != "double descent"]
    choose_scales(curves, markdown=options.markdown)
    choose_settings(smooth, markdown=options.markdown)


if __name__ == "__main__":
    main()
