"""`foretrain import`: past runs from other loggers' files become records of a study."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Any

from foretrain.cli.output import CommandError, console, progress, table, warn
from foretrain.importers import SOURCES, Declared, Imported, LogError, Outcome, import_logs
from foretrain.storage.urls import as_root, is_url, join, without_secrets

IN_PLACE = ("tensorboard", "csv")
"""Sources whose logs lie where their logger's `save_dir` is: there the records go, too."""


def add_parser(commands: Any) -> None:
    """Adds the subcommand."""
    parser = commands.add_parser(
        "import",
        help="add past runs from the files of TensorBoard, CSVLogger, W&B or MLflow",
        description="Adds past runs to a study. No log says how many training examples a step takes, so one "
        "of --samples-per-step, --batch-size, --batch-size-setting and --samples-key is needed.",
    )
    parser.add_argument("source", choices=sorted(SOURCES), help="the kind of log")
    parser.add_argument("path", type=Path, help="a log, or a directory of logs")
    parser.add_argument("--metric", action="append", required=True, help="name as logged; may be repeated")
    parser.add_argument("--record-as", metavar="NAME", help="name of the metric in the records")
    parser.add_argument("--into", metavar="LOG_DIR", help="where to write; default: PATH if it is a log_dir")
    parser.add_argument("--study", default="default", help="name of the study (default: %(default)s)")
    parser.add_argument("--prefix", default="", help="put before the names of the runs")
    parser.add_argument("--like", metavar="RUN", help="a run of the study whose way of counting is the same")
    counts = parser.add_argument_group("what had been used")
    counts.add_argument("--samples-per-step", type=float, metavar="N", help="examples a step, all processes")
    counts.add_argument("--batch-size", type=int, metavar="N", help="examples a batch of one process")
    counts.add_argument("--accumulate", type=int, metavar="N", help="batches a step (default: 1)")
    counts.add_argument("--devices", type=int, metavar="N", help="data-parallel processes (default: 1)")
    counts.add_argument("--batch-size-setting", metavar="NAME", help="hyperparameter: examples a step")
    counts.add_argument("--samples-key", metavar="NAME", help="logged number of training examples seen")
    counts.add_argument("--tokens-per-step", type=float, metavar="N", help="tokens a step, all processes")
    counts.add_argument("--tokens-key", metavar="NAME", help="logged number of tokens seen")
    counts.add_argument("--flops-key", metavar="NAME", help="logged number of training FLOPs")
    counts.add_argument("--params", type=_whole, metavar="N", help="trainable parameters, such as 1.2e6")
    counts.add_argument("--params-setting", metavar="NAME", help="hyperparameter that holds them")
    counts.add_argument("--dataset-size", type=_whole, metavar="N", help="distinct training examples")
    counts.add_argument("--data-policy", metavar="NAME", help="the rule that selected the training data")
    steps = parser.add_argument_group("steps and learning rates")
    steps.add_argument("--steps-key", metavar="NAME", help="logged number of optimizer steps")
    steps.add_argument(
        "--first-step",
        type=int,
        choices=(0, 1),
        default=0,
        help="what the log calls the first optimizer step (default: 0, as Lightning's loggers)",
    )
    steps.add_argument("--lr-key", metavar="NAME", help="logged learning rate")
    steps.add_argument("--lr-between", choices=("line", "hold"), help="how it went between logged steps")
    steps.add_argument("--finished", action="store_true", help="the runs have ended, where logs do not say")
    parser.add_argument("--dry-run", action="store_true", help="say what would be imported; write nothing")
    parser.add_argument("--json", action="store_true", help="one run a line, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Imports; 1 where a log could not be imported."""
    try:
        declared = _declared(args)
        root = _root(args)
    except ValueError as error:
        raise CommandError(str(error), 2) from None
    try:
        told = list(
            import_logs(
                args.source,
                args.path,
                declared,
                root,
                study=args.study,
                prefix=args.prefix,
                like=args.like,
                write=not args.dry_run,
                progress=lambda places: progress(places, "Importing"),
            )
        )
    except (LogError, ValueError) as error:
        raise CommandError(str(error)) from None
    if args.json:
        for one in told:
            print(json.dumps(_plain(one)))
    else:
        _tell(args, told, root, declared)
    bad = any(one.outcome in (Outcome.FAILED, Outcome.TAKEN) for one in told)
    return 1 if bad else 0


def _declared(args: argparse.Namespace) -> Declared:
    samples = args.samples_per_step
    if args.batch_size is not None:
        if samples is not None:
            raise ValueError("Expected --samples-per-step or --batch-size, got both: leave one out.")
        samples = float(args.batch_size * (args.accumulate or 1) * (args.devices or 1))
    elif args.accumulate is not None or args.devices is not None:
        raise ValueError("Expected --batch-size with --accumulate or --devices: add it.")
    return Declared(
        metrics=tuple(dict.fromkeys(args.metric)),
        record_as=args.record_as,
        samples_per_step=samples,
        samples_key=args.samples_key,
        samples_setting=args.batch_size_setting,
        tokens_per_step=args.tokens_per_step,
        tokens_key=args.tokens_key,
        flops_key=args.flops_key,
        params=args.params,
        params_setting=args.params_setting,
        dataset_size=args.dataset_size,
        steps_key=args.steps_key,
        first_step=args.first_step,
        lr_key=args.lr_key,
        lr_between=args.lr_between,
        data_policy=args.data_policy,
        finished=args.finished,
    )


def _root(args: argparse.Namespace) -> str:
    """Where a monitor would write: the foretrain folder in a log directory."""
    where = args.into
    if where is None:
        if args.source not in IN_PLACE or not args.path.is_dir():
            raise ValueError(
                "Expected a directory for the records: pass the save_dir of the runs' loggers as --into."
            )
        where = str(args.path)
    root = as_root(where)
    if is_url(root):
        return root if root.endswith("/foretrain") else join(root, "foretrain")
    return root if Path(root).name == "foretrain" else str(Path(root, "foretrain"))


def _tell(args: argparse.Namespace, told: list[Imported], root: str, declared: Declared) -> None:
    rows = [(one.run or one.place, one.outcome.value, one.observations) for one in told]
    would = " (nothing was written)" if args.dry_run else ""
    title = f"{args.source} into {without_secrets(root)}{would}"
    screen = console()
    screen.print(table(title, ("run", "outcome", "observations"), rows, left=2))
    named = "steps" if declared.steps_key is None else f"{declared.steps_key!r}"
    screen.print(f"Logged {named} are taken to count from {declared.first_step} (see --first-step).")
    for problem, times in Counter(problem for one in told for problem in one.problems).items():
        warn(problem if times == 1 else f"{problem} ({times} times)")


def _plain(one: Imported) -> dict[str, object]:
    return {
        "place": one.place,
        "run": one.run,
        "outcome": one.outcome.name.lower(),
        "observations": one.observations,
        "problems": list(one.problems),
    }


def _whole(text: str) -> int:
    number = float(text)
    if number != int(number):
        raise ValueError(text)
    return int(number)
