"""What the runs answer to typed targets: a budget, a size, an amount of data, an error wanted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from foretrain.tensorboard.frontier import LEVEL, NOTHING, Frontier
from foretrain.tensorboard.plain import positive, short, text
from foretrain.tensorboard.words import amount, figure, unit

if TYPE_CHECKING:
    from foretrain.decisions import Answer

LEAST, MOST = 1e-30, 1e40
"""Targets beyond these are ignored: nothing is measured there, and arithmetic would overflow."""


def answers_view(found: Frontier, asked: Mapping[str, float], *, metric: str) -> dict[str, Any]:
    """What the runs answer to typed targets.

    Args:
        found: From `study_frontier`.
        asked: Any of "compute" in FLOPs, "params", "data" in the axis's unit, "error" in the metric's unit;
            all positive and finite.
        metric: Name of the metric.

    Returns:
        `answers`, each with what was asked, numbers with their 90 % interval and a sentence; and for a budget
        `best` with size, data and error.
    """
    planner = found.planner
    if planner is None:
        return {"answers": [], "best": None, "sentence": found.why or NOTHING}
    told: list[Answer] = []
    best: dict[str, Any] | None = None
    label = unit(found.axis)
    if "compute" in asked:
        optimum = planner.optimum(asked["compute"])
        error = planner.as_answer(f"{metric} there", optimum.loss)
        best = {
            "compute": short(asked["compute"]),
            "told": optimum.size.told,
            "size": _answer(optimum.size, "parameters"),
            "data": _answer(optimum.data, label),
            "error": _answer(error, ""),
        }
        best["sentence"] = _best_sentence(best, metric, label) if optimum.size.told else _doubt(optimum.size)
    if "params" in asked and "data" in asked:
        place = f"{amount(asked['params'])} parameters on {amount(asked['data'])} {label}"
        forecast = planner.final_loss(asked["params"], asked["data"])
        told.append(planner.as_answer(f"{metric} of {place}", forecast))
        choice = planner.more_data_or_bigger_model(asked["params"], asked["data"])
        told.append(choice.answer)
    if "error" in asked:
        told.append(planner.compute_needed(asked["error"]))
        if "params" in asked:
            told.append(planner.data_needed(asked["error"], asked["params"]))
        if "data" in asked:
            told.append(planner.size_needed(asked["error"], asked["data"]))
    return {"best": best, "answers": [_answer(item, item.unit) for item in told], "sentence": ""}


def _answer(item: Answer, label: str) -> dict[str, Any]:
    told = {level: (item.lower.get(level), item.upper.get(level)) for level in item.lower}
    low, high = told.get(LEVEL, (None, None))
    return {
        "question": text(item.question),
        "told": item.told,
        "median": short(positive(item.median)),
        "lower": None if low is None else short(positive(low)),
        "upper": None if high is None else short(positive(high)),
        "unit": text(label),
        "sentence": text(item.sentence),
    }


def _best_sentence(best: Mapping[str, Any], metric: str, label: str) -> str:
    size, data, error = best["size"], best["data"], best["error"]
    between = (
        f"; 90\u00a0% between {figure(error['lower'])} and {figure(error['upper'])}"
        if error["lower"] and error["upper"]
        else ""
    )
    return (
        f"{best['compute']:.3g} FLOPs are best spent on {amount(size['median'])} parameters"
        f"{_between(size)} and {amount(data['median'])} {label}{_between(data)}; "
        f"{metric} is then projected to be {figure(error['median'])}{between}."
    )


def _between(item: Mapping[str, Any]) -> str:
    if item["lower"] is None or item["upper"] is None:
        return ""
    return f" ({amount(item['lower'])} to {amount(item['upper'])})"


def _doubt(size: Answer) -> str:
    advice = f" {size.next_run.sentence}" if size.next_run else ""
    return f"The runs cannot tell the best size for this budget.{advice}"


def targets(args: Iterable[tuple[str, str]]) -> dict[str, float]:
    """The typed targets of a request: those that are positive finite numbers."""
    found = {}
    for name, value in args:
        try:
            told = positive(float(value[:40]))
        except ValueError:
            continue
        if name in ("compute", "params", "data", "error") and told is not None and LEAST < told < MOST:
            found[name] = told
    return found
