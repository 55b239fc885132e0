"""What a learning-rate schedule does to a loss: the training done so far, and what annealing has gained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from foretrain.laws.law import Array

RATE_POWER, GAIN_POWER = 0.64, 0.6
"""The exponents gamma and beta of the multi-power law (Luo et al. 2025, equation 4), as fitted by its authors
to models of 25, 100 and 400 million parameters: .64, .66, .63 and .58, .60, .59."""

MEMORIES = (0.1, 0.03, 0.01, 0.003)
"""How soon a drop of the rate shows, per step at the peak rate. The authors' own fits are near .1 (`C` of the
law times the peak rate to the power 1 - gamma); other batch sizes and rates have other units of time."""

MAX_GAPS = 400
"""Drops of a smooth decay are taken together in so many groups of equal size."""

AT_PEAK = 0.999
"""From this share of the largest rate on, the warm-up is over."""


@dataclass(frozen=True)
class RatePath:
    """The learning rate of a run, as the laws of annealing see it.

    Attributes:
        rates: Rate of every optimizer step, shape (T,), as a share of the largest.
    """

    rates: Array

    @classmethod
    def of(cls, lr: Array) -> RatePath:
        """The path of a run whose every step's rate is known, shape (T,). None negative, one positive."""
        rates = np.asarray(lr, dtype=float)
        return cls(rates / rates.max())

    @cached_property
    def warmup_end(self) -> int:
        """The first step, counted from 1, at the largest rate."""
        return int(np.argmax(self.rates >= AT_PEAK)) + 1

    @cached_property
    def _summed(self) -> Array:
        return np.cumsum(self.rates)

    @cached_property
    def _gaps(self) -> tuple[Array, Array, Array]:
        """Drops of the rate after warm-up: by how much, at what training done, and to what rate."""
        after = self.rates.copy()
        after[: self.warmup_end - 1] = 1.0
        drop = -np.diff(after, prepend=1.0)
        at = np.flatnonzero(drop)
        drop, done, rate = drop[at], (self._summed - self.rates)[at], after[at]
        if at.size <= MAX_GAPS:
            return drop, done, rate
        size = np.cumsum(np.abs(drop))
        group = np.minimum((size * (MAX_GAPS / size[-1])).astype(int), MAX_GAPS - 1)
        first = np.concatenate([[0], np.flatnonzero(np.diff(group)) + 1])
        weight = np.abs(drop)
        total = np.add.reduceat(weight, first)
        return (
            np.add.reduceat(drop, first),
            np.add.reduceat(weight * done, first) / total,
            np.add.reduceat(weight * rate, first) / total,
        )

    def done(self, steps: Array) -> Array:
        """Training done after so many optimizer steps: the sum of the rates, in steps at the largest.

        The abscissa of the laws of annealing (`S1` of Tissue et al. 2024 over the largest rate). Warm-up
        counts as far as its rates go.

        Args:
            steps: Numbers of steps, shape (n,), from 1 to T.

        Returns:
            Shape (n,), in steps at the largest rate.
        """
        return np.asarray(self._summed[np.asarray(steps, dtype=int) - 1])

    def annealed(self, steps: Array, memory: float) -> Array:
        """How much of the rate has been given up, as far as it shows in the loss by then.

        `sum_k (u_{k-1} - u_k) G(u_k^-gamma (S(s) - S_k))` with `G(x) = 1 - (1 + memory x)^-beta`: the loss
        reduction of the multi-power law (Luo et al. 2025, equation 4) over its coefficient and the largest
        rate, for rates u as shares of the largest and training done S in steps at the largest. Before the
        end of warm-up nothing has been given up. It is 1 long after the rate has gone to zero; where the
        rate rises again it falls.

        Args:
            steps: Numbers of steps, shape (n,), from 1 to T.
            memory: How soon a drop shows, per step at the largest rate.

        Returns:
            Shape (n,), a share of the largest rate.
        """
        drop, at, rate = self._gaps
        since = np.maximum(self.done(steps)[:, None] - at, 0.0)
        shown = -np.expm1(-GAIN_POWER * np.log1p(memory * since * np.maximum(rate, 1e-6) ** -RATE_POWER))
        return np.asarray(shown @ drop)
