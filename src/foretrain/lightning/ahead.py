"""Learning rates far ahead without stepping all the way: a scheduler's rate by its step count."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any, cast

import numpy as np
from torch.optim import lr_scheduler as torch_schedulers

from foretrain.knots import TOLERANCE, KnotBuilder
from foretrain.lightning.vetting import Doubt, Vetting

GRID = 256  # values at first; between them more where the curve bends
PROBES = (0.236, 0.618)  # where a stretch is tested: no simple fractions, which a cycle might share

# What multiplies the rate by a factor of the step count alone, whatever the rate is.
_FACTORS = ("ConstantLR", "LinearLR", "ExponentialLR", "StepLR", "MultiStepLR", "PolynomialLR")
# What else of torch depends on the step count alone.
_BY_COUNT = (
    *_FACTORS,
    "LambdaLR",
    "CosineAnnealingLR",
    "CosineAnnealingWarmRestarts",
    "OneCycleLR",
    "CyclicLR",
)

Rates = Callable[..., list[Any]]


def by_count(scheduler: Any, groups: list[dict[str, Any]]) -> Rates | None:
    """The groups' rates as a function of how often a scheduler was stepped, where there is one.

    The scheduler must be a copy: it is moved about. What holds for one that was never disturbed need not hold
    for this one, so the function is to be compared with real steps.
    """
    step = getattr(type(scheduler), "step", None)
    if step is torch_schedulers.SequentialLR.step:
        parts, marks = [by_count(part, groups) for part in scheduler._schedulers], scheduler._milestones
        if any(part is None for part in parts):
            return None

        def in_turn(count: int) -> list[Any]:
            index = bisect_right(marks, count)
            return parts[index](count - (marks[index - 1] if index else 0))  # type: ignore[misc]

        return in_turn
    if step is torch_schedulers.ChainedScheduler.step:
        factors = scheduler._schedulers
        named = [getattr(torch_schedulers, name) for name in _FACTORS]
        if any(type(part) not in named for part in factors):
            return None
        counts = [part.last_epoch for part in factors]
        functions = [by_count(part, groups) for part in factors]
        start = getattr(scheduler, "last_epoch", 0)

        def product(count: int) -> list[Any]:
            rates = [float(group["initial_lr"]) for group in groups]
            for function, own in zip(functions, counts, strict=True):
                assert function is not None
                parts = function(own + count - start)
                rates = [
                    rate * float(part) / float(group["initial_lr"])
                    for rate, part, group in zip(rates, parts, groups, strict=True)
                ]
            return rates

        return product
    rates = _rates_of(scheduler)
    if rates is None:
        return None
    scheduler._get_lr_called_within_step = True  # else it warns

    def alone(count: int) -> list[Any]:
        scheduler.last_epoch, scheduler._step_count = count, count + 1
        if isinstance(scheduler, torch_schedulers.CosineAnnealingWarmRestarts):
            scheduler.T_cur, scheduler.T_i = _restart(count, scheduler.T_0, scheduler.T_mult)
        return list(rates())

    return alone


def _rates_of(scheduler: Any) -> Rates | None:
    """The method that computes a scheduler's rates, if from the step count alone."""
    for cls in type(scheduler).__mro__:
        theirs = cls.__module__ == torch_schedulers.__name__
        if not theirs and not {"step", "_update_lr"}.isdisjoint(vars(cls)):
            return None
        for name in ("_get_closed_form_lr", "get_lr"):
            if name not in vars(cls):
                continue
            if not theirs:
                try:
                    Vetting().read(vars(cls)[name], scheduler)  # stores nothing, and looks at no optimizer
                except Doubt:
                    return None
            elif cls.__name__ not in _BY_COUNT:
                return None
            return cast(Rates, getattr(scheduler, name))
    return None


def _restart(count: int, first: int, factor: int) -> tuple[int, int]:
    """Steps since the last warm restart, and until the next from there (Loshchilov and Hutter 2017)."""
    if factor == 1:
        return count % first, first
    while count >= first:
        count, first = count - first, first * factor
    return count, first


def sample(
    ahead: Callable[[int], float], start: int, total: int, builder: KnotBuilder, deadline: float
) -> tuple[float, int]:
    """Adds rates to a builder so densely that lines between them are close to those left out.

    Args:
        ahead: The rate of a step.
        start: The first step wanted.
        total: The last one.
        builder: Takes the rates.
        deadline: When to stop, in `time.perf_counter`.

    Returns:
        How close, as a learning rate, where the stretches between were tested; and the step it came to.
    """
    marks = sorted({int(x) for x in np.linspace(start, total, GRID + 1)})
    values = [ahead(mark) for mark in marks]
    close = 0.5 * TOLERANCE * max(max(values), builder.rate or 0.0)
    rest = [*zip(marks, values, strict=True)][::-1]
    step, value = rest.pop()
    builder.add(step, value)
    while rest:
        end, last = rest[-1]
        straight = True
        for probe in PROBES if end - step > 1 else ():
            middle = step + min(max(1, round((end - step) * probe)), end - step - 1)
            expected = value + (last - value) * (middle - step) / (end - step)
            if abs(ahead(middle) - expected) > close:
                straight = False
                break
        if straight:
            step, value = rest.pop()
            builder.add(step, value)
        elif time.perf_counter() > deadline:
            return close, step
        else:
            middle = (step + end) // 2
            rest.append((middle, ahead(middle)))
    return close, total
