"""The predictive distribution of one run's curve through its schedule, with earlier runs or without.

Every run has its own law (`foretrain.run_fit`); earlier runs tell how the laws of a study are distributed,
and without any the distribution is that of published runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from foretrain.annealing import MEMORIES, RatePath
from foretrain.laws.law import Array
from foretrain.run_curve import RunCurve
from foretrain.run_fit import USUAL_MEAN, USUAL_SPREAD, Fit, fit_law, law, pool

MISFIT, MISFIT_RUNS = 0.13, 4.0
"""Errors of forecasts beyond what the parameters explain, as a share of the fall still to come, and as if so
many earlier runs had told it."""

MISFIT_BORROWED = 0.05
"""The same where earlier runs of the study tell the law."""


@dataclass(frozen=True)
class RunModel:
    """The law of one run, ready to be asked anywhere along any schedule.

    Attributes:
        path: The run's learning rate as planned.
        reference: Training done at the last point, S0.
        shares: What each of `MEMORIES` counts, shape (k,), sum 1.
        fits: The law under each of them.
        misfit: Error beyond what the parameters explain, as a share of the fall still to come.
        n_scores: From how many earlier runs that was learned; 0 if from public runs alone.
        borrowed: How much of what is known of the gain b comes from elsewhere, 0 to 1.
    """

    path: RatePath
    reference: float
    shares: Array
    fits: tuple[Fit, ...]
    misfit: float
    n_scores: int
    borrowed: float

    def gained(self, run: RunCurve) -> Array:
        """By how much annealing has lowered the log of the metric at each of a curve's points, shape (n,)."""
        z = np.log(run.done / self.reference)
        gains = []
        for annealed, fit in zip(run.annealed, self.fits, strict=True):
            lowered, _ = law(fit.theta, z, annealed)
            gains.append(law(fit.theta, z, np.zeros_like(z))[0] - lowered)
        return np.asarray(self.shares @ np.array(gains))

    def log_moments(self, steps: Array, path: RatePath | None = None) -> tuple[Array, Array]:
        """Mean and standard deviation of the log of one new measurement.

        Args:
            steps: After so many optimizer steps, shape (n,), from 1 to the path's last.
            path: Of a run with this other schedule; of this run as planned if None.

        Returns:
            Both of shape (n,).
        """
        path = path or self.path
        z = np.log(np.maximum(path.done(steps), 1e-12) / self.reference)
        means, variances = [], []
        for memory, fit in zip(MEMORIES, self.fits, strict=True):
            mean, slopes = law(fit.theta, z, path.annealed(steps, memory))
            spread = np.linalg.inv(fit.information)
            variances.append(np.einsum("ni,ij,nj->n", slopes, spread, slopes) + fit.variance)
            means.append(mean)
        apart = np.array(means)
        mean = self.shares @ apart
        now = float(sum(share * fit.theta[0] for share, fit in zip(self.shares, self.fits, strict=True)))
        variance = self.shares @ (np.array(variances) + (apart - mean) ** 2)
        return mean, np.sqrt(variance + (self.misfit * np.where(z > 0, mean - now, 0.0)) ** 2)


def model_run(run: RunCurve, library: Sequence[RunCurve] = (), *, ask: float | None = None) -> RunModel:
    """Estimates the law of one run, with what earlier runs tell of it.

    Each earlier run is then forecast from the others and its own points up to the same share of its training;
    how far those forecasts missed scales the misfit.

    Args:
        run: The run, its points so far.
        library: Earlier runs, finished.
        ask: Training done at the place that matters most; the planned end if None.

    Returns:
        The model. With fewer than two points it says little beyond the last value.
    """
    reference = float(run.done[-1])
    ask = run.end if ask is None else ask
    usual = USUAL_MEAN + np.array([run.log_y[-1], 0.0, 0.0, 0.0])
    narrow = np.asarray(np.diag(1.0 / USUAL_SPREAD**2))
    fits, evidence, scores = [], [], []
    for k in range(len(MEMORIES)):
        if not library:
            fit = fit_law(run, k, reference, usual, narrow)
            fits.append(fit)
            evidence.append(fit.evidence)
            continue
        known = [fit_law(r, k, reference, usual + _level(r, run), narrow, ask=ask) for r in library]
        typical = float(np.median([fit.variance for fit in known]))
        mean, spread = pool(known, usual, narrow)
        fit = fit_law(run, k, reference, mean, np.asarray(np.linalg.inv(spread)), variance=typical)
        fits.append(fit)
        evidence.append(fit.evidence + sum(f.evidence for f in known))
        scores.append(_left_out(run, library, known, k, reference, usual, narrow))
    shares = np.exp(np.min(evidence) - np.array(evidence))
    shares = shares / shares.sum()
    excess = shares @ np.array(scores) if scores else np.zeros(0)
    expected = MISFIT_BORROWED if library else MISFIT
    squared = (MISFIT_RUNS * expected**2 + float(excess.sum())) / (MISFIT_RUNS + excess.size)
    return RunModel(
        run.path,
        reference,
        shares,
        tuple(fits),
        float(np.sqrt(squared)),
        excess.size,
        _borrowed(fits, shares),
    )


def _level(earlier: RunCurve, run: RunCurve) -> Array:
    """What brings the usual level, of the run's last value, to an earlier run's at the same training."""
    there = float(np.interp(np.log(run.done[-1]), np.log(earlier.done), earlier.log_y))
    return np.array([there - float(run.log_y[-1]), 0.0, 0.0, 0.0])


def _left_out(
    run: RunCurve,
    library: Sequence[RunCurve],
    known: Sequence[Fit],
    k: int,
    reference: float,
    usual: Array,
    narrow: Array,
) -> Array:
    """Of each earlier run forecast from the others: the excess squared error over the squared fall."""
    if len(library) < 2:
        return np.zeros(0)
    progress = float(run.done[-1]) / run.end
    typical = float(np.median([fit.variance for fit in known]))
    found = []
    for index, earlier in enumerate(library):
        mean, spread = pool([fit for other, fit in enumerate(known) if other != index], usual, narrow)
        young = earlier.until(progress * earlier.done[-1])
        fit = fit_law(young, k, reference, mean, np.asarray(np.linalg.inv(spread)), variance=typical)
        z = np.log(earlier.done[-1:] / reference), np.log(young.done[-1:] / reference)
        end, slopes = law(fit.theta, z[0], earlier.annealed[k, -1:])
        start, _ = law(fit.theta, z[1], young.annealed[k, -1:])
        variance = float(slopes[0] @ np.linalg.inv(fit.information) @ slopes[0]) + fit.variance
        error, fall = float(earlier.log_y[-1] - end[0]), float(start[0] - end[0])
        found.append(max(error**2 - variance, 0.0) / max(fall**2, 1e-6))
    return np.array(found)


def _borrowed(fits: Sequence[Fit], shares: Array) -> float:
    """How much of what is known of the gain comes from elsewhere, 0 to 1."""
    own = [fit.told[3, 3] / fit.information[3, 3] for fit in fits]
    return float(1.0 - shares @ np.array(own))
