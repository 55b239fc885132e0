"""An answer to a question about the next run: a number with intervals, or that the points cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from foretrain.laws.law import Array
from foretrain.projection import Forecast
from foretrain.status import FitStatus

CANNOT_TELL = "cannot tell"

SURE = 0.9
"""A verdict is given where this share of the draws agrees."""

WIDE = 10.0
"""A size, an amount of data or of compute whose 90% interval spans more than this factor is not told."""


@dataclass(frozen=True)
class NextRun:
    """The run that would tell most about a question.

    Attributes:
        n: Its model size, in parameters.
        d: Its data.
        compute: Its cost, in FLOPs.
        narrower: The width of the question's interval after that run over the width now, expected; 0 to 1.
    """

    n: float
    d: float
    compute: float
    narrower: float

    @property
    def sentence(self) -> str:
        """What to run, in words."""
        return (
            f"Run {self.n:.3g} parameters on {self.d:.3g} next: the interval would be about "
            f"{100 * self.narrower:.0f}% as wide."
        )


@dataclass(frozen=True)
class Answer:
    """A quantity that a decision rests on, with central intervals.

    Attributes:
        question: What was asked, in words.
        median: The answer, in `unit`; infinite where more than half of the draws never reach the target.
        lower: Lower ends of the intervals, by nominal level.
        upper: Upper ends, likewise; may be infinite.
        unit: Of the numbers.
        told: Whether the points tell the answer: not where its 90% interval spans more than ten times, or
            what the law needs is missing.
        reasons: What is in doubt, the gravest first.
        next_run: What to run to tell more, where the points do not tell.
    """

    question: str
    median: float
    lower: dict[float, float]
    upper: dict[float, float]
    unit: str
    told: bool
    reasons: tuple[FitStatus, ...] = ()
    next_run: NextRun | None = None

    @property
    def sentence(self) -> str:
        """The answer in words."""
        text = f"{self.question}: {self.numbers}"
        return text + "." if self.told else _doubted(text, self.next_run)

    @property
    def numbers(self) -> str:
        """The median with its widest interval and unit."""
        spread = ""
        if self.lower:
            level = max(self.lower)
            spread = f" [{self.lower[level]:.3g}, {self.upper[level]:.3g}]"
        return f"{self.median:.4g}{spread} {self.unit}".rstrip()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is not finite is None."""
        return {
            "question": self.question,
            "median": _plain(self.median),
            "lower": {f"{level:g}": _plain(value) for level, value in self.lower.items()},
            "upper": {f"{level:g}": _plain(value) for level, value in self.upper.items()},
            "unit": self.unit,
            "told": self.told,
            "reasons": [reason.value for reason in self.reasons],
            "next_run": _run(self.next_run),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Choice:
    """A choice between two, with how sure it is.

    Attributes:
        question: What was asked, in words.
        verdict: One of the two, or "cannot tell".
        share: The share of the draws for the first of the two, 0 to 1.
        answer: The quantity that decides.
        next_run: What to run to tell, where the points do not.
    """

    question: str
    verdict: str
    share: float
    answer: Answer
    next_run: NextRun | None = None

    @property
    def sentence(self) -> str:
        """The choice in words."""
        if self.verdict == CANNOT_TELL:
            return _doubted(f"{self.question}: {self.answer.numbers}", self.next_run)
        sure = max(self.share, 1 - self.share)
        return f"{self.question}: {self.verdict} ({100 * sure:.0f}% sure): {self.answer.numbers}."

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "question": self.question,
            "verdict": self.verdict,
            "share": _plain(self.share),
            "answer": self.answer.to_json(),
            "next_run": _run(self.next_run),
            "sentence": self.sentence,
        }


@dataclass(frozen=True)
class Optimum:
    """What a budget is best spent on.

    Attributes:
        size: Parameters.
        data: Data seen, at the size advised.
        loss: The error to expect there.
    """

    size: Answer
    data: Answer
    loss: Forecast

    @property
    def sentence(self) -> str:
        """The answer in words."""
        return self.size.sentence


def choose(
    answer: Answer, names: tuple[str, str], ratio: Array, next_run: NextRun, *, blocked: bool
) -> Choice:
    """The first of two where the ratio is above 1 in most of its draws, the second where it is in few."""
    share = float(np.mean(ratio > 1))
    if not blocked and max(share, 1 - share) >= SURE:
        return Choice(answer.question, names[0] if share > 0.5 else names[1], share, answer)
    return Choice(answer.question, CANNOT_TELL, share, answer, next_run)


def summarize(
    question: str,
    draws: Array,
    levels: tuple[float, ...],
    unit: str,
    *,
    reasons: tuple[FitStatus, ...] = (),
    blocked: bool = False,
    wide: float = WIDE,
) -> Answer:
    """Median and central intervals of draws, some of which may be infinite."""
    ends = [0.5, *(0.5 - level / 2 for level in levels), *(0.5 + level / 2 for level in levels)]
    # "lower" keeps to draws that occurred: between a number and infinity there is nothing.
    found = np.quantile(draws, ends, method="lower")
    lower = {level: float(v) for level, v in zip(levels, found[1:], strict=False)}
    upper = {level: float(v) for level, v in zip(levels, found[1 + len(levels) :], strict=True)}
    low, high = np.quantile(draws, [0.05, 0.95], method="lower")
    told = not blocked and bool(np.isfinite(high) and high <= wide * low)
    return Answer(question, float(found[0]), lower, upper, unit, told, reasons)


def _doubted(text: str, next_run: NextRun | None) -> str:
    advice = f" {next_run.sentence}" if next_run else ""
    return f"{text}, but the points cannot tell.{advice}"


def _run(run: NextRun | None) -> dict[str, float] | None:
    return None if run is None else {"n": run.n, "d": run.d, "compute": run.compute, "narrower": run.narrower}


def _plain(value: float) -> float | None:
    return value if np.isfinite(value) else None
