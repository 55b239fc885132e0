"""What a caller gives of a run, checked and in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from foretrain.flagging.family import Curve
from foretrain.inputs import positive, same_length
from foretrain.laws.law import Array
from foretrain.runs.annealing import RatePath


def given_run(
    where: str, step: ArrayLike, y: ArrayLike, lr: ArrayLike | None, n_params: ArrayLike | None = None
) -> tuple[Curve, Any, Array]:
    """A run in order of its steps, which of its validations are finite, and their values.

    Args:
        where: Of which run it is said, in front of a name in a message.
        step: Steps of the validations, shape (n,).
        y: The metric there, shape (n,).
        lr: Rate of every step to the planned end, shape (T,); None where it is not known.
        n_params: Size of the model; None where it is not known.

    Raises:
        ValueError: If one of them is not what it should be.
    """
    path, peak = None, None
    if lr is not None:
        rates = _numbers(f"{where}lr", lr)
        if (
            rates.ndim != 1
            or not rates.size
            or not (np.isfinite(rates) & (rates >= 0)).all()
            or not rates.any()
        ):
            raise ValueError(
                f"Expected `{where}lr` to hold the rate of every step from 1 to the planned end, shape (T,), "
                f"finite, none negative and one positive, got {lr!r:.80}: leave it out if it is not known."
            )
        path, peak = RatePath.of(rates), float(rates.max())
    values = _numbers(f"{where}y", y)
    if (values <= 0).any():
        raise ValueError(
            f"Expected `{where}y` to hold positive numbers, NaN or infinity, got "
            f"{float(values[values <= 0][0])}: leave those points out."
        )
    steps = _numbers(f"{where}step", step) if np.size(step) == 0 else positive(f"{where}step", step)
    same_length(**{f"{where}step": steps, f"{where}y": values})
    last = np.inf if path is None else float(path.rates.size)
    wrong = (steps != np.floor(steps)) | (steps > last)
    if wrong.any():
        upto = "on" if path is None else f"to {last:.0f}, the last that `lr` has a rate for"
        raise ValueError(
            f"Expected `{where}step` to hold whole numbers of steps from 1 {upto}, got "
            f"{steps[wrong][0]:g}: give every step at which y was measured as a count of updates."
        )
    order = np.argsort(steps, kind="stable")
    steps, values = steps[order].astype(int), values[order]
    finite = np.isfinite(values)
    log_y = np.log(np.where(finite, values, 1.0))
    params = None if n_params is None else float(positive(f"{where}n_params", n_params).ravel()[0])
    return Curve(path, steps, log_y, peak, params), finite, values


def given_library(library: Sequence[Mapping[str, Any]], with_rates: bool) -> list[Curve]:
    """Earlier runs as far as their validations are finite; those with fewer than two of them are left out.

    Raises:
        ValueError: If one lacks what it needs, or is no run.
    """
    names = ("step", "y", "lr") if with_rates else ("step", "y")
    curves = []
    for index, item in enumerate(library):
        missing = [name for name in names if name not in item]
        if missing:
            raise ValueError(
                f"Expected `library[{index}]` to be a mapping with {', '.join(names)}, got one without "
                f"{' and '.join(missing)}."
            )
        lr = item["lr"] if with_rates else None
        curve, sound, _ = given_run(f"library[{index}].", item["step"], item["y"], lr, item.get("n_params"))
        if sound.sum() >= 2:
            curves.append(replace(curve, steps=curve.steps[sound], log_y=curve.log_y[sound]))
    return curves


def _numbers(name: str, values: ArrayLike) -> Array:
    try:
        return np.asarray(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected `{name}` to be an array of numbers, got {values!r:.80}: {error}."
        ) from None
