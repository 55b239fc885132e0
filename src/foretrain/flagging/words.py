"""Flags in words: kind, severity, the numbers, and a hint at the cause where the evidence has one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from foretrain.flagging.family import AboveFamily
from foretrain.flagging.sizes import AboveSizes, Law
from foretrain.flagging.watch import Test
from foretrain.flags import Flag, FlagKind, Severity
from foretrain.laws.law import Array

FOR_GOOD = float(np.log(1.5))
"""An error that has risen by half is not one that over-fits: the run diverges."""

GRAVE = float(np.log(1.1))
"""A rise by a tenth is more than a warning."""

CHANGED = 1.3
"""A learning rate that has changed by this factor is named as a likely cause."""

HINTS = {
    FlagKind.SPIKE: "Look at the batches before it, and at what was restored if the run was resumed there.",
    FlagKind.DIVERGENCE: "Look at the learning rate, at the optimizer's state after a resume, at the data's "
    "order and labels.",
    FlagKind.OVERFITTING: "Look for over-fitting: the weights of the lowest validation may be the better "
    "ones.",
    FlagKind.ABOVE_FAMILY: "Look for what has changed there: weights that no longer learn, the optimizer's "
    "state, weight decay, the data's order and labels.",
    FlagKind.PLATEAU: "Look for weights that do not learn, a learning rate that is too low, or data that "
    "repeat.",
    FlagKind.UNEXPECTEDLY_GOOD: "Look for validation data among the training data, and for a learning rate "
    "that fell without being planned.",
}


@dataclass(frozen=True)
class Window:
    """The validations that raised a flag.

    Attributes:
        step: Step of the last of them.
        since: Step of the forecast that they are compared with.
        log_y: Their logs, shape (m,).
        base: Log of the level before them.
        apart: By how much their mean is off, in ln y.
        score: That in standard deviations.
        limit: Standard deviations from which on it is flagged.
        rates: Largest learning rate lately over that before, or None.
    """

    step: int
    since: int
    log_y: Array
    base: float
    apart: float
    score: float
    limit: float
    rates: float | None


def told(test: Test, window: Window, false_alarm_rate: float) -> Flag:
    """The flag of a test against the run's own past."""
    rise = float(window.log_y[-1] - window.base)
    if test is Test.SPIKE:
        kind = FlagKind.SPIKE
    elif test is Test.BELOW:
        kind = FlagKind.UNEXPECTEDLY_GOOD
    elif test is Test.ABOVE:
        kind = FlagKind.PLATEAU
    else:
        kind = (
            FlagKind.OVERFITTING
            if rise < FOR_GOOD and turns(window.log_y - window.base)
            else FlagKind.DIVERGENCE
        )
    severity = Severity.WARNING
    if kind is FlagKind.UNEXPECTEDLY_GOOD:
        severity = Severity.NOTICE
    elif kind is FlagKind.DIVERGENCE and rise > GRAVE:
        severity = Severity.CRITICAL
    value, expected, off = _levels(window)
    m = window.log_y.size
    what = "The validation" if m == 1 else f"The mean of the last {m} validations"
    against = {
        Test.SPIKE: "the level before it",
        Test.RISE: "the level before them",
        Test.CHANGE: "the forecast",
        Test.ABOVE: "half of the fall that was forecast",
        Test.BELOW: "the forecast",
        Test.FALL: "the forecast",
    }[test]
    message = (
        f"{what} at step {window.step:,} is {value:.4g}, {off} {against} of step {window.since:,} "
        f"({expected:.4g}): {_certainty(window, false_alarm_rate)}. "
    )
    if window.rates is not None and window.rates > CHANGED:
        message += f"Its learning rate has risen {window.rates:.3g}-fold there."
    else:
        message += HINTS[kind]
    return Flag(kind, window.step, message, _evidence(window), severity)


def left_family(kind: FlagKind, value: float, window: Window, runs: int, false_alarm_rate: float) -> Flag:
    """The flag of a run that has changed beside earlier runs: `ABOVE_FAMILY` or `UNEXPECTEDLY_GOOD`."""
    _, expected, off = _levels(window)
    m = window.log_y.size
    message = (
        f"Since step {window.since:,} the error has come {off} the course of {runs} earlier runs, to "
        f"{value:.4g} at step {window.step:,}; the mean of the last {m} validations would be {expected:.4g}: "
        f"{_certainty(window, false_alarm_rate)}. "
    )
    if kind is FlagKind.ABOVE_FAMILY and window.rates is not None and window.rates > CHANGED:
        message += f"Its learning rate has risen {window.rates:.3g}-fold there."
    else:
        message += HINTS[kind]
    evidence = {**_evidence(window), "runs": float(runs)}
    severity = Severity.WARNING if kind is FlagKind.ABOVE_FAMILY else Severity.NOTICE
    return Flag(kind, window.step, message, evidence, severity)


