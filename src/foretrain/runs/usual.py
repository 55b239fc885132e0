"""What published runs tell of a run of which nothing else is known: the library of a first run.

Printed by `benchmarks/usual_runs.py` from the runs that their authors published. An interval that rests on it
says so (`FitStatus.UNCALIBRATED`, `FitStatus.ANNEALING_ASSUMED`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class PublishedRuns:
    """Finished runs of one size and recipe.

    Attributes:
        source: Author and year.
        n_params: Model size.
        runs: How many curves decayed their learning rate, the losses of one run counted each.
        gain: What a full decay of the rate lowers the loss by, as a share of it at the end; median.
        exponent: Of the training done; median.
        misfit: Error of forecasts of the end from 25, 50 and 75 % of a run beyond their variance, as a share
            of the fall still to come; root mean square.
    """

    source: str
    n_params: float
    runs: int
    gain: float
    exponent: float
    misfit: float


PUBLISHED = (
    PublishedRuns("Luo et al. 2025, arXiv:2503.12811", 25e6, 6, 0.043, 0.51, 0.00),
    PublishedRuns("Luo et al. 2025, arXiv:2503.12811", 100e6, 6, 0.053, 0.45, 0.02),
    PublishedRuns("Bhagia et al. 2024, arXiv:2412.04403", 190e6, 66, 0.075, 0.50, 0.14),
    PublishedRuns("Bhagia et al. 2024, arXiv:2412.04403", 371e6, 66, 0.076, 0.50, 0.13),
)
"""Losses of language models, Apache-2.0 and MIT licences; numbers only."""

OTHER_GAIN, OTHER_EXPONENT = 0.3, 0.6
"""Standard deviations of ln gain and ln exponent from one kind of data and model to another, beside those
within the table. Assumed for the gain; exponents of learning curves range from .07 to .49 over domains
(Hestness et al. 2017)."""

_gains = np.log([group.gain for group in PUBLISHED])
_exponents = np.log([group.exponent for group in PUBLISHED])

MEAN = np.array([0.0, 0.4, _exponents.mean(), _gains.mean()])
SPREAD = np.array(
    [3.0, 1.5, np.hypot(_exponents.std(ddof=1), OTHER_EXPONENT), np.hypot(_gains.std(ddof=1), OTHER_GAIN)]
)
"""Of ln l (against the last value), logit F, ln alpha and ln b of `foretrain.runs.fit`: normal densities. The
level and the share F that is irreducible are left open."""

MISFIT = max(group.misfit for group in PUBLISHED)
"""That of the set whose forecasts missed most."""
