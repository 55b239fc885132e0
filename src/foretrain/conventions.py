"""How things were counted, by name, and which of it must agree before points are fitted together."""

from __future__ import annotations

from collections.abc import Mapping

NOT_COMPARED = frozenset({"schedule", "metric", "imported"})
"""Conventions that may differ between points that are fitted together: the metric is chosen by its name, and
where a run was imported from says nothing of how it was counted."""

DATA_POLICY = "data_policy"
"""The convention that names the rule by which a run's training data was selected; runs on a random sample
have none. Data selected well can teach faster than a power law of its amount (Sorscher et al. 2022), so runs
of different policies have no law in common."""

Signature = tuple[tuple[str, str], ...]


def signature(conventions: Mapping[str, str]) -> Signature:
    """What must be equal of two sets of conventions for the points behind them to be fitted together."""
    return tuple(sorted(item for item in conventions.items() if item[0] not in NOT_COMPARED))
