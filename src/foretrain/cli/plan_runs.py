"""`foretrain plan LOG_DIR`: what the runs of a study say about the next one."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from foretrain.axes import AXES
from foretrain.cli.output import CommandError, console, count, positive, table, visible, warn
from foretrain.cli.roots import choose, read_studies, study_folders
from foretrain.decisions import Answer, Choice, Planner, StudyPoints, from_study
from foretrain.decisions.answers import CANNOT_TELL
from foretrain.families.repeated import effective_data

QUESTIONS = ("metric", "axis", "budget", "target", "size", "data", "unique", "goal")
LEVEL = 0.9
AHEAD = 10.0
"""Without a question, the best use of this many times the compute of the largest run is told."""


def add_questions(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say what is asked of runs."""
    asked = parser.add_argument_group("questions to runs")
    asked.add_argument("--metric", help="default: the one most runs have")
    asked.add_argument("--axis", choices=sorted(AXES), help="default: tokens where all runs count them")
    asked.add_argument(
        "--budget", type=positive, metavar="FLOPS", help="what is so much compute best spent on?"
    )
    asked.add_argument(
        "--target",
        type=positive,
        metavar="ERROR",
        help="what does this error need: data with --size, a size with --data, else compute",
    )
    asked.add_argument("--size", type=positive, metavar="N", help="parameters of a planned run")
    asked.add_argument("--data", type=positive, metavar="D", help="data of a planned run")
    asked.add_argument(
        "--unique", type=positive, metavar="U", help="distinct data that there are; beyond them they repeat"
    )
    asked.add_argument(
        "--goal",
        type=positive,
        nargs=2,
        metavar=("N", "D"),
        help="which run next tells most about one of this size and data? default: 4 times the largest",
    )


def run(args: argparse.Namespace) -> int:
    """Prints what each study of a log directory advises; 1 where none can say anything."""
    if args.unique and not (args.budget or (args.size and args.data)):
        raise CommandError("Expected --budget, or --size and --data, with --unique.", code=2)
    if bool(args.size) != bool(args.data) and not args.target:
        raise CommandError("Expected --size and --data together, or --target with one of them.", code=2)
    with study_folders(args.file) as folders:
        studies = read_studies(folders, args.file, args.metric)
    told = 0
    for study in studies:
        metric, axis = choose(study, args.metric, args.axis)
        name = next(iter(study.runs.values())).info.study
        try:
            planner, points = from_study(study.runs, metric, axis)
        except ValueError as error:
            warn(f"{name}: {error}")
            continue
        told += 1
        answers = ask(planner, points, args)
        advice = planner.next_run(goal=None if args.goal is None else (args.goal[0], args.goal[1]))
        if args.json:
            print(json.dumps({**_points_json(name, points, planner), **_answers_json(answers, advice)}))
        else:
            _tell(name, points, planner, answers, advice.sentence)
    return 0 if told else 1


def ask(planner: Planner, points: StudyPoints, args: argparse.Namespace) -> list[Answer | Choice]:
    """The answers to what was asked."""
    answers: list[Answer | Choice] = []
    size, data, target, budget = args.size, args.data, args.target, args.budget
    if size and data:
        at = (size, data)
        if args.unique:
            at = (size, float(effective_data(data, args.unique)))
        question = f"{points.metric} of {size:.3g} parameters on {data:.3g} of data"
        answers.append(planner.as_answer(question, planner.final_loss(*at)))
        answers.append(planner.more_data_or_bigger_model(*at))
    if target:
        if size:
            answers.append(planner.data_needed(target, size))
        if data:
            answers.append(planner.size_needed(target, data))
        if not size and not data:
            answers.append(planner.compute_needed(target))
    if not (answers or budget or args.goal):
        n, d = points.largest
        answers.append(planner.more_data_or_bigger_model(n, d))
        budget = AHEAD * points.per * n * d
    if budget:
        best = planner.optimum(budget, args.unique)
        question = f"{points.metric} of that size on that data"
        loss = planner.as_answer(question, best.loss)
        answers += [best.size, best.data, replace(loss, told=loss.told and best.size.told)]
    return answers


def _points_json(name: str, points: StudyPoints, planner: Planner) -> dict[str, Any]:
    return {
        "study": name,
        "metric": points.metric,
        "axis": points.axis,
        "flops_per_parameter_and_data": points.per,
        "points": int(points.n.size),
        "runs": sorted(set(points.runs)),
        "left_out": {one.run: one.reason for one in points.left_out},
        "notes": list(points.notes),
        "contrary": planner.contrary or None,
        "reasons": [reason.value for reason in planner.reasons],
    }


def _answers_json(answers: Sequence[Answer | Choice], advice: Any) -> dict[str, Any]:
    run = {"n": advice.n, "d": advice.d, "compute": advice.compute, "narrower": advice.narrower}
    return {"answers": [answer.to_json() for answer in answers], "next_run": run}


def _tell(
    name: str, points: StudyPoints, planner: Planner, answers: Sequence[Answer | Choice], advice: str
) -> None:
    screen = console()
    runs = sorted(set(points.runs))
    sizes = sorted(set(points.n.tolist()))
    if answers:
        rows = [_row(answer) for answer in answers]
        columns = ("question", "answer", "90 % interval", "of")
        screen.print(table(f"{name}: what {len(runs)} runs advise", columns, rows, left=2))
    lines = [reason.sentence for reason in planner.reasons]
    lines += [
        f"{answer.question}: cannot tell. {answer.next_run.sentence}"
        for answer in answers
        if answer.next_run is not None
    ]
    lines += [
        f"To know more of larger runs: {advice}",
        f"From {points.n.size} points of {len(runs)} runs of {len(sizes)} sizes, "
        f"{sizes[0]:.3g} to {sizes[-1]:.3g} parameters, on {count(points.d.min())} to "
        f"{count(points.d.max())} {AXES[points.axis].unit}; {points.per:.3g} FLOPs for each parameter "
        "and one of these.",
        *points.notes,
        *([planner.contrary] if planner.contrary else []),
        *(f"Left out: {one.run}: {one.reason}." for one in points.left_out),
    ]
    for line in lines:
        screen.print(visible(line, longest=2_000))


def _row(answer: Answer | Choice) -> tuple[str, str, str, str]:
    if isinstance(answer, Choice):
        _, _, interval, unit = _row(answer.answer)
        sure = max(answer.share, 1 - answer.share)
        known = answer.verdict != CANNOT_TELL
        verdict = f"{answer.verdict} ({100 * sure:.0f} % sure)" if known else CANNOT_TELL
        return answer.question, verdict, interval, unit
    interval = f"{answer.lower[LEVEL]:.3g} to {answer.upper[LEVEL]:.3g}"
    return answer.question, f"{answer.median:.4g}" if answer.told else CANNOT_TELL, interval, answer.unit
