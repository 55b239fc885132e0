"""The joint law solved at a grid of exponent pairs at once, and the share that each pair deserves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretrain.fitting import safe_log
from foretrain.laws.joint import EXPONENTS
from foretrain.laws.law import Array, power
from foretrain.laws.linear import best_nonnegative

TEMPER = 2.0
"""A pair of exponents counts its mean squared residual to the power -TEMPER, however many points there are:
the points of one run are not independent, so a family counts as four independent observations. Chosen on the
published runs of Hoffmann 2022 (as read by Besiroglu 2024) and Porian 2024."""

PRIOR_CENTRE = 0.33
"""Geometric mean of the published exponents of size and data, one value for each fit: Hoffmann et al. 2022
(.34, .28), Besiroglu et al. 2024 (.35, .37), Muennighoff et al. 2023 (.35 tied; .33, .38 untied), Hu et al.
2024 (.29, .23), each the geometric mean of its pair: .31, .36, .35, .36, .26."""

PRIOR_WIDTH = 0.5
"""Standard deviation of the logarithm of that mean over metrics and kinds of data: the learning curves of
Hestness et al. 2017 range from .07 to .49 in images, speech, translation and text. Weak on purpose."""

PRIOR_APART = 0.3
"""Standard deviation of ln (alpha / beta). In the five fits above it is -.05 to .23; Gadre et al. 2024
tie the two (0). Where the points do not tell the two apart, the law is thus nearly theirs."""

RESOLUTION = 0.003
"""Log residual below which a better fit says nothing: finished runs that differ in the seed alone do so."""

NEGLIGIBLE = 1e-9
"""Pairs with a share below this, of the largest, are left out."""

POINTS_OF_RUN = 2.0
"""As many points of a run count as independent of each other: a level and a slope."""

BLOCK = 64
"""How many places the law is evaluated at together."""


def log_prior(alpha: Array, beta: Array) -> Array:
    """The log density, up to a constant, that pairs of exponents have before any point is seen.

    Args:
        alpha: Exponents of model size, any shape.
        beta: Exponents of data, likewise.

    Returns:
        Two normal densities in logarithms: of the pair's geometric mean and of its ratio.
    """
    middle = 0.5 * (np.log(alpha) + np.log(beta)) - np.log(PRIOR_CENTRE)
    apart = np.log(alpha) - np.log(beta)
    return np.asarray(-0.5 * (middle / PRIOR_WIDTH) ** 2 - 0.5 * (apart / PRIOR_APART) ** 2)


@dataclass(frozen=True)
class PairAverage:
    """The law `E + A N^-alpha + B D^-beta` with the best E, A and B at each of many pairs of exponents.

    Attributes:
        exponents: The pairs (alpha, beta), shape (2, m).
        coefficients: E, A and B of each pair, none negative, shape (m, 3).
        weights: The share of each pair, shape (m,), sum 1.
        gram: Weighted mean products of the three features over the error, each feature in its `norm`; shape
            (m, 3, 3).
        norm: Their weighted root mean squares, shape (m, 3).
        by_run: What a squared deviation of each run as a whole adds to the features' squared moments; shape
            (m, 3, 3).
        by_point: The same for a squared deviation of each point.
    """

    exponents: Array
    coefficients: Array
    weights: Array
    gram: Array
    norm: Array
    by_run: Array
    by_point: Array

    def log_moments(self, x: Array) -> tuple[Array, Array]:
        """Mean and variance, over the pairs, of the log of the law at x, shape (2, q); both shape (q,)."""
        (alphas, at_alpha), (betas, at_beta) = (np.unique(e, return_inverse=True) for e in self.exponents)
        e, a, b = (self.coefficients[:, k, None] for k in range(3))
        moments = np.empty((2, x.shape[1]))
        for start in range(0, x.shape[1], BLOCK):  # blocks that stay in the processor's cache
            here = slice(start, start + BLOCK)
            logs = power(x[0, here], alphas)[at_alpha]
            logs *= a
            by_data = power(x[1, here], betas)[at_beta]
            by_data *= b
            logs += by_data
            logs += e
            logs = safe_log(logs)
            moments[0, here] = self.weights @ logs
            logs -= moments[0, here]
            logs *= logs
            moments[1, here] = self.weights @ logs
        return moments[0], moments[1]

    def covariance(self, between: float, within: float, points: float) -> Array:
        """The covariance of E, A and B, times their `norm`, that the noise leaves open; shape (m, 3, 3).

        The points of a run share its luck, so the covariance is that of weighted least squares on points that
        are not independent (Liang and Zeger 1986); each term of the law is taken beforehand as no larger than
        the error.

        Args:
            between: Standard deviation of the log of a run as a whole.
            within: Of a point about its run.
            points: As how many independent measurements the points count.
        """
        noise = between**2 + within**2
        inverse = np.linalg.inv(points * self.gram + noise * np.eye(3))
        middle = points**2 * (between**2 * self.by_run + within**2 * self.by_point) + noise**2 * np.eye(3)
        return np.asarray(inverse @ middle @ inverse)

    def coefficient_variance(self, x: Array, between: float, within: float, points: float) -> Array:
        """Mean, over the pairs, of the variance of the log of the law that E, A and B leave open.

        Args:
            x: Where, shape (2, q).
            between: As in `covariance`.
            within: Likewise.
            points: Likewise.

        Returns:
            Shape (q,).
        """
        (alphas, at_alpha), (betas, at_beta) = (np.unique(e, return_inverse=True) for e in self.exponents)
        features = np.ones((self.weights.size, 3, x.shape[1]))
        features[:, 1] = power(x[0], alphas)[at_alpha]
        features[:, 2] = power(x[1], betas)[at_beta]
        value = np.maximum(np.einsum("mk,mkq->mq", self.coefficients, features), 1e-300)
        with np.errstate(over="ignore"):
            relative = np.minimum(features / value[:, None] / self.norm[:, :, None], 1e100)
        covariance = self.covariance(between, within, points)
        return np.asarray(self.weights @ ((covariance @ relative) * relative).sum(axis=1))


def average_pairs(
    x: Array, v: Array, w: Array, temper: float = TEMPER, *, of_run: Array | None = None
) -> PairAverage:
    """Solves for E, A and B at 28 x 28 pairs of exponents, and shares them out.

    At each pair the coefficients minimise `sum_i w_i (f_i / v_i - 1)^2` and are not negative; the normal
    equations of all pairs come from one matrix product, because a feature depends on one exponent alone.

    Args:
        x: N and D of each point, shape (2, n), in any unit. Positive.
        v: The error there, shape (n,). Positive.
        w: What each point counts, shape (n,). Not negative, mean 1.
        temper: Half as many as how many independent observations the points count for the exponents.
        of_run: Which run each point is of, any numbers, shape (n,); all of one each if None.

    Returns:
        The pairs whose share is not negligible.
    """
    k, total = EXPONENTS.size, float(w.sum())
    alpha, beta = np.divmod(np.arange(k * k), k)
    features = np.concatenate([np.ones((1, v.size)), power(x[0], EXPONENTS), power(x[1], EXPONENTS)])
    features *= np.sqrt(w) / v
    norm = np.linalg.norm(features, axis=1)
    norm[norm == 0] = 1.0
    features /= norm[:, None]
    products, moments = features @ features.T, features @ np.sqrt(w)
    scores = features * np.sqrt(w)
    runs = np.arange(v.size) if of_run is None else np.unique(of_run, return_inverse=True)[1]
    count = np.bincount(runs)
    order = np.argsort(runs, kind="stable")
    whole = np.add.reduceat(scores[:, order], np.append(0, np.cumsum(count)[:-1]), axis=1)
    alike = np.maximum(count / POINTS_OF_RUN, 1.0)[runs]
    rows = np.stack([np.zeros_like(alpha), 1 + alpha, 1 + k + beta], axis=1)
    place = rows[:, :, None], rows[:, None, :]
    gram = products[place]
    moment = moments[rows]
    solution = best_nonnegative(gram, moment, total)
    fitted = np.einsum("mk,mkl,ml->m", solution, gram, solution)
    fitted -= 2.0 * np.einsum("mk,mk->m", solution, moment)
    log_share = -temper * np.log(np.maximum(total + fitted, 0.0) / total + RESOLUTION**2)
    log_share += log_prior(EXPONENTS[alpha], EXPONENTS[beta])
    share = np.exp(log_share - log_share.max())
    kept = share > NEGLIGIBLE
    return PairAverage(
        exponents=EXPONENTS[np.stack([alpha, beta])[:, kept]],
        coefficients=(solution / norm[rows])[kept],
        weights=share[kept] / share[kept].sum(),
        gram=gram[kept],
        norm=norm[rows][kept] / np.sqrt(total),
        by_run=(whole @ whole.T)[place][kept] / total,
        by_point=((scores * alike) @ scores.T)[place][kept] / total,
    )
