"""What a user asked of the monitor, checked once, at construction."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any

from foretrain.axes import AXES, Counts
from foretrain.flags import Flag, Severity
from foretrain.lightning.batches import Count
from foretrain.lightning.transform import Transform
from foretrain.storage.urls import as_root

NOT_DATA = ("params", "params_total", "params_non_embedding", "density")  # do not grow as one run trains
SIZES = ("trainable", "total", "non_embedding")
MEASURED = "measured"
WARN, STOP = "warn", "stop"
SEVERITIES = tuple(severity.value for severity in Severity)
DEFAULT_STUDY = "default"
LEVELS = [0.5, 0.8, 0.9]


@dataclass(frozen=True)
class Settings:
    """The arguments of `ScalingLawMonitor`, which documents them.

    Raises:
        ValueError: If one of them cannot be meant.
    """

    monitor: str
    axis: str | None
    targets: tuple[float, ...]
    target_params: tuple[float, ...]
    study: str
    run: str | None
    root: str | None
    batch_size_fn: Callable[[Any], Count] | None
    length_fn: Callable[[Any], Count] | None
    model_size: int | str | Callable[[Any], int] | None
    flops_per_sample: float | str | None
    final_wait: float
    fit: bool
    mode: str = "min"
    bound: float | None = None
    name: str | None = None
    on_flag: Callable[[Flag], Any] | None = None
    action: str = WARN
    stop_at: str = SEVERITIES[-1]
    data_policy: str | None = None

    def __post_init__(self) -> None:
        """Refuses what cannot be meant, in words."""
        _expect_name("monitor", self.monitor, 'name a metric that the module logs, such as "val_loss"')
        Transform.of(self.monitor, self.mode, self.bound)
        data_axes = [name for name in AXES if name not in NOT_DATA]
        if self.axis is not None and self.axis not in data_axes:
            raise ValueError(
                f"Expected `axis` to be one of {', '.join(data_axes)}, got {self.axis!r}: "
                "choose what grows while the run trains, or leave it out."
            )
        _expect_name("study", self.study, "name the set of runs that are compared")
        for name in ("run", "root", "name"):
            if getattr(self, name) is not None:
                _expect_name(name, getattr(self, name), "leave it out to have it chosen")
        if self.data_policy is not None:
            _expect_name("data_policy", self.data_policy, "name the rule that selected the data")
        for name in ("batch_size_fn", "length_fn"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise ValueError(
                    f"Expected `{name}` to be a function of a batch, got {getattr(self, name)!r}: "
                    "pass a function that returns a whole number."
                )
        if self.on_flag is not None and not callable(self.on_flag):
            raise ValueError(
                f"Expected `on_flag` to be a function of a flag, got {self.on_flag!r}: pass a function, or "
                "leave it out."
            )
        for name, values in (("action", (WARN, STOP)), ("stop_at", SEVERITIES)):
            if getattr(self, name) not in values:
                raise ValueError(
                    f"Expected `{name}` to be one of {', '.join(values)}, got {getattr(self, name)!r}: "
                    "choose one, or leave it out."
                )
        if not self.fit and (self.on_flag is not None or self.action == STOP):
            raise ValueError(
                'Expected `fit=True` with `on_flag` or `action="stop"`, got `fit=False`: flags come from the '
                "process that fits."
            )
        if not callable(self.model_size) and self.model_size not in (None, *SIZES):
            names = ", ".join(f'"{name}"' for name in SIZES)
            advice = f"pass {names}, a number of parameters or a function"
            _expect_positive("model_size", self.model_size, advice)
        if self.flops_per_sample not in (None, MEASURED):
            advice = f'pass the training FLOPs of one sample, or "{MEASURED}"'
            _expect_positive("flops_per_sample", self.flops_per_sample, advice)
        if not _is_number(self.final_wait) or not 0 <= self.final_wait < math.inf:
            raise ValueError(
                f"Expected `final_wait` to be a number of seconds, got {self.final_wait!r}: "
                "pass 0 not to wait for the last projection."
            )

    @property
    def transform(self) -> Transform:
        """How the metric becomes an error."""
        return Transform.of(self.monitor, self.mode, self.bound)

    @property
    def identity(self) -> dict[str, Any]:
        """What sets a monitor apart from others of its Trainer, in checkpoints. Once written, it stays so."""
        mode = {} if self.mode == "min" else {"mode": self.mode, "bound": self.transform.bound}
        study = {} if self.study == DEFAULT_STUDY else {"study": self.study}
        name = {} if self.name is None else {"name": self.name}
        return {"monitor": self.monitor, "axis": self.axis, **mode, **study, **name}

    def question(self, run: str, axis: str) -> dict[str, Any]:
        """What is asked of the analysis."""
        return {
            "run": run,
            "metric": self.transform.name,
            "axis": axis,
            "targets": list(self.targets),
            "target_params": list(self.target_params),
            "levels": LEVELS,
        }

    def choose_axis(self, counts: Counts) -> str:
        """The data axis: the user's, else tokens where they are known, else samples, else steps."""
        if self.axis is not None:
            return self.axis
        if counts.tokens:
            return "tokens"
        return "samples" if counts.samples else "steps"


def as_numbers(name: str, values: Iterable[float]) -> tuple[float, ...]:
    """The values as a tuple of positive numbers.

    Raises:
        ValueError: If they are not.
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise ValueError(f"Expected `{name}` to be a list of numbers, got {values!r}: put it in brackets.")
    numbers = tuple(values)
    for number in numbers:
        _expect_positive(name, number, "give amounts such as 1e9")
    return tuple(float(number) for number in numbers)


def as_path(root: str | os.PathLike[str] | None) -> str | None:
    """A path or a URL as text.

    Raises:
        ValueError: If it is a URL where nothing can be kept.
    """
    return None if root is None else as_root(root)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _expect_name(name: str, value: Any, advice: str) -> None:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"Expected `{name}` to be a text that is not empty, got {value!r}: {advice}.")


def _expect_positive(name: str, value: Any, advice: str) -> None:
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"Expected `{name}` to be positive and finite, got {value!r}: {advice}.")
