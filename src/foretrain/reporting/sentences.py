"""Findings in a sentence or two, the same in the tab, in the report of the command line and in its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from foretrain.reporting.findings import Borrowing, NamedProjection, PastForecast


def borrowing_line(found: Borrowing | None) -> str:
    """What a projection rests on in one sentence; empty where other runs tell nothing of it."""
    if found is None:
        return ""
    place = found.own.name if found.own.name == "planned end" else f"{found.own.name} projection"
    return (
        f"The {place} rests to {100 * found.share:.0f} % on the law of {len(found.runs)} other runs, which "
        f"tells {_with_interval(found.family)}; the run's own points tell {_with_interval(found.own)}."
    )


def _with_interval(told: NamedProjection) -> str:
    lower, upper = told.lower.get("0.9"), told.upper.get("0.9")
    between = "" if lower is None or upper is None else f" ({lower:.4g} to {upper:.4g})"
    return f"{told.median:.4g}{between}"


def record_under_way(tracks: Mapping[str, Sequence[PastForecast]]) -> str:
    """The track record of runs under way in a sentence or two; empty where no past forecast could be scored.

    Args:
        tracks: By the run's name, its past forecasts of where it is now.
    """
    told = {run: [past.inside() for past in track if "0.9" in past.lower] for run, track in tracks.items()}
    scored, inside = sum(map(len, told.values())), sum(map(sum, told.values()))
    if not scored:
        return ""
    wrong = [run for run, held in told.items() if 2 * sum(held) < len(held)]
    return (
        f"Of {scored} past forecasts of where runs under way are now, {inside} were inside their 90 % "
        "interval." + (f" Too narrow so far are those of {', '.join(wrong)}." if wrong else "")
    )


def record_line(forecasts: int, inside: int) -> str:
    """The track record of a study in one sentence; empty where no past forecast could be scored."""
    if forecasts < 1:
        return ""
    many = f"{forecasts} past forecast{'s' if forecasts > 1 else ''}"
    return f"Of {many} of this study's finished runs, {inside} were inside their 90 % interval."
