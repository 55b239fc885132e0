"""How a fit goes on from an earlier one: the state in a checkpoint, the run's name, and its counts."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from foretrain.lightning.counting import BatchCounter
from foretrain.lightning.facts import Place, data_parallel_size, find_place
from foretrain.lightning.settings import Settings

STATE_VERSION = 1


@dataclass(frozen=True)
class Past:
    """What a run had counted when it was left, and its name.

    In a checkpoint it is plain numbers and texts: `torch.load` refuses anything else by default, and the
    user's resume with it.

    Attributes:
        run: Name of the run.
        samples: Samples over all processes.
        tokens: Tokens over all processes; None where unknown.
        tokens_rule: How they were counted, by name.
        distinct: Distinct samples; None where unknown, and in checkpoints of earlier versions.
        schedule: The learning rates used, as `RateRecorder.to_state` gives them; None where unknown.
    """

    run: str
    samples: int
    tokens: int | None
    tokens_rule: str | None = None
    distinct: int | None = None
    schedule: Any = None

    def to_state(self) -> dict[str, Any]:
        """The record as plain values, with its version."""
        return {"version": STATE_VERSION, **asdict(self)}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Past:
        """The inverse of `to_state`.

        Raises:
            ValueError: If another version wrote it, or it is none of ours.
        """
        version = state.get("version")
        if version != STATE_VERSION:
            raise ValueError(
                f"expected state of version {STATE_VERSION} in the checkpoint, got {version!r}: "
                "resume with the foretrain that wrote it"
            )
        tokens, distinct = (None if n is None else int(n) for n in (state["tokens"], state.get("distinct")))
        rule = state.get("tokens_rule")
        rule = None if rule is None else str(rule)
        schedule = state.get("schedule")
        return cls(str(state["run"]), int(state["samples"]), tokens, rule, distinct, schedule)


def choose_place(trainer: Any, settings: Settings, past: Past | None) -> Place:
    """Where the run is kept; under its earlier name, unless the user or a logger gives it another."""
    place = find_place(trainer, root=settings.root, run=settings.run)
    return place if past is None or place.named else replace(place, run=past.run)


def begin_counts(trainer: Any, counter: BatchCounter, past: Past | None) -> int:
    """Starts counting on top of the past.

    Returns:
        How many batches were trained on before that nobody counted.
    """
    where: dict[str, Any] = {"processes": data_parallel_size(trainer), "loader": trainer.train_dataloader}
    if past is not None:
        where |= {"tokens_rule": past.tokens_rule, "distinct": past.distinct}
        counter.start(samples=past.samples, tokens=past.tokens, **where)
        return 0
    counter.start(**where)
    return int(trainer.fit_loop.total_batch_idx) + 1


def is_fresh(trainer: Any) -> bool:
    """Whether this Trainer has not trained yet, nor been restored to where another one was."""
    return bool(trainer.global_step == 0 and trainer.fit_loop.total_batch_idx < 0)
