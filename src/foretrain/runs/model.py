"""The predictive distribution of one run's curve through its schedule, with earlier runs or without.

Every run has its own law (`foretrain.runs.fit`); earlier runs tell how the laws of a study are distributed,
and without any the distribution is that of published runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foretrain.laws.law import Array
from foretrain.runs.annealing import MEMORIES, RatePath
from foretrain.runs.curve import RunCurve
from foretrain.runs.fit import NOISE, RECENCY, Fits, fit_laws, law, pool, weigh
from foretrain.runs.templates import Aligned, left_out, make_template, same_shape
from foretrain.runs.usual import MEAN, MISFIT, SPREAD

RECENCIES = (RECENCY, 4.0)
"""The law is fitted to the run's whole curve and to its tail, see `runs.fit.RECENCY`."""

ORIGINS = (1.35, 1.8, 2.5)
"""The run's own past forecasts are made from its points up to S divided by each of these."""

MIN_PAST = 4
"""A past forecast is made from no fewer points."""

MISFIT_SCORES = 4.0
"""As how many past forecasts that have been scored the usual misfit counts."""

MISFIT_BORROWED = 0.05
"""Misfit where many earlier runs of the study tell the law, before their forecasts are scored; of one alone,
which does not tell how runs differ, twice as much."""

MIN_TEMPLATE = 3
"""With fewer earlier runs of one schedule's shape it cannot be told how well their template forecasts."""

NEAR = 0.1
"""Distance in ln S beyond the last point within which the template comes to count."""

NARROW = np.asarray(np.diag(1.0 / SPREAD**2))


@dataclass(frozen=True)
class RunModel:
    """The law of one run, ready to be asked anywhere along any schedule.

    Attributes:
        path: The run's learning rate as planned.
        reference: Training done at the last point, S0.
        memories: Which of `MEMORIES` each law was fitted under, shape (m,).
        fits: The m laws, one for each memory and recency.
        shares: What each counts, shape (m,), sum 1.
        misfit: Error beyond what the parameters explain, as a share of the fall still to come.
        n_scores: From how many past forecasts that was learned, the run's own and those of earlier runs.
        template: The collapsed curve of earlier runs laid over this one, where there are enough.
        template_share: What it counts along the run's own schedule, 0 to 1, by how much better than the law
            it forecast the earlier runs from each other.
        borrowed: Of the variance that the gain b has without the run's own points, what they leave; 0 to 1.
    """

    path: RatePath
    reference: float
    memories: NDArray[np.intp]
    fits: Fits
    shares: Array
    misfit: float
    n_scores: int
    borrowed: float
    template: Aligned | None = None
    template_share: float = 0.0

    def gained(self, run: RunCurve) -> Array:
        """By how much annealing has lowered the log of the metric at each of a curve's points, shape (n,)."""
        z, annealed = np.log(run.done / self.reference), run.annealed[self.memories]
        lowered, _ = law(self.fits.theta, z, annealed)
        return np.asarray(self.shares @ (law(self.fits.theta, z, 0.0 * annealed)[0] - lowered))

    def log_moments(self, steps: Array, path: RatePath | None = None) -> tuple[Array, Array]:
        """Mean and standard deviation of the log of one new measurement.

        Args:
            steps: After so many optimizer steps, shape (n,), from 1 to the path's last.
            path: Of a run with this other schedule; of this run as planned if None.

        Returns:
            Both of shape (n,).
        """
        own, path = path is None, path or self.path
        z = np.log(np.maximum(path.done(steps), 1e-12) / self.reference)
        annealed = np.stack([path.annealed(steps, memory) for memory in MEMORIES])
        means, variances = self.fits.moments(z, annealed[self.memories])
        mean = self.shares @ means
        variance = self.shares @ (variances + (means - mean) ** 2)
        fall = np.where(z > 0, float(self.shares @ self.fits.theta[:, 0]) - mean, 0.0)
        variance += (self.misfit * fall) ** 2
        if own and self.template is not None:
            # From the last point on, gradually: there the law's own level is the better one.
            share = -self.template_share * np.expm1(-np.maximum(z, 0.0) / NEAR)
            end = float(path.done(np.array([path.rates.size]))[0])
            apart = self.template.log_at(path.done(steps) / end) - mean
            mean, variance = mean + share * apart, variance + share * (1.0 - share) * apart**2
        return mean, np.sqrt(variance)


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
    usual = MEAN + np.array([run.log_y[-1], 0.0, 0.0, 0.0])
    every = len(MEMORIES)
    mean, spread = np.tile(usual, (every, 1)), np.tile(np.diag(SPREAD**2), (every, 1, 1))
    expected, evidence = np.full(every, NOISE**2), np.zeros(every)
    missed, scores = np.zeros((every, 0)), np.zeros((every, 0))
    if library:
        known = _known(library, run, usual, run.end if ask is None else ask)
        expected = np.array([max(float(np.median(fits.variance)), NOISE**2) for fits in known])
        evidence = np.array([float(fits.evidence.sum()) for fits in known])
        everyone = np.ones((1, len(library)), dtype=bool)
        larger = np.array([[earlier.larger(run) for earlier in library]])
        pooled = [pool(fits, everyone, larger, usual, NARROW) for fits in known]
        mean = np.concatenate([m for m, _ in pooled])
        spread = np.concatenate([s for _, s in pooled])
        missed, scores = _left_out(run, library, known, expected, usual)
    memories = np.repeat(np.arange(every), len(RECENCIES))
    fits, past = _own(run, memories, mean, np.asarray(np.linalg.inv(spread)), expected)
    evidence = (evidence + fits.evidence[:: len(RECENCIES)])[memories]
    shares = np.exp(evidence.min() - evidence)
    if past.size:
        off = np.sqrt(np.mean(past[0] ** 2, axis=0))
        shares *= (off + 0.1 * off.mean() + 1e-4) ** -(2.0 * min(1.0, past.shape[1] / len(ORIGINS)))
    shares = shares / shares.sum()
    excess = np.append(shares @ scores[memories], _excess(*(past @ shares)))
    typical = MISFIT_BORROWED * (1.0 + 1.0 / len(library)) if library else MISFIT
    squared = (MISFIT_SCORES * typical**2 + float(excess.sum())) / (MISFIT_SCORES + excess.size)
    # Of the variance that ln b had before the run's own points were seen, what is left.
    left = fits.spread[:, 3, 3] / spread[memories, 3, 3]
    template, counts = _template(run, library, shares @ missed[memories])
    return RunModel(
        path=run.path,
        reference=reference,
        memories=memories,
        fits=fits,
        shares=shares,
        misfit=float(np.sqrt(squared)),
        n_scores=excess.size,
        borrowed=float(shares @ left),
        template=template,
        template_share=counts,
    )


