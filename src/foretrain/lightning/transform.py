"""How a monitored metric becomes an error, which laws speak of: a number that falls towards a floor."""

from __future__ import annotations

import math
from dataclasses import dataclass

MODES = ("min", "max")
BOUND = 1.0
ROUNDING = 2.0**-22  # metrics come as float32, whose relative rounding is up to 2**-24, summed a few times


@dataclass(frozen=True)
class Transform:
    """A metric that falls is its own error; one that grows towards a bound is as far off as it is below it.

    Attributes:
        metric: Name of the metric, as the module logs it.
        bound: The best value that a metric which grows can have; None for one that falls.
    """

    metric: str
    bound: float | None = None

    @classmethod
    def of(cls, metric: str, mode: str, bound: float | None) -> Transform:
        """The transform that the arguments of the monitor ask for.

        Raises:
            ValueError: If they cannot be meant.
        """
        if mode not in MODES:
            raise ValueError(
                f'Expected `mode` to be "min" or "max", got {mode!r}: '
                '"min" for a loss or an error, "max" for a metric that grows, such as an accuracy.'
            )
        if mode == "min":
            if bound is not None:
                raise ValueError(
                    f'Expected no `bound` with mode="min", got {bound!r}: a metric that falls is taken as it '
                    'is. Pass mode="max" for one that grows towards the bound, or leave `bound` out.'
                )
            return cls(metric)
        number = isinstance(bound, int | float) and not isinstance(bound, bool)
        if bound is not None and not (number and math.isfinite(bound)):
            raise ValueError(
                f"Expected `bound` to be a finite number, got {bound!r}: "
                "pass the best value the metric can have, 1 for a fraction and 100 for percents."
            )
        return cls(metric, BOUND if bound is None else float(bound))

    @property
    def name(self) -> str:
        """Name of the error, with the transform in it: "val_loss", "1 - val_acc"."""
        return self.metric if self.bound is None else f"{self.bound:.12g} - {self.metric}"

    def error(self, value: float) -> float:
        """The error that a value of the metric stands for. Below zero where the value exceeds the bound."""
        if self.bound is None:
            return value
        error = self.bound - value
        return 0.0 if -self._tolerance <= error < 0 else error

    def doubt(self, value: float) -> str | None:
        """A sentence if a value exceeds the bound, else None."""
        if self.bound is None or not math.isfinite(value) or value <= self.bound + self._tolerance:
            return None
        return (
            f"ScalingLawMonitor expects `{self.metric}` to be at most {self.bound:.12g}, got {value:.6g}: an "
            f"error {self.name} below zero is kept but not fitted. Set `bound` to the best value that the "
            "metric can have, for instance bound=100 for percents."
        )

    @property
    def _tolerance(self) -> float:
        return ROUNDING * abs(self.bound or 0.0)