def _levels(window: Window) -> tuple[float, float, str]:
    """The geometric mean of a window, what was expected in its place, and how far apart they are in words."""
    mean = window.log_y.mean()
    expected = float(np.exp(np.clip(mean - window.apart, -700.0, 700.0)))
    side = "below" if window.apart < 0 else "above"
    return float(np.exp(mean)), expected, f"{abs(np.expm1(window.apart)):.2%} {side}"


def _certainty(window: Window, false_alarm_rate: float) -> str:
    return _scores(window.score, window.limit, false_alarm_rate)


def _scores(score: float, limit: float, false_alarm_rate: float) -> str:
    return (
        f"{score:.1f} standard deviations, where the limit that a healthy run passes in less than one "
        f"case of {1 / false_alarm_rate:.0f} is {limit:.1f}"
    )


def _evidence(window: Window) -> dict[str, float]:
    value, expected, _ = _levels(window)
    return {
        "value": value,
        "expected": expected,
        "deviation": window.apart,
        "score": window.score,
        "limit": window.limit,
        "validations": float(window.log_y.size),
        "since": float(window.since),
    }


def turns(rises: Array) -> bool:
    """Whether rises above a level look more like a straight line that begins there than like a jump."""
    m = rises.size
    if m < 2:
        return False
    at = np.arange(1.0, m + 1.0)
    line = rises - at * float(at @ rises) / float(at @ at)
    return bool((line**2).sum() < ((rises - rises.mean()) ** 2).sum())


def not_finite(step: int, value: float) -> Flag:
    """The flag of a metric that is NaN or infinite."""
    return Flag(
        FlagKind.NOT_FINITE,
        step,
        f"The metric was {value} at step {step:,}: the run's weights or its data hold what is no number.",
        {},
        Severity.CRITICAL,
    )


def above_family(step: int, value: float, off: AboveFamily, ratio: float | None) -> Flag:
    """The flag of a run above its family; `ratio` is its largest learning rate over theirs."""
    if off.by_fall:
        what = f"fell by {off.fall:.2%} less than that of {off.runs} earlier runs while the training doubled"
    else:
        what = f"is {np.expm1(off.apart):.2%} above that of {off.runs} earlier runs after as much training"
    evidence = {
        "value": value,
        "deviation": off.apart,
        "fall": off.fall,
        "score": off.score,
        "runs": float(off.runs),
    }
    if ratio is not None:
        evidence["rate_ratio"] = ratio
    return Flag(
        FlagKind.ABOVE_FAMILY,
        step,
        f"The error of {value:.4g} at step {step:,} {what}. {_hint(ratio)}",
        evidence,
    )


def above_sizes(step: int, value: float, off: AboveSizes, law: Law, false_alarm_rate: float) -> Flag:
    """The flag of a run above the law of runs of other sizes."""
    expected = float(np.exp(off.expected))
    message = (
        f"The error of {value:.4g} at step {step:,} is {np.expm1(off.apart):.2%} above what {law.runs} "
        f"earlier runs of {law.sizes} sizes predict for a run of this size after as much training "
        f"({expected:.4g}): {_scores(off.score, law.limit, false_alarm_rate)}. {_hint(law.ratio)}"
    )
    evidence = {
        "value": value,
        "expected": expected,
        "deviation": off.apart,
        "score": off.score,
        "limit": law.limit,
        "runs": float(law.runs),
        "sizes": float(law.sizes),
    }
    if law.ratio is not None:
        evidence["rate_ratio"] = law.ratio
    return Flag(FlagKind.ABOVE_FAMILY, step, message, evidence)


def _hint(ratio: float | None) -> str:
    """Why a run may lie above others, whose largest learning rate is `ratio` times theirs."""
    if ratio is not None and not 1 / CHANGED < ratio < CHANGED:
        return f"Its largest learning rate is {ratio:.3g} times theirs."
    return "Look at its learning rate, its data and its labels."
