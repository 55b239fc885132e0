"""What a log does not say, and the user does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from foretrain.conventions import DATA_POLICY
from foretrain.importers.logs import variants

IMPORTED = "imported"
"""The convention that says where a run was imported from; runs may differ in it and be fitted together."""


@dataclass(frozen=True)
class Declared:
    """What the user says of the logs. What neither they nor the log say stays unknown.

    A number of the log is named by a key. Where a key's number was logged at the step of an observation it
    is taken as it is, and between two steps on the straight line between them; beyond them it is unknown.

    Attributes:
        metrics: Names of the metrics to import, as logged.
        record_as: Name under which the only metric is recorded; its own if None.
        samples_per_step: Training examples in an optimizer step, over all processes.
        samples_key: The logged number of training examples seen.
        samples_setting: The hyperparameter that holds the training examples in an optimizer step.
        tokens_per_step: Tokens in an optimizer step, over all processes.
        tokens_key: The logged number of tokens seen.
        flops_key: The logged number of training FLOPs.
        params: Trainable parameters.
        params_setting: The hyperparameter that holds them.
        dataset_size: Distinct training examples; then epochs and distinct examples seen are known.
        steps_key: The logged number of optimizer steps; if None, the step at which the logger logged.
        first_step: What the logger calls the first optimizer step: 0, as Lightning does, or 1.
        lr_key: The logged learning rate. One logged at a step is that of this step's update.
        lr_between: How the rate went between two logged ones: "line" or "hold"; the run then has a
            schedule. None: nobody knows, and only the observations have rates.
        data_policy: The rule that selected the training data; None for a random sample.
        finished: Whether the runs have come to their ends, where the log does not say.

    Raises:
        ValueError: If something is contradictory, or no number of samples can be known.
    """

    metrics: tuple[str, ...]
    record_as: str | None = None
    samples_per_step: float | None = None
    samples_key: str | None = None
    samples_setting: str | None = None
    tokens_per_step: float | None = None
    tokens_key: str | None = None
    flops_key: str | None = None
    params: int | None = None
    params_setting: str | None = None
    dataset_size: int | None = None
    steps_key: str | None = None
    first_step: int = 0
    lr_key: str | None = None
    lr_between: str | None = None
    data_policy: str | None = None
    finished: bool = False

    def __post_init__(self) -> None:
        """Refuses what leaves the samples unknown or says something twice."""
        if not self.metrics:
            raise ValueError("Expected the name of at least one metric to import: pass --metric.")
        if self.record_as is not None and len(self.metrics) > 1:
            raise ValueError("Expected one metric with another name for it, got several: import one by one.")
        _one_of(
            "how many training examples a step takes, which no log says",
            {
                "--samples-per-step or --batch-size": self.samples_per_step,
                "--samples-key": self.samples_key,
                "--batch-size-setting": self.samples_setting,
            },
            needed=True,
        )
        _one_of("tokens", {"--tokens-per-step": self.tokens_per_step, "--tokens-key": self.tokens_key})
        _one_of("parameters", {"--params": self.params, "--params-setting": self.params_setting})
        if self.data_policy is not None and not self.data_policy.strip():
            raise ValueError("Expected the name of the rule that selected the data, got an empty one.")
        if self.first_step not in (0, 1):
            raise ValueError(f"Expected the first step to be called 0 or 1, got {self.first_step}.")
        if self.lr_between is not None and self.lr_key is None:
            raise ValueError("Expected the name of the logged learning rate with --lr-between: add --lr-key.")
        given = (self.samples_per_step, self.tokens_per_step, self.params, self.dataset_size)
        for number in given:
            if number is not None and not (math.isfinite(number) and number > 0):
                raise ValueError(f"Expected counts above zero, got {number}.")

    @property
    def keys(self) -> frozenset[str]:
        """The names of all the numbers that are looked for in a log."""
        keys = (self.samples_key, self.tokens_key, self.flops_key, self.steps_key, self.lr_key)
        metrics = (variant for metric in self.metrics for variant in variants(metric))
        return frozenset(key for key in (*keys, *metrics) if key is not None)

    def conventions(self) -> dict[str, str]:
        """How things were counted, by name: told apart from what a monitor counts."""
        given, logged = "imported: steps times what was given", "imported: read from the log"
        found = {
            "samples": logged if self.samples_key else given,
            "tokens": logged if self.tokens_key else given if self.tokens_per_step else None,
            "flops": logged if self.flops_key else None,
            "params": "imported: as given" if self.params or self.params_setting else None,
            DATA_POLICY: self.data_policy,
        }
        return {name: rule for name, rule in found.items() if rule is not None}


def _one_of(what: str, given: Mapping[str, object], *, needed: bool = False) -> None:
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1 or (needed and not names):
        raise ValueError(
            f"Expected one source for {what}, got {' and '.join(names) or 'none'}: "
            f"pass one of {', '.join(given)}."
        )
