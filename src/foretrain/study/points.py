"""The points of a study: what each run of a grid trains, with a name that stays the same."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

RESERVED = ("data", "point", "root", "run", "seed", "size", "study", "tries")
"""Names in the configuration of a job that options of a point may not take."""


@dataclass(frozen=True)
class Point:
    """One run of a study: a model size, an amount of data, a seed, and what else the training needs.

    Two points that hold the same have the same `id`, on every machine; it never changes.

    Attributes:
        size: The knob of the model's size, such as a width; what it means is for `train` to say.
        data: Training examples, or whatever amount of data `train` takes.
        seed: Of weights and data order.
        options: Anything else that JSON can hold, by name. `data_policy` names the rule that selects the
            data: where `train` returns observations, runs of different rules are never fitted together.

    Raises:
        ValueError: If size or data is not positive and finite, the seed is no whole number, or an option
            cannot be kept as JSON or has a reserved name.

    Example:
        >>> Point(size=32, data=1000, seed=1).run
        'size-32_data-1000_seed-1_291bc29b2a3a'
    """

    size: float
    data: float
    seed: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Takes scalars of arrays as plain numbers, and whole floats as integers, so that ids agree."""
        for name in ("size", "data"):
            value = _number(getattr(self, name))
            if value is None or not value > 0:
                raise ValueError(
                    f"Expected `{name}` of a point to be a positive number, got {getattr(self, name)!r}: "
                    "what is no number belongs in the options."
                )
            object.__setattr__(self, name, value)
        seed = _number(self.seed)
        if not isinstance(seed, int) or isinstance(self.seed, bool):
            raise ValueError(f"Expected `seed` of a point to be a whole number, got {self.seed!r}.")
        object.__setattr__(self, "seed", seed)
        object.__setattr__(self, "options", _checked_options(self.options))

    def __hash__(self) -> int:
        """Equal points hash alike, whatever their options hold."""
        return hash(self.id)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits of the hash of all it holds."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    @property
    def run(self) -> str:
        """Name of its run in the store."""
        return f"size-{self.size:g}_data-{self.data:.10g}_seed-{self.seed}_{self.id}"

    def to_json(self) -> dict[str, Any]:
        """The point as plain JSON values."""
        options = {"options": dict(self.options)} if self.options else {}
        return {"size": self.size, "data": self.data, "seed": self.seed, **options}

    @classmethod
    def from_json(cls, record: Any) -> Point:
        """The inverse of `to_json`.

        Raises:
            ValueError: If the record holds no point.
        """
        if not isinstance(record, dict) or not {"size", "data"} <= record.keys():
            raise ValueError(f"Expected a point as an object with `size` and `data`, got {record!r:.120}.")
        if unknown := sorted(record.keys() - {"size", "data", "seed", "options"}):
            raise ValueError(
                f"Expected `size`, `data`, `seed` and `options` in a point, got also {', '.join(unknown)}: "
                "put what else the training needs into `options`."
            )
        return cls(record["size"], record["data"], record.get("seed", 0), record.get("options", {}))

    def config(self, *, root: str, study: str, tries: int = 1) -> dict[str, Any]:
        """What `train` gets: one flat dictionary of JSON values.

        Args:
            root: Root of the store.
            study: Name of the study.
            tries: 1 for the first time that the point is run, and so on: it keeps an executor that remembers
                calls from giving an old answer.
        """
        own = {"point": self.id, "run": self.run, "root": root, "study": study, "tries": tries}
        return {**own, "size": self.size, "data": self.data, "seed": self.seed, **self.options}


def grid(
    *, size: Iterable[float], data: Iterable[float], seed: Iterable[int] = (0,), **options: Any
) -> list[Point]:
    """All combinations of sizes, amounts of data and seeds.

    Args:
        size: Model sizes.
        data: Amounts of data.
        seed: Seeds.
        options: What all points share; a list or tuple is one more axis of the grid.

    Returns:
        The points; the last axis varies fastest.

    Raises:
        ValueError: If an axis is empty, or a value cannot be part of a point.

    Example:
        >>> [point.run[:21] for point in grid(size=[8, 16], data=[100], seed=[0, 1])]
        ['size-8_data-100_seed-', 'size-8_data-100_seed-', 'size-16_data-100_seed', 'size-16_data-100_seed']
    """
    axes: dict[str, list[Any]] = {"size": list(size), "data": list(data), "seed": list(seed)}
    for name, value in options.items():
        axes[name] = list(value) if isinstance(value, list | tuple) else [value]
    for name, values in axes.items():
        if not values:
            raise ValueError(f"Expected at least one value of `{name}`, got none: no points come of that.")
    points = []
    for combination in itertools.product(*axes.values()):
        chosen = dict(zip(axes, combination, strict=True))
        own = {name: chosen.pop(name) for name in ("size", "data", "seed")}
        points.append(Point(**own, options=chosen))
    return points


def check_points(points: Iterable[Point]) -> tuple[Point, ...]:
    """The points of a study, each once.

    Raises:
        ValueError: If one is no point, or two are the same.
    """
    checked = tuple(points)
    seen: set[str] = set()
    for point in checked:
        if not isinstance(point, Point):
            raise ValueError(f"Expected points, got {point!r:.80}: make them with `grid` or `Point`.")
        if point.id in seen:
            raise ValueError(f"Expected each point once, got {point.run} twice: give repeats other seeds.")
        seen.add(point.id)
    return checked


def _number(value: Any) -> int | float | None:
    """A plain number, whole ones as integers; None for anything else."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        return int(value) if value.is_integer() else value
    return value


def _checked_options(options: Any) -> dict[str, Any]:
    if not isinstance(options, Mapping):
        raise ValueError(f"Expected `options` of a point to be a mapping by name, got {options!r:.80}.")
    if taken := sorted(set(RESERVED) & options.keys()):
        raise ValueError(
            f"Expected options of a point with other names than {', '.join(RESERVED)}, got "
            f"{', '.join(taken)}: rename them."
        )
    try:
        # Through JSON and back, so that a point that was read from a file equals the one that was written.
        plain = json.loads(json.dumps(dict(options), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected options of a point that JSON can hold, got {options!r:.80} ({error}): "
            "pass numbers, text, lists and dictionaries, and make objects of them in `train`."
        ) from None
    if plain.keys() != options.keys():
        raise ValueError(f"Expected names of options to be text, got {list(options)!r:.80}.")
    return dict(plain)
