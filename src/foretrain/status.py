"""What is in doubt about a fit or a projection, as codes with one sentence each."""

from __future__ import annotations

from enum import Enum
from typing import TypeVar

_Member = TypeVar("_Member", bound="Coded")


class Coded(str, Enum):
    """Codes of which each is a string and carries a sentence.

    Attributes:
        sentence: What the code means, and what to do.
    """

    sentence: str

    def __new__(cls: type[_Member], code: str, sentence: str) -> _Member:
        """A member is its code, and carries its sentence."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.sentence = sentence
        return member


class FitStatus(Coded):
    """How a fit ended, and what would help. After OK, the gravest come first."""

    OK = ("ok", "The law fits and its parameters are determined.")
    TOO_FEW_POINTS = (
        "too_few_points",
        "There are too few points to tell the law: the projection is little more than the last value. "
        "Validate more often, or wait for more validations.",
    )
    TOO_FEW_SIZES = (
        "too_few_sizes",
        "Fewer than three model sizes do not identify a law of model size. Train a third size.",
    )
    NOT_DECREASING = (
        "not_decreasing",
        "The error does not fall along the points, so no law of improvement holds: the projection is the "
        "last value. Look for over-fitting or divergence.",
    )
    NON_MONOTONE = (
        "non_monotone",
        "The error rises and falls by more than its noise, so no law of steady improvement holds. "
        "Look for double descent, over-fitting or a change of the data, and project from the last descent.",
    )
    FASTER_THAN_POWER_LAW = (
        "faster_than_power_law",
        "The error falls faster than any power law along the last points, so projections may be too high. "
        "Look for a decaying learning rate, or for data chosen by difficulty.",
    )
    AT_RANDOM_GUESS = (
        "at_random_guess",
        "The error is still at the level of random guessing, so the power law has not begun. "
        "Wait for validations at several times more data.",
    )
    SHORT_RANGE = (
        "short_range",
        "The points span less than a decade, so exponent and irreducible error may be off. "
        "Trust near projections more than far ones, or wait for validations at several times more data.",
    )
    FLOOR_NOT_IDENTIFIED = (
        "floor_not_identified",
        "The points do not tell the irreducible error: far projections may be too high or too low. "
        "Validate at several times more data.",
    )
    EXPONENT_AT_BOUND = (
        "exponent_at_bound",
        "The best exponent lies at the end of its range, so the form of the law is in doubt. "
        "Leave out the first points, or choose another law.",
    )
    ANNEALING_ASSUMED = (
        "annealing_assumed",
        "The run does not tell yet what the decay of its learning rate will gain: that is taken from "
        "published runs. Give earlier runs that have decayed theirs, or wait until the rate has fallen "
        "further.",
    )
    ANNEALING_BORROWED = (
        "annealing_borrowed",
        "The run does not tell yet what the decay of its learning rate will gain: that is taken from earlier "
        "runs. Wait until the rate has fallen further for this run's own gain.",
    )
    FAMILY_BORROWED = (
        "family_borrowed",
        "The law of the study's other runs tells more of where this run ends than its own points do yet: the "
        "projection rests on that law for the most part. Wait for more validations to see whether it holds.",
    )
    NOT_ANNEALED = (
        "not_annealed",
        "The learning rate does not fall by then: a run that decays its rate ends lower. "
        "Compare it only with runs that have not decayed theirs either.",
    )
    REPEATED_DATA = (
        "repeated_data",
        "The data repeat by then: repeats help less than new data, by how much is known for text alone, and "
        "over-fitting is not foreseen. Train on more distinct data, or watch for the best value.",
    )
    UNCALIBRATED = (
        "uncalibrated",
        "No past forecast of this curve could be scored, so the interval rests on other curves alone. "
        "Validate at several times more data.",
    )