def _template(run: RunCurve, library: Sequence[RunCurve], missed: Array) -> tuple[Aligned | None, float]:
    """The template of the runs with this schedule's shape, and what it counts beside the law.

    Args:
        run: The run.
        library: Earlier runs.
        missed: The law's log errors on them, each forecast from the others, shape (r,).
    """
    alike = same_shape(run, library)
    if len(alike) < MIN_TEMPLATE:
        return None, 0.0
    chosen = [library[index] for index in alike]
    by_template = float(np.mean(left_out(run, chosen) ** 2)) + NOISE**2
    by_law = float(np.mean(missed[alike] ** 2)) + NOISE**2
    aligned = make_template(chosen).aligned(run)
    if aligned is None or not np.isfinite(by_template):
        return None, 0.0
    return aligned, by_law**2 / (by_law**2 + by_template**2)


def _own(
    run: RunCurve, memories: NDArray[np.intp], mean: Array, precision: Array, expected: Array
) -> tuple[Fits, Array]:
    """The laws of the run's curve, and its past forecasts.

    Returns:
        The fits under each memory and recency; and of the forecasts from each origin their error, variance
        and fall, over the last third of what came; shape (3, origins, m).
    """
    cuts = [run.done.size] + [int((run.done <= run.done[-1] / divisor).sum()) for divisor in ORIGINS]
    cuts = cuts[:1] + [cut for cut in cuts[1:] if cut >= MIN_PAST]
    log_s, each = np.log(run.done), memories.size
    distance = np.stack([np.where(log_s <= log_s[cut - 1], log_s[cut - 1] - log_s, np.inf) for cut in cuts])
    recency = np.tile(np.array(RECENCIES), len(cuts) * len(MEMORIES))[:, None]
    which = np.tile(memories, len(cuts))
    shape = (which.size, log_s.size)
    z = np.broadcast_to(log_s - log_s[-1], shape)
    annealed, log_y = run.annealed[which], np.broadcast_to(run.log_y, shape)
    base = weigh(np.repeat(distance, each, axis=0), recency)
    fits = fit_laws(z, annealed, log_y, base, mean[which], precision[which], expected[which])
    past = np.zeros((3, len(cuts) - 1, each))
    for index, cut in enumerate(cuts[1:], 1):
        then = fits[np.arange(each) + index * each]
        late = slice(run.done.size - max((run.done.size - cut) // 3, 1), None)
        told, variance = then.moments(z[:each, late], annealed[:each, late])
        start, _ = law(then.theta, z[:each, cut - 1 : cut], annealed[:each, cut - 1 : cut])
        error = (run.log_y[late] - told).mean(axis=1)
        past[:, index - 1] = error, variance.mean(axis=1), (start - told).mean(axis=1)
    return fits[np.arange(each)], past


def _known(library: Sequence[RunCurve], run: RunCurve, usual: Array, ask: float) -> list[Fits]:
    """The laws of earlier runs under each memory, for a forecast at `ask`, each under the usual prior."""
    log_s, log_y, annealed = _side_by_side(library, run)
    z = log_s - np.log(run.done[-1])
    base = weigh(np.abs(log_s - np.log(ask)))
    mean = np.tile(usual, (len(library), 1))
    for row, earlier in zip(mean, library, strict=True):
        row[0] = np.interp(np.log(run.done[-1]), earlier.log_data(run), earlier.log_y)
    precision = np.tile(NARROW, (len(library), 1, 1))
    expected = np.full(len(library), NOISE**2)
    z = np.where(np.isfinite(z), z, 0.0)
    return [fit_laws(z, m, log_y, base, mean, precision, expected) for m in annealed]


def _side_by_side(curves: Sequence[RunCurve], run: RunCurve) -> tuple[Array, Array, Array]:
    """Ln S, infinite where a curve has no more points, ln y, and M for each memory, of curves in rows.

    S is in steps of the run: a step of a larger batch counts as so many of them.
    """
    longest = max(curve.done.size for curve in curves)
    log_s, log_y = np.full((len(curves), longest), np.inf), np.zeros((len(curves), longest))
    annealed = np.zeros((len(MEMORIES), len(curves), longest))
    for row, curve in enumerate(curves):
        log_s[row, : curve.done.size], log_y[row, : curve.done.size] = curve.log_data(run), curve.log_y
        annealed[:, row, : curve.done.size] = curve.annealed
    return log_s, log_y, annealed


def _left_out(
    run: RunCurve, library: Sequence[RunCurve], known: Sequence[Fits], expected: Array, usual: Array
) -> tuple[Array, Array]:
    """Each earlier run forecast from the others, at the same share of its training: log error and excess."""
    many = len(library)
    if many < 2:
        return np.zeros((len(MEMORIES), many)), np.zeros((len(MEMORIES), 0))
    progress = float(run.done[-1]) / run.end
    young = [earlier.until(progress * earlier.done[-1]) for earlier in library]
    log_s, log_y, annealed = _side_by_side(young, run)
    log_reference = float(np.log(run.done[-1]))
    last = np.array([curve.log_data(run)[-1] for curve in young])[:, None]
    base = weigh(np.where(np.isfinite(log_s), last - log_s, np.inf))
    z = np.where(np.isfinite(log_s), log_s - log_reference, 0.0)
    start_z, end_z = last - log_reference, np.array([[c.log_data(run)[-1]] for c in library]) - log_reference
    larger = np.array([[other.larger(one) for other in library] for one in library])
    end_y = np.array([[curve.log_y[-1]] for curve in library])
    missed, scores = [], []
    for k, fits in enumerate(known):
        mean, spread = pool(fits, ~np.eye(many, dtype=bool), larger, usual, NARROW)
        variance = np.full(many, expected[k])
        then = fit_laws(z, annealed[k], log_y, base, mean, np.asarray(np.linalg.inv(spread)), variance)
        end, spread_there = then.moments(end_z, np.array([[c.annealed[k, -1]] for c in library]))
        start, _ = law(then.theta, start_z, np.array([[c.annealed[k, -1]] for c in young]))
        missed.append((end_y - end)[:, 0])
        scores.append(_excess(end_y - end, spread_there, start - end)[:, 0])
    return np.array(missed), np.array(scores)


def _excess(error: Array, variance: Array, fall: Array) -> Array:
    """Squared error beyond the variance, over the squared fall that was forecast; at most 1."""
    squared = np.maximum(error**2 - variance, 0.0) / np.maximum(fall**2, 1e-6)
    return np.asarray(np.minimum(squared, 1.0))
