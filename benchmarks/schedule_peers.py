"""Ways to tell a run's final loss from its first part and the rest of its schedule, ours among them.

Every method takes a run, which of its points are seen, and its library, and answers with a median and, where
it has any, central intervals by nominal level; None where it lacks what it needs. All but ours leave out the
points of the warm-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

import foretrain
from foretrain.laws.annealing import annealing_axes
from foretrain.runs.annealing_fit import RatedCurve, ScheduledFit, fit_multi_power
from peers.resampling import bootstrap
from schedule_curves import Run

LEVELS = (0.5, 0.8, 0.9)
FEWEST_LENT = 3
"""A multi-power law needs so many runs."""


@dataclass(frozen=True)
class Told:
    """What a method says of a run's final loss.

    Attributes:
        median: The predicted loss.
        intervals: Lower and upper end by nominal level.
    """

    median: float
    intervals: dict[float, tuple[float, float]] = field(default_factory=dict)


Method = Callable[[Run, np.ndarray, Sequence[Run]], Told | None]


def ours(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """`foretrain.forecast_run` with the library."""
    lent = [other.item() for other in library]
    at = [int(run.step[-1])]
    result = foretrain.forecast_run(run.step[seen], run.y[seen], run.lr, at, library=lent, levels=LEVELS)
    ends = {level: (float(result.lower[level][0]), float(result.upper[level][0])) for level in LEVELS}
    return Told(float(result.median[0]), ends)


def ours_alone(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """`foretrain.forecast_run` without a library."""
    return ours(run, seen, ())


def last_value(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """No extrapolation at all."""
    return Told(float(run.y[seen][-1]))


def power_law(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """Our fit of a power law with irreducible error, in steps."""
    use = _used(run, seen)
    found = foretrain.fit("power_floor", run.step[use], run.y[use])
    return Told(float(found.predict(run.step[-1:])[0]))


def curve_fit(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """The same law by scipy's `curve_fit`, with a residual bootstrap."""
    use = _used(run, seen)
    median, ends = bootstrap(run.step[use].astype(float), run.y[use], run.step[-1:].astype(float))
    return Told(float(median[0]), {k: (float(low[0]), float(high[0])) for k, (low, high) in ends.items()})


def annealing(run: Run, seen: np.ndarray, lender: Run | None, *, memory: float) -> Told:
    """The momentum law, or with no memory the linear one; its coefficient from a lender if there is one."""
    axes, use = _axes(run, memory), _used(run, seen)
    held = None
    if lender is not None:
        points = _used(lender, np.ones(lender.step.size, dtype=bool))
        lent = foretrain.fit("annealing", _axes(lender, memory)[:, points], lender.y[points])
        held = {"B": lent.parameters["B"] * float(run.lr.max() / lender.lr.max())}
    found = foretrain.fit("annealing", axes[:, use], run.y[use], fixed=held)
    return Told(float(found.predict(axes[:, -1:])[0]))


def momentum_lent(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told | None:
    """The momentum law (Tissue et al. 2024, lambda .999), its C from one finished run of the library.

    From a cosine run if there is one, that of the nearest length; else from the first whose rate has fallen.
    """
    fallen = [other for other in library if other.lr[-1] < 0.5 * other.lr.max()]
    cosine = [other for other in fallen if other.cosine]
    if not fallen:
        return None
    near = min(cosine or fallen, key=lambda other: abs(np.log(other.step[-1] / run.step[-1])))
    return annealing(run, seen, near, memory=0.999)


def momentum_free(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """The momentum law fitted to the seen points alone."""
    return annealing(run, seen, None, memory=0.999)


def linear_free(run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told:
    """The linear term (Luo et al. 2025) fitted to the seen points alone."""
    return annealing(run, seen, None, memory=0.0)


class MultiPower:
    """The multi-power law (Luo et al. 2025), fitted to the library as its authors do.

    Args:
        level: Whether to move its level to the last third of the seen points.
        fitted: Fits done so far, by group, metric and left-out schedule; shared between instances.
    """

    def __init__(self, fitted: dict[tuple[str, str, str], ScheduledFit], *, level: bool) -> None:
        self.fitted, self.level = fitted, level

    def __call__(self, run: Run, seen: np.ndarray, library: Sequence[Run]) -> Told | None:
        """Its answer, or None where fewer than three runs were lent."""
        if len(library) < FEWEST_LENT:
            return None
        key = run.group, run.metric, run.schedule
        if key not in self.fitted:
            after = [(other, other.step > other.warmup) for other in library]
            lent = [RatedCurve(other.step[use], other.y[use], other.lr) for other, use in after]
            self.fitted[key] = fit_multi_power(lent)
        use = np.flatnonzero(_used(run, seen))
        last = use[-max(use.size // 3, 1) :]
        predicted = self.fitted[key].predict(run.lr, np.append(run.step[last], run.step[-1]))
        moved = np.median(run.y[last] / predicted[:-1]) if self.level else 1.0
        return Told(float(moved * predicted[-1]))


_FITTED: dict[tuple[str, str, str], ScheduledFit] = {}

WITH_LIBRARY: dict[str, Method] = {
    "foretrain": ours,
    "momentum law, C lent": momentum_lent,
    "multi-power law, lent": MultiPower(_FITTED, level=False),
    "multi-power law, lent, level moved": MultiPower(_FITTED, level=True),
}
ALONE: dict[str, Method] = {
    "foretrain, no library": ours_alone,
    "last value": last_value,
    "power law in steps": power_law,
    "power law in steps, curve_fit": curve_fit,
    "momentum law, free": momentum_free,
    "linear term, free": linear_free,
}


def _used(run: Run, seen: np.ndarray) -> np.ndarray:
    """The seen points after the warm-up."""
    return seen & (run.step > run.warmup)


def _axes(run: Run, memory: float) -> np.ndarray:
    return annealing_axes(run.lr, run.step, memory=memory, warmup="peak" if memory else "actual")
