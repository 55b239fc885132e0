"""`foretrain compare --recipe A --recipe B`: whether one recipe is better, as a compute multiplier."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from foretrain.cli.output import CommandError, console, visible
from foretrain.cli.roots import choose
from foretrain.conventions import DATA_POLICY, signature
from foretrain.decisions import Choice, Planner, StudyPoints, compute_multiplier, from_study
from foretrain.observation import RunRecord
from foretrain.reporting.entering import KINDS
from foretrain.store import Study


@dataclass(frozen=True)
class Recipe:
    """The runs of one recipe.

    Attributes:
        name: What it is called.
        runs: Its runs by name.
    """

    name: str
    runs: dict[str, RunRecord]


def pick(studies: Sequence[Study], pattern: str) -> Recipe:
    """The runs that a pattern such as "wide-*" names: those of the studies of that name, else of the runs.

    Raises:
        CommandError: If it names none, or runs of several studies.
    """
    named = [study for study in studies if fnmatchcase(_name(study), pattern)]
    found = {_name(study): dict(study.runs) for study in named} or {
        _name(study): {name: run for name, run in study.runs.items() if fnmatchcase(name, pattern)}
        for study in studies
    }
    found = {name: runs for name, runs in found.items() if runs}
    if len(found) != 1:
        told = ", ".join(sorted(found)) or "none"
        raise CommandError(
            f"Expected a recipe to name a study, or runs of one study, got {pattern!r}, which names runs of: "
            f"{told}. There are the studies {', '.join(sorted(map(_name, studies)))}."
        )
    return Recipe(pattern, next(iter(found.values())))


def compare_recipes(
    recipes: tuple[Recipe, Recipe], metric: str | None, axis: str | None, budget: float | None
) -> tuple[Choice, tuple[StudyPoints, StudyPoints]]:
    """Whether the first of two recipes is better than the second.

    Args:
        recipes: The two.
        metric: Name of the metric; the one that most of their observations have if None.
        axis: The data axis; tokens where all count them, else samples, if None.
        budget: FLOPs at which they are compared; the most that both have reached if None.

    Returns:
        The choice, and the points it rests on.

    Raises:
        CommandError: If they share runs, or their points are not of one kind, or one recipe has none.
    """
    ours, theirs = recipes
    shared = ours.runs.keys() & theirs.runs.keys()
    if any(ours.runs[name] is theirs.runs[name] for name in shared):
        raise CommandError(f"Expected two recipes without common runs, got both with {', '.join(shared)}.")
    both = {(place, name): run for place, r in enumerate(recipes) for name, run in r.runs.items()}
    metric, axis = choose(Study({f"{i} {name}": run for (i, name), run in both.items()}), metric, axis)
    planners: list[Planner] = []
    points: list[StudyPoints] = []
    for recipe in recipes:
        try:
            planner, own = from_study(recipe.runs, metric, axis)
        except ValueError as error:
            raise CommandError(f"{recipe.name}: {error}") from None
        planners.append(planner)
        points.append(own)
    _check_alike(points[0], points[1])
    if budget is None:
        budget = min(p.per * n * d for p in points for n, d in [p.largest])
    names = (ours.name, theirs.name)
    return compute_multiplier(planners[0], planners[1], budget, names), (points[0], points[1])


def tell_recipes(args: argparse.Namespace, studies: Sequence[Study], others: Sequence[Study] | None) -> None:
    """Prints the comparison of the two recipes that are asked for."""
    if others is not None:
        pair = (_only(studies, args.log_dir), _only(others, args.against))
    else:
        pair = (pick(studies, args.recipes[0]), pick(studies, args.recipes[1]))
    choice, points = compare_recipes(pair, args.metric, args.axis, args.budget)
    left = [
        {"recipe": recipe.name, "run": one.run, "reason": one.reason}
        for recipe, own in zip(pair, points, strict=True)
        for one in own.left_out
    ]
    if args.json:
        used = {recipe.name: sorted(set(own.runs)) for recipe, own in zip(pair, points, strict=True)}
        print(json.dumps({"recipes": used, **choice.to_json(), "left_out": left}))
        return
    lines = [
        f"Which needs less compute: {choice.sentence}",
        "Above 1 the first needs less: so many times its compute the second takes to the same error, each at "
        "its own best size; in brackets the 90 % interval.",
        *(
            f"{recipe.name}: {own.n.size} points of {len(set(own.runs))} runs of {len(set(own.n))} sizes."
            for recipe, own in zip(pair, points, strict=True)
        ),
        KINDS[points[0].kind],
        *(f"Left out of {one['recipe']}: {one['run']}: {one['reason']}." for one in left),
    ]
    for line in lines:
        console().print(visible(line, longest=2_000))


def _check_alike(one: StudyPoints, two: StudyPoints) -> None:
    differing = _differing(one.conventions, two.conventions)
    if differing:
        raise CommandError(f"The recipes were counted by different rules, and are not compared: {differing}.")
    if one.kind != two.kind:
        raise CommandError(
            "Expected both recipes with decayed learning rates, or both with constant ones, got one of each."
        )


def _differing(one: Mapping[str, str], two: Mapping[str, str]) -> str:
    a, b = dict(signature(one)), dict(signature(two))
    # How data was selected is part of a recipe: each has its own law, and none of their points are pooled.
    names = sorted(name for name in {*a, *b} - {DATA_POLICY} if a.get(name) != b.get(name))
    return "; ".join(
        f"{name}: {a.get(name, 'not recorded')} and {b.get(name, 'not recorded')}" for name in names
    )


def _only(studies: Sequence[Study], where: str) -> Recipe:
    if len(studies) != 1:
        names = ", ".join(sorted(map(_name, studies)))
        raise CommandError(f"Expected one study in {where} with --against, got {names}: pass its folder.")
    return Recipe(where, dict(studies[0].runs))


def _name(study: Study) -> str:
    return next(iter(study.runs.values())).info.study
