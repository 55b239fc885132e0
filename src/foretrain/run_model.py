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
from foretrain.run_fit import RECENCY, USUAL_MEAN, USUAL_SPREAD, Fit, fit_law, law, pool

RECENCIES = (RECENCY, 4.0)
"""The law is fitted to the run's whole curve and to its tail, see `run_fit.RECENCY`."""

ORIGINS = (1.35, 1.8, 2.5)
"""The run's own past forecasts are made from its points up to S divided by each of these."""

MIN_PAST = 4
"""A past forecast is made from no fewer points."""

MISFIT, MISFIT_RUNS = 0.16, 4.0
"""Errors of forecasts beyond what the parameters explain, as a share of the fall still to come, and as if so
many forecasts had told it. From the public runs of Luo et al. 2025 and of the OLMo ladder."""

MISFIT_BORROWED = 0.05
"""The same where earlier runs of the study tell the law."""

NARROW = np.asarray(np.diag(1.0 / USUAL_SPREAD**2))


@dataclass(frozen=True)
class RunModel:
    """The law of one run, ready to be asked anywhere along any schedule.

    Attributes:
        path: The run's learning rate as planned.
        reference: Training done at the last point, S0.
        memories: The memory of annealing under which each law was fitted, shape (m,).
        fits: The laws, one for each memory and recency.
        shares: What each counts, shape (m,), sum 1.
        misfit: Error beyond what the parameters explain, as a share of the fall still to come.
        n_scores: From how many past forecasts that was learned, the run's own and those of earlier runs.
        borrowed: How much of what is known of the gain b comes from elsewhere, 0 to 1.
    """

    path: RatePath
    reference: float
    memories: Array
    fits: tuple[Fit, ...]
    shares: Array
    misfit: float
    n_scores: int
    borrowed: float

    def gained(self, run: RunCurve) -> Array:
        """By how much annealing has lowered the log of the metric at each of a curve's points, shape (n,)."""
        z = np.log(run.done / self.reference)
        gains = []
        for memory, fit in zip(self.memories, self.fits, strict=True):
            lowered, _ = law(fit.theta, z, run.annealed[MEMORIES.index(memory)])
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
        annealed = {memory: path.annealed(steps, memory) for memory in MEMORIES}
        told = [_moments(f, z, annealed[m]) for m, f in zip(self.memories, self.fits, strict=True)]
        means, variances = np.array([m for m, _ in told]), np.array([v for _, v in told])
        mean = self.shares @ means
        variance = self.shares @ (variances + (means - mean) ** 2)
        now = float(self.shares @ np.array([fit.theta[0] for fit in self.fits]))
        return mean, np.sqrt(variance + (self.misfit * np.where(z > 0, mean - now, 0.0)) ** 2)


