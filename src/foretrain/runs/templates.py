"""Collapse of learning curves: runs of one recipe, each over its own end, follow one curve.

`(L(x) - L0) / (L(1) - L0)` against the share x of the training done is the same for runs of other sizes and
lengths where recipe and schedule's shape are the same (Qiu et al. 2025, "Scaling collapse reveals universal
dynamics"; "Scaling with Collapse", 2025). A run that has gone part of the way is then read off finished ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.laws.law import Array
from foretrain.runs.curve import RunCurve

PLACES = np.linspace(0.05, 1.0, 96)
"""Shares of the training done at which curves are compared."""

FLOORS = (0.0, 0.25, 0.5, 0.7, 0.8, 0.9, 0.95)
"""What L0 is tried as, in shares of the lowest final value."""

SAME_SHAPE = 0.02
"""Schedules have one shape if their rates, at the same share of training, differ by less on the average."""

MOST_APART = 300.0
"""What ln of the error is at most above the lowest final value: squares of what follows stay finite."""

RECENT = 0.6
"""A run is compared with the template from this share of its training so far on."""


@dataclass(frozen=True)
class Template:
    """The normalised curve of finished runs.

    Attributes:
        floor: L0, in the metric's unit.
        log_shape: Log of the normalised curve at `PLACES`, 0 at the last.
    """

    floor: float
    log_shape: Array

    def aligned(self, run: RunCurve) -> Aligned | None:
        """The template laid over a run's recent points; None where they lie below its floor."""
        done = run.done / run.end
        recent = done >= RECENT * done[-1]
        above = np.exp(run.log_y[recent]) - self.floor
        if (above <= 0).any():
            return None
        over = np.log(above) - np.interp(done[recent], PLACES, self.log_shape)
        return Aligned(self, float(np.median(over)))


@dataclass(frozen=True)
class Aligned:
    """A template laid over one run.

    Attributes:
        template: The normalised curve.
        log_height: Log of L(1) - L0 for this run.
    """

    template: Template
    log_height: float

    def log_at(self, share: Array) -> Array:
        """The run's log error when these shares of its planned training will be done, shape (n,)."""
        there = self.log_height + np.interp(share, PLACES, self.template.log_shape)
        return np.asarray(np.log(self.template.floor + np.exp(there)))


def same_shape(run: RunCurve, library: Sequence[RunCurve]) -> list[int]:
    """Which of the earlier runs have a schedule of the run's shape."""
    rates = _rates(run)
    return [i for i, earlier in enumerate(library) if np.mean(np.abs(_rates(earlier) - rates)) < SAME_SHAPE]


def make_template(library: Sequence[RunCurve]) -> Template:
    """The normalised curve of finished runs, with the L0 under which they agree best.

    Args:
        library: At least two runs.

    Returns:
        The template.
    """
    log_y = np.stack([np.interp(PLACES, r.done / r.end, r.log_y) for r in library])
    # In units of the lowest final value; runs too far apart for a number have no common curve anyway.
    y = np.exp(np.minimum(log_y - log_y[:, -1].min(), MOST_APART))
    best, shape, floor = np.inf, y[0], 0.0
    for share in FLOORS:
        normal = np.log(np.maximum(y - share, 1e-6)) - np.log(np.maximum(y[:, -1:] - share, 1e-6))
        # The spread in the metric's own unit, so that no L0 wins by making every curve small.
        off = (normal - np.median(normal, axis=0)) * (1.0 - share / y)
        found = float(np.mean(off[:, PLACES >= 0.2] ** 2))
        if found < best:
            best, shape, floor = found, np.median(normal, axis=0), share
    return Template(floor * float(np.exp(log_y[:, -1].min())), shape)


def left_out(run: RunCurve, library: Sequence[RunCurve]) -> Array:
    """The log error of each earlier run's end read off the others, at the same share of its training.

    Args:
        run: The run that is asked about.
        library: At least three runs with schedules of its shape.

    Returns:
        Shape (r,), infinite where a run lies below the floor of the others.
    """
    progress = float(run.done[-1]) / run.end
    found = np.full(len(library), np.inf)
    for index, earlier in enumerate(library):
        others = [curve for other, curve in enumerate(library) if other != index]
        young = earlier.until(progress * earlier.done[-1])
        aligned = make_template(others).aligned(young)
        if aligned is not None:
            last = earlier.done[-1:] / earlier.end
            found[index] = earlier.log_y[-1] - aligned.log_at(last)[0]
    return found


def _rates(run: RunCurve) -> Array:
    """The rate, as a share of the largest, at `PLACES`."""
    done = run.path.done(np.arange(1.0, run.path.rates.size + 1))
    return np.interp(PLACES, done / run.end, run.path.rates)
