"""How a run is counted, by name: runs that differ here are not fitted together."""

from __future__ import annotations

from typing import Any

from foretrain.conventions import DATA_POLICY
from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.facts import schedule_name
from foretrain.lightning.flops import flops_rule
from foretrain.lightning.naming import function_name
from foretrain.lightning.settings import Settings


def conventions(trainer: Any, settings: Settings, counter: BatchCounter) -> dict[str, str]:
    """The rules by name. A name means the same in every version, so that old runs stay comparable.

    A number of the user's is not part of the rule: it differs between the models of a study.
    """
    tokens = counter.tokens_rule
    return {
        "params": _params_rule(settings),
        "samples": counter.samples_rule,
        **({} if tokens is None else {"tokens": tokens}),
        "flops": flops_rule(settings, "samples" if tokens is None else "tokens"),
        "metric": settings.transform.name,
        "schedule": schedule_name(trainer),
        **({DATA_POLICY: settings.data_policy} if settings.data_policy else {}),
        # It trains on a few batches of the data on purpose, so it says nothing of other runs.
        **({"data": f"overfit_batches={trainer.overfit_batches:g}"} if trainer.overfit_batches else {}),
    }


def _params_rule(settings: Settings) -> str:
    chosen = settings.model_size
    if callable(chosen):
        return f"model_size {function_name(chosen)}"
    return chosen if isinstance(chosen, str) else "trainable" if chosen is None else "model_size"
