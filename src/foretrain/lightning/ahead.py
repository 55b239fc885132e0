"""Learning rates far ahead without stepping all the way: a scheduler's rate by its step count."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import numpy as np
from torch.optim import lr_scheduler as torch_schedulers

from foretrain.knots import TOLERANCE, KnotBuilder

GRID = 512  # values at first; between them more where the curve bends
PROBES = (0.236, 0.618)  # where a stretch is tested: no simple fractions, which a cycle might share

# What multiplies the rate by a factor of the step count alone, whatever the rate is.
_FACTORS = ("ConstantLR", "LinearLR", "ExponentialLR", "StepLR", "MultiStepLR", "PolynomialLR")

Rates = Callable[[int], list[Any]]


def by_count(scheduler: Any, groups: list[dict[str, Any]]) -> Rates | None:
    """The groups' rates as a function of how often a scheduler was stepped, where there is one.

    The scheduler must be a copy: it is moved about. What holds for one that was never disturbed need not hold
    for this one, so the function is to be compared with real steps.
    """
    if isinstance(scheduler, torch_schedulers.SequentialLR):
        parts, marks = [by_count(part, groups) for part in scheduler._schedulers], scheduler._milestones
        if any(part is None for part in parts):
            return None

        def in_turn(count: int) -> list[Any]:
            index = bisect_right(marks, count)
            return parts[index](count - (marks[index - 1] if index else 0))  # type: ignore[misc]

        return in_turn
    if isinstance(scheduler, torch_schedulers.ChainedScheduler):
        factors = scheduler._schedulers
        if any(type(part).__name__ not in _FACTORS for part in factors):
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
    if not isinstance(scheduler, torch_schedulers.LRScheduler):
        return None
    scheduler._get_lr_called_within_step = True  # else it warns
    closed = getattr(scheduler, "_get_closed_form_lr", scheduler.get_lr)

    def alone(count: int) -> list[Any]:
        scheduler.last_epoch = count
        if isinstance(scheduler, torch_schedulers.CosineAnnealingWarmRestarts):
            scheduler.T_cur, scheduler.T_i = _restart(count, scheduler.T_0, scheduler.T_mult)
        return list(closed())

    return alone


def _restart(count: int, first: int, factor: int) -> tuple[int, int]:
    """Steps since the last warm restart, and until the next from there (Loshchilov and Hutter 2017)."""
    if factor == 1:
        return count % first, first
    while count >= first:
        count, first = count - first, first * factor
    return count, first


def sample(
    ahead: Callable[[int], float], start: int, total: int, builder: KnotBuilder, seconds: float
) -> tuple[float, int]:
    """Adds rates to a builder so densely that lines between them are close to those left out.

    Args:
        ahead: The rate of a step.
        start: The first step wanted.
        total: The last one.
        builder: Takes the rates.
        seconds: How long it may take.

    Returns:
        How close, as a learning rate, where the stretches between were tested; and the step it came to.
    """
    deadline = time.perf_counter() + seconds
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