def model_run(run: RunCurve, library: Sequence[RunCurve] = (), *, ask: float | None = None) -> RunModel:
    """Estimates the law of one run, with what earlier runs tell of it.

    The law is fitted under each memory of annealing and with two weights of what is recent; memories count by
    how well they describe the curves, recencies by the run's own past forecasts. Each earlier run is forecast
    from the others and its own points up to the same share of its training. How far the past forecasts missed
    scales the misfit.

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
    memories, fits, evidence, past, left_out = [], [], [], [], []
    for k, memory in enumerate(MEMORIES):
        mean, precision, variance, known = usual, NARROW, None, []
        if library:
            known = [fit_law(r, k, reference, usual + _level(r, run), NARROW, ask=ask) for r in library]
            variance = float(np.median([fit.variance for fit in known]))
            mean, spread = pool(known, usual, NARROW)
            precision = np.asarray(np.linalg.inv(spread))
            scores = _left_out(run, library, known, k, reference, usual)
        tried = [fit_law(run, k, reference, mean, precision, variance=variance, recency=r) for r in RECENCIES]
        for recency, fit in zip(RECENCIES, tried, strict=True):
            memories.append(memory)
            fits.append(fit)
            evidence.append(tried[0].evidence + sum(other.evidence for other in known))
            past.append(_past(run, k, reference, mean, precision, variance, recency))
            left_out.append(scores if library else np.zeros(0))
    shares = np.exp(np.min(evidence) - np.array(evidence))
    told = np.array(past)  # shape (m, origins, 3)
    if told.size:
        off = np.sqrt(np.mean(told[:, :, 0] ** 2, axis=1))
        shares *= (off + 0.1 * off.mean() + 1e-4) ** -(2.0 * min(1.0, told.shape[1] / len(ORIGINS)))
    shares = shares / shares.sum()
    excess = shares @ np.array(left_out)
    if told.size:
        excess = np.append(excess, _excess(*np.einsum("m,moi->io", shares, told)))
    expected = MISFIT_BORROWED if library else MISFIT
    squared = (MISFIT_RUNS * expected**2 + float(excess.sum())) / (MISFIT_RUNS + excess.size)
    own = np.array([fit.told[3, 3] / fit.information[3, 3] for fit in fits])
    return RunModel(
        path=run.path,
        reference=reference,
        memories=np.array(memories),
        fits=tuple(fits),
        shares=shares,
        misfit=float(np.sqrt(squared)),
        n_scores=excess.size,
        borrowed=float(1.0 - shares @ own),
    )


def _moments(fit: Fit, z: Array, annealed: Array) -> tuple[Array, Array]:
    """Mean and variance of one new log measurement under one law, at ln (S / S0)."""
    mean, slopes = law(fit.theta, z, annealed)
    spread = np.linalg.inv(fit.information)
    return mean, np.einsum("ni,ij,nj->n", slopes, spread, slopes) + fit.variance


def _level(earlier: RunCurve, run: RunCurve) -> Array:
    """What brings the usual level, of the run's last value, to an earlier run's at the same training."""
    there = float(np.interp(np.log(run.done[-1]), np.log(earlier.done), earlier.log_y))
    return np.array([there - float(run.log_y[-1]), 0.0, 0.0, 0.0])


def _excess(error: Array, variance: Array, fall: Array) -> Array:
    """Squared error beyond the variance, over the squared fall that was forecast; at most 1."""
    return np.minimum(np.maximum(error**2 - variance, 0.0) / np.maximum(fall**2, 1e-6), 1.0)


def _past(
    run: RunCurve,
    k: int,
    reference: float,
    mean: Array,
    precision: Array,
    variance: float | None,
    recency: float,
) -> list[tuple[float, float, float]]:
    """Of each of the run's past forecasts its error, variance and fall, over the last third of what came."""
    found = []
    for divisor in ORIGINS:
        young = run.until(run.done[-1] / divisor)
        count = young.done.size
        if count < MIN_PAST:
            continue
        fit = fit_law(young, k, reference, mean, precision, variance=variance, recency=recency)
        late = slice(run.done.size - max((run.done.size - count) // 3, 1), None)
        z = np.log(run.done / reference)
        told, spread = _moments(fit, z[late], run.annealed[k, late])
        start, _ = law(fit.theta, z[count - 1 : count], run.annealed[k, count - 1 : count])
        error = float(np.mean(run.log_y[late] - told))
        found.append((error, float(np.mean(spread)), float(np.mean(start - told))))
    return found


def _left_out(
    run: RunCurve,
    library: Sequence[RunCurve],
    known: Sequence[Fit],
    k: int,
    reference: float,
    usual: Array,
) -> Array:
    """The excess of each earlier run's forecast from the others, at the same share of its training."""
    if len(library) < 2:
        return np.zeros(0)
    progress = float(run.done[-1]) / run.end
    typical = float(np.median([fit.variance for fit in known]))
    found = []
    for index, earlier in enumerate(library):
        mean, spread = pool([fit for other, fit in enumerate(known) if other != index], usual, NARROW)
        young = earlier.until(progress * earlier.done[-1])
        precision = np.asarray(np.linalg.inv(spread))
        fit = fit_law(young, k, reference, mean, precision, variance=typical)
        end, variance = _moments(fit, np.log(earlier.done[-1:] / reference), earlier.annealed[k, -1:])
        start, _ = law(fit.theta, np.log(young.done[-1:] / reference), young.annealed[k, -1:])
        found.append(_excess(earlier.log_y[-1:] - end, variance, start - end)[0])
    return np.array(found)
