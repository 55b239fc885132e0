"""Double descent of linear regression: the test error peaks where the samples meet the parameters."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from foretrain.timescale import double_descent_error

PARAMS = 50


@lru_cache(maxsize=1)
def measure_descent(
    params: int = PARAMS, noise: float = 0.2, draws: int = 20
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Least squares on more and more samples: their number, the mean test error, and the formula's."""
    rng = np.random.default_rng(0)
    samples = np.unique(np.geomspace(8, 400, 61).round()).astype(int)
    measured = []
    for count in samples:
        errors = []
        for _ in range(draws):
            x, teacher = rng.standard_normal((count, params)), rng.standard_normal(params) / np.sqrt(params)
            y = x @ teacher + rng.normal(0, np.sqrt(noise), count)
            errors.append(noise + ((np.linalg.pinv(x) @ y - teacher) ** 2).sum())
        measured.append(np.mean(errors))
    formula = [double_descent_error(1e4, float(count), params, noise=noise)[0] for count in samples]
    return samples, np.array(measured), np.array(formula)
