"""What a law takes as x: the quantities that grow while models are trained, and how they are counted."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Counts:
    """What a run had used when it was measured.

    Attributes:
        samples: Training examples seen, with repeats, over all data-parallel processes.
        steps: Optimizer steps taken, as Lightning's `trainer.global_step` counts them.
        epochs: Passes over the training data, with the fraction of the one under way.
        tokens: Tokens seen, with repeats, over all processes; None where unknown.
        unique_samples: Distinct training examples seen; None where unknown.
        params: The size of the model as laws take it: trainable parameters, tied ones once, unless the run's
            conventions say otherwise; None where unknown.
        params_total: All parameters, tied ones once; None where unknown.
        params_non_embedding: All parameters but those of embeddings, tied ones once; None where unknown.
        density: Fraction of the parameters that pruning masks have left; None where none are masked.
        flops: Training compute in floating-point operations; None where unknown.

    Raises:
        ValueError: If a count is negative.
    """

    samples: int
    steps: int
    epochs: float = 0.0
    tokens: int | None = None
    unique_samples: int | None = None
    params: int | None = None
    params_total: int | None = None
    params_non_embedding: int | None = None
    density: float | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        """Refuses negative counts: they are always a counting fault, and no law can use them."""
        for name, value in vars(self).items():
            if value is not None and not value >= 0:
                raise ValueError(
                    f"Expected `{name}` to be zero or more, got {value}: "
                    "check the function that counts a batch."
                )

    @property
    def pruned(self) -> bool:
        """Whether masks have removed parameters."""
        return self.density is not None and self.density < 1

    def to_json(self) -> dict[str, Any]:
        """The counts that are known, as plain JSON values."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Counts:
        """The inverse of `to_json`; unknown names, written by a later version, are ignored."""
        known = cls.__dataclass_fields__  # Not `fields(cls)`: a record file may have millions of lines.
        return cls(**{name: value for name, value in record.items() if name in known})


@dataclass(frozen=True)
class Axis:
    """A quantity that grows and that a law may take as its x.

    Attributes:
        name: The field of `Counts` that holds it, and the word users write.
        symbol: The field's letter in formulas.
        unit: What one unit of it is, in words, for labels.
    """

    name: str
    symbol: str
    unit: str

    def read(self, counts: Counts) -> float | None:
        """The amount of this quantity in `counts`, or None where it was not counted."""
        value = getattr(counts, self.name)
        return None if value is None else float(value)


AXES: dict[str, Axis] = {
    axis.name: axis
    for axis in (
        Axis("samples", "D", "training examples seen"),
        Axis("tokens", "D", "tokens seen"),
        Axis("unique_samples", "U", "distinct training examples seen"),
        Axis("params", "N", "trainable parameters"),
        Axis("params_total", "N", "parameters"),
        Axis("params_non_embedding", "N", "parameters outside embeddings"),
        Axis("density", "d", "fraction of parameters kept"),
        Axis("flops", "C", "training FLOPs"),
        Axis("steps", "S", "optimizer steps"),
        Axis("epochs", "e", "passes over the training data"),
    )
}
