"""The part of a report's page on model size and compute: what the study identifies, else what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foretrain.cli.figures_study import missing
from foretrain.cli.page import figure, items, paragraph, table
from foretrain.decisions import Planner, StudyPoints

BUDGETS = (1.0, 10.0, 100.0)
"""Multiples of the largest compute so far whose best use is told."""

LEVEL = 0.9
TITLES = {
    "slices": "The joint law",
    "frontier": "The compute-optimal frontier",
    "isoflop": "Equal compute",
    "law_residuals": "What the joint law leaves over",
}
CAPTIONS = {
    "slices": "The error against data for each size, by the joint law of size and data: median and 90 % "
    "interval, with the points that enter.",
    "frontier": "The size of least error for a budget, by the joint law: median and 90 % interval. Beside it "
    "what the runs show without a law.",
    "isoflop": "The error of several sizes for the same compute, interpolated along each size's own points; "
    "a star marks the best.",
    "law_residuals": "What is left should show no pattern: one along the data or the sizes says that the law "
    "does not hold.",
}


def study_section(planner: Planner, points: StudyPoints, pictures: Mapping[str, bytes]) -> str:
    """Model size and compute, as HTML.

    Args:
        planner: From `foretrain.decisions.from_study`.
        points: From the same.
        pictures: SVG files by name, of `figures_study.draw_study`.
    """
    without = missing(planner, points)
    parts = [
        "<h3>Model size and compute</h3>",
        paragraph(
            f"{points.n.size} points of {len(set(points.runs))} runs of {len(set(points.n.tolist()))} sizes "
            "enter. " + " ".join(points.notes)
        ),
    ]
    if not planner.blocking:
        parts.append(_advice(planner, points))
        parts += [paragraph(planner.contrary)] if planner.contrary else []
    for name, title in TITLES.items():
        parts.append(f"<h4>{title}</h4>")
        if name in without:
            parts.append(paragraph(f"Cannot be told. {without[name]}"))
        else:
            parts.append(figure(name, pictures[name], CAPTIONS[name]))
    if points.left_out:
        parts += ["<h4>Runs left out</h4>", items(f"{one.run}: {one.reason}." for one in points.left_out)]
    return "\n".join(parts)


def no_study_section(reason: str) -> str:
    """The same where no run can enter.

    Args:
        reason: Why none can.
    """
    return f"<h3>Model size and compute</h3>\n{paragraph(f'Cannot be told. {reason}')}"


def _advice(planner: Planner, points: StudyPoints) -> str:
    n, d = points.largest
    rows: list[Sequence[str]] = []
    for times in BUDGETS:
        best = planner.optimum(times * points.per * n * d)
        told = best.size.told
        rows.append(
            (
                f"{times:g} times the largest run: {times * points.per * n * d:.3g} FLOPs",
                f"{best.size.median:.3g}" if told else "cannot tell",
                f"{best.size.lower[LEVEL]:.3g} to {best.size.upper[LEVEL]:.3g}",
                f"{best.data.median:.3g}" if told else "cannot tell",
                f"{float(best.loss.median):.4g}" if told else "cannot tell",
                f"{float(best.loss.lower[LEVEL]):.4g} to {float(best.loss.upper[LEVEL]):.4g}",
            )
        )
    columns = ("budget", "best size", "90 % interval", "data", points.metric, "90 % interval")
    choice = planner.more_data_or_bigger_model(n, d).sentence
    return "\n".join(
        [table(columns, rows), paragraph(choice), paragraph(f"To know more: {planner.next_run().sentence}")]
    )
