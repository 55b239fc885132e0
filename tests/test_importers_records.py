"""Imported runs as records: what is declared, what is refused, and what stays apart."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest

from foretrain.analysis import Question, analyze
from foretrain.cli import main
from foretrain.importers.declared import Declared
from foretrain.importers.logs import LogError, LoggedRun, Point
from foretrain.importers.recorded import as_recorded
from foretrain.lightning import ScalingLawMonitor
from foretrain.store import ObservationStore, StudyReader
from test_analysis import SIZES, record
from test_importers import csv_file, event_file, mlflow_files, train

EIGHT = Declared(("val_loss",), samples_per_step=8)


def logged(*steps, **series):
    points = {"val_loss": tuple(Point(step, 1.0 + 1 / (1 + step), 100.0 + step) for step in steps), **series}
    return LoggedRun("r", points, tuple(points), {"n_params": "1200", "bs": "16", "odd": "many"})


def recorded(run, declared=EIGHT, like=None):
    return as_recorded(run, declared, source="csv", study="s", like=like)


def study(root, name="default"):
    return StudyReader(ObservationStore(root / "foretrain", name).study_dir).read()


def table(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


# From what is logged and declared to counts


def test_an_import_of_a_run_equals_what_its_own_monitor_recorded(tmp_path):
    seen = train(tmp_path, ScalingLawMonitor("val_loss", fit=False))
    (own,) = study(tmp_path / "csv").runs.values()
    assert len(own.observations) == len(seen.points) == 8
    command = [
        "import",
        "csv",
        str(tmp_path / "csv"),
        "--into",
        str(tmp_path / "new"),
        "--metric",
        "val_loss",
    ]
    command += ["--batch-size", "4", "--params-setting", "params", "--dataset-size", "20"]
    command += ["--lr-key", "lr-SGD", "--lr-between", "hold", "--finished"]
    assert main(command) == 0
    (run,) = study(tmp_path / "new").runs.values()
    assert run.info.run == own.info.run and run.state == own.state == "finished"
    for ours, theirs in zip(run.observations, own.observations, strict=True):
        assert ours.value == pytest.approx(theirs.value, rel=1e-9) and ours.metric == theirs.metric
        for name in ("steps", "samples", "unique_samples", "params"):
            assert getattr(ours.counts, name) == getattr(theirs.counts, name) is not None, name
        assert ours.lr == pytest.approx(theirs.lr, rel=1e-9)
        assert ours.counts.epochs == pytest.approx(theirs.counts.epochs)
    assert run.schedule.end == 19  # the last validation, after which nothing is known
    assert run.schedule.rates() == pytest.approx(seen.rates[:19])
    assert run.schedule.rates() == pytest.approx(own.schedule.rates(19))


def test_steps_from_zero_or_from_one():
    assert [o.counts.steps for o in recorded(logged(0, 9)).observations] == [1, 10]
    assert [o.counts.samples for o in recorded(logged(0, 9)).observations] == [8, 80]
    from_one = replace(EIGHT, first_step=1)
    assert [o.counts.steps for o in recorded(logged(1, 10), from_one).observations] == [1, 10]


def test_counts_that_were_logged():
    keys = {
        "seen": (Point(0, 100), Point(10, 200), Point(30, 800)),
        "tok": (Point(0, 1000), Point(30, 4000)),
        "flops": (Point(0, 1e9), Point(30, 4e9)),
        "update": (Point(0, 5), Point(30, 35)),
    }
    declared = Declared(
        ("val_loss",),
        samples_key="seen",
        tokens_key="tok",
        flops_key="flops",
        steps_key="update",
        first_step=1,
    )
    run = recorded(logged(0, 20, 30, 40, **keys), declared)
    told = [(o.counts.samples, o.counts.tokens, o.counts.flops, o.counts.steps) for o in run.observations]
    # At 20 on the line between the neighbours; at 40 nobody knows.
    assert told == [(100, 1000, 1e9, 5), (500, 3000, 3e9, 25), (800, 4000, 4e9, 35)]
    assert run.problems == ("1 values were left out: what had been used by then was not logged.",)
    assert run.info.conventions == {
        "samples": "imported: read from the log",
        "tokens": "imported: read from the log",
        "flops": "imported: read from the log",
        "metric": "val_loss",
        "imported": run.info.conventions["imported"],
    }


def test_counts_that_are_given_or_a_hyperparameter():
    declared = Declared(
        ("val_loss",), samples_setting="bs", tokens_per_step=100, params_setting="n_params", dataset_size=40
    )
    run = recorded(logged(0, 3), declared)
    first, last = (o.counts for o in run.observations)
    assert (first.samples, first.tokens, first.params, first.epochs, first.unique_samples) == (
        16,
        100,
        1200,
        0.4,
        16,
    )
    assert (last.samples, last.tokens, last.epochs, last.unique_samples) == (64, 400, 1.6, 40)
    assert run.info.conventions["params"] == "imported: as given" and run.info.started == 100.0


def test_what_is_not_said_stays_unknown():
    run = recorded(logged(0, 9))
    (counts, _) = (o.counts for o in run.observations)
    assert (counts.tokens, counts.params, counts.flops, counts.unique_samples) == (None,) * 4
    assert run.schedule is None and run.observations[0].lr is None and run.state == "running"


@pytest.mark.parametrize(
    ("between", "rates"),
    [
        (None, None),
        ("line", [0.4] * 4 + [0.36, 0.32, 0.28, 0.24, 0.2, 0.1]),
        ("hold", [0.4] * 8 + [0.2, 0.1]),
    ],
)
def test_learning_rates_between_those_logged(between, rates):
    lr = (Point(3, 0.4), Point(8, 0.2), Point(9, 0.1), Point(15, 0.05))
    run = recorded(logged(2, 5, 9, lr=lr), replace(EIGHT, lr_key="lr", lr_between=between))
    assert [o.lr for o in run.observations] == [None, 0.4, 0.1]  # before updates 4, 9 and 10
    if rates is None:
        assert run.schedule is None
    else:
        used = run.schedule.used
        assert (used.first, used.end) == (1, 10) and used.rates() == pytest.approx(rates)
        assert run.schedule.plan.unknown == "not logged"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"how many training examples a step takes, which no log says, got none: pass one of",
        ),
        (
            {"samples_per_step": 8, "samples_key": "x"},
            r"got --samples-per-step or --batch-size and --samples-key",
        ),
        ({"samples_per_step": 8, "tokens_key": "x", "tokens_per_step": 1}, r"one source for tokens, got"),
        ({"samples_per_step": 8, "params": 1, "params_setting": "x"}, r"one source for parameters, got"),
        ({"samples_per_step": 0}, r"Expected counts above zero, got 0"),
        ({"samples_per_step": float("nan")}, r"Expected counts above zero, got nan"),
        ({"samples_per_step": 8, "first_step": 2}, r"the first step to be called 0 or 1, got 2"),
        ({"samples_per_step": 8, "lr_between": "line"}, r"with --lr-between: add --lr-key"),
    ],
)
def test_contradictions_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Declared(("val_loss",), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"params_setting": "p"},
            r"r: the hyperparameter 'p' was not logged; those logged are: bs, n_params",
        ),
        ({"params_setting": "odd"}, r"r: expected a number above zero as hyperparameter 'odd', got 'many'"),
        ({"lr_key": "lr"}, r"r: 'lr' was not logged; pass one of these as --lr-key: val_loss"),
        ({"metrics": ("val_acc",)}, r"r: 'val_acc' was not logged; pass one of these as --metric: val_loss."),
        ({"tokens_key": "t"}, r"r: none of 't' was logged where 'val_loss' was: pass other keys."),
    ],
)
def test_what_a_log_lacks_is_said_with_what_it_has(options, message):
    with pytest.raises(LogError, match=message):
        recorded(logged(0, 9), replace(EIGHT, **options))


# Conventions


def imported_family(tmp_path):
    """Runs of four sizes as CSV logs, of the law of `test_analysis`; validated every 1,000 steps of 1,000."""
    for n in SIZES:
        rows = [f"{o.counts.samples // 1000 - 1},{o.value!r},0.001" for o in record("x", n).observations]
        folder = csv_file(tmp_path / f"n{n:.0e}", "step,val_loss,lr\n" + "\n".join(rows) + "\n")
        (folder / "hparams.yaml").write_text(f"n_params: {n}\n")
    known = ["--metric", "val_loss", "--batch-size", "1000", "--lr-key", "lr", "--lr-between", "hold"]
    return ["import", "csv", str(tmp_path), *known]


def test_imported_runs_of_several_sizes_make_a_law(tmp_path, capsys):
    command = imported_family(tmp_path)
    assert main([*command, "--params-setting", "n_params", "--finished"]) == 0
    runs = study(tmp_path).runs
    report = analyze(runs, Question(next(iter(runs))))
    assert len(report.joint.runs) == len(SIZES) and report.joint.status == "ok"
    capsys.readouterr()
    assert main(["report", str(tmp_path), "--json"]) == 0
    assert [told["run"] for told in table(capsys)] == sorted(f"n{n:.0e}" for n in SIZES)


def test_imported_runs_stay_apart_from_counted_ones_until_they_are_declared_alike(tmp_path, capsys):
    command = [*imported_family(tmp_path), "--params-setting", "n_params", "--finished"]
    store = ObservationStore(tmp_path / "foretrain")
    counted = record("counted", 3e7)
    conventions = {"params": "trainable", "samples": "first_size", "flops": "6 * params * samples"}
    store.begin(replace(counted.info, conventions=conventions))
    assert all([store.append(o) for o in counted.observations])
    store.close()
    assert main(command) == 0
    runs = study(tmp_path).runs
    assert analyze(runs, Question("counted")).joint.status == "too_few_sizes"
    assert main([*command, "--like", "counted"]) == 0
    assert "updated" in capsys.readouterr().out
    runs = study(tmp_path).runs
    assert len(runs) == len(SIZES) + 1
    told = runs["n1e+06"].info.conventions
    assert {name: told[name] for name in conventions} == conventions
    assert told["imported"].endswith("; counts declared equal to those of counted")
    assert len(analyze(runs, Question("counted")).joint.runs) == len(SIZES) + 1


def test_alike_needs_the_same_counts():
    like = replace(record("o", 1).info, run="o", conventions={"tokens": "input_ids", "params": "trainable"})
    with pytest.raises(
        LogError, match=r"what 'o' counts .* tokens \(--tokens-per-step\) and params \(--params\) is"
    ):
        recorded(logged(0), like=like)


# Into the store


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def imports(source, path, *options, metric="val_loss"):
    return main(["import", source, str(path), "--metric", metric, "--batch-size", "8", "--json", *options])


@pytest.mark.parametrize("source", ["csv", "tensorboard", "wandb", "mlflow"])
def test_an_import_done_twice_adds_nothing(tmp_path, capsys, source):
    logs = tmp_path / "logs" / "r"
    metric = "val/loss" if source == "mlflow" else "val_loss"
    if source == "csv":
        csv_file(logs, "step,val_loss\n1,0.9\n2,nan\n3,0.7\n")
    elif source == "tensorboard":
        event_file(logs, range(3))
    elif source == "mlflow":
        mlflow_files(logs)
    else:
        logs.mkdir(parents=True)
        (logs / "a.csv").write_text("trainer/global_step,val_loss\n1,0.9\n")
    options = ("--into", str(tmp_path / "out"))
    assert imports(source, tmp_path / "logs", *options, metric=metric) == 0
    before = files(tmp_path / "out")
    (first,) = table(capsys)
    assert first["outcome"] == "imported" and first["observations"] > 0 and len(before) == 1
    assert imports(source, tmp_path / "logs", *options, metric=metric) == 0
    (again,) = table(capsys)
    assert again["outcome"] == "unchanged" and files(tmp_path / "out") == before
    (run,) = study(tmp_path / "out").runs.values()
    assert len(run.observations) == first["observations"] and run.info.run == first["run"]


def test_a_log_that_has_grown_is_taken_whole_again(tmp_path, capsys):
    folder = csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n2,0.8\n")
    assert imports("csv", tmp_path) == 0
    csv_file(folder, "step,val_loss\n1,0.9\n2,0.8\n3,0.7\n")
    assert imports("csv", tmp_path) == 0
    assert [one["outcome"] for one in table(capsys)] == ["imported", "updated"]
    (run,) = study(tmp_path).runs.values()
    assert [(o.counts.steps, o.value) for o in run.observations] == [(2, 0.9), (3, 0.8), (4, 0.7)]
    assert imports("csv", tmp_path, "--finished") == 0 and imports("csv", tmp_path, "--finished") == 0
    assert [one["outcome"] for one in table(capsys)] == ["updated", "unchanged"]
    assert study(tmp_path).runs["r"].state == "finished"


def test_what_is_declared_otherwise_takes_the_place_of_what_was(tmp_path, capsys):
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n2,0.8\n3,0.7\n")
    for first in ("0", "1"):
        assert imports("csv", tmp_path, "--first-step", first) == 0
    assert [one["outcome"] for one in table(capsys)] == ["imported", "updated"]
    (run,) = study(tmp_path).runs.values()
    assert [(o.counts.steps, o.value) for o in run.observations] == [(1, 0.9), (2, 0.8), (3, 0.7)]


def test_an_import_that_was_cut_off_is_done_again(tmp_path, capsys):
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n2,0.8\n3,0.7\n")
    assert imports("csv", tmp_path) == 0
    (path,) = (tmp_path / "foretrain").rglob("*.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert len(study(tmp_path).runs["r"].observations) == 2
    assert imports("csv", tmp_path) == 0
    assert [one["outcome"] for one in table(capsys)] == ["imported", "updated"]
    assert len(study(tmp_path).runs["r"].observations) == 3


def test_runs_that_a_monitor_recorded_are_left_alone(tmp_path, capsys):
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n")
    store = ObservationStore(tmp_path / "foretrain")
    run = record("r", 1e6)
    store.begin(run.info)
    assert all([store.append(o) for o in run.observations])
    store.close()
    before = files(tmp_path)
    assert imports("csv", tmp_path) == 0
    assert table(capsys)[0]["outcome"] == "recorded" and files(tmp_path) == before
    assert imports("csv", tmp_path, "--prefix", "old/") == 0
    assert table(capsys)[0]["run"] == "old/r" and set(study(tmp_path).runs) == {"r", "old/r"}


def test_one_name_in_two_kinds_of_log_is_refused(tmp_path, capsys):
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n")
    event_file(tmp_path / "r", range(3))
    assert imports("csv", tmp_path) == 0
    assert imports("tensorboard", tmp_path) == 1
    assert [one["outcome"] for one in table(capsys)] == ["imported", "taken"]
    assert len(study(tmp_path).runs["r"].observations) == 1


def test_damaged_logs_do_not_stop_the_others(tmp_path, capsys):
    csv_file(tmp_path / "a", "step,val_loss\n1,0.9\nx,0.8\n")
    csv_file(tmp_path / "b", b"\0\0\0\n")
    csv_file(tmp_path / "c", "step,other\n1,0.9\n")
    csv_file(tmp_path / "d", "step,val_loss\n1,0.7\n")
    assert imports("csv", tmp_path) == 1
    told = {Path(one["place"]).parent.name: one for one in table(capsys)}
    assert {name: one["outcome"] for name, one in told.items()} == {
        "a": "imported",
        "b": "failed",
        "c": "failed",
        "d": "imported",
    }
    assert "1 rows without a whole step" in told["a"]["problems"][0]
    assert "Expected a table with a header" in told["b"]["problems"][0]
    assert "'val_loss' was not logged; pass one of these as --metric: other" in told["c"]["problems"][0]
    assert set(study(tmp_path).runs) == {"a", "d"}


HOSTILE = [
    "<script>alert(1)</script>",
    "[red]",
    "\x1b[2J",
    "..",
    "a\u202eb",
    "CON",
    "x" * 200,
    "; rm -rf",
    "{}",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_names_and_nothing_else(tmp_path, capsys, name):
    logs = tmp_path / "logs"
    logs.mkdir()
    rows = [{"trainer/global_step": 1, "val_loss": 0.9, name: 1.0}]
    header = ["trainer/global_step", f"{name} - val_loss"]
    (logs / "chart.csv").write_text(",".join(f'"{h}"' for h in header) + "\n1,0.9\n")
    (logs / "a.jsonl").write_text(json.dumps(rows[0]) + "\n")
    assert imports("wandb", logs, "--into", str(tmp_path / "out")) == 0
    assert set(study(tmp_path / "out").runs) == {"a", name}
    assert {path.parts[len(tmp_path.parts)] for path in tmp_path.rglob("*")} == {"logs", "out"}
    capsys.readouterr()
    options = ["--metric", "val_loss", "--batch-size", "8", "--into", str(tmp_path / "out")]
    assert main(["import", "wandb", str(logs), *options]) == 0
    told = capsys.readouterr().out
    assert "\x1b[2J" not in told and "\u202e" not in told


def test_two_logs_of_one_name_are_not_made_one(tmp_path, capsys):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "chart.csv").write_text('Step,"r - val_loss"\n1,0.9\n')
    assert imports("wandb", tmp_path, "--into", str(tmp_path)) == 1
    told = table(capsys)
    assert [one["outcome"] for one in told] == ["imported", "failed"]
    assert told[1]["problems"] == [
        "Another log of this import has the same name: import each with a --prefix of its own."
    ]


def test_a_store_that_cannot_be_written_is_said(tmp_path, capsys):
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n")
    (tmp_path / "file").write_text("")
    assert imports("csv", tmp_path, "--into", str(tmp_path / "file")) == 1
    (told,) = table(capsys)
    assert told["outcome"] == "failed" and "Observations cannot be written to" in told["problems"][0]


def test_a_url_is_imported_into_and_read_again(tmp_path, capsys, monkeypatch):
    pytest.importorskip("fsspec")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n2,0.8\n")
    url = f"memory://{tmp_path.name}"
    assert imports("csv", tmp_path, "--into", url) == 0
    assert imports("csv", tmp_path, "--into", url) == 0
    assert [one["outcome"] for one in table(capsys)] == ["imported", "unchanged"]


def test_a_dry_run_writes_nothing(tmp_path, capsys):
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n")
    before = files(tmp_path)
    command = ["import", "csv", str(tmp_path), "--metric", "val_loss", "--batch-size", "8", "--dry-run"]
    assert main(command) == 0
    told = " ".join(capsys.readouterr().out.split())  # a long path wraps
    assert "nothing was written" in told and "Logged steps are taken to count from 0" in told
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--metric", "m"], "pass one of --samples-per-step or --batch-size, --samples-key"),
        (["--metric", "m", "--batch-size", "8", "--samples-per-step", "8"], "got both: leave one out"),
        (
            ["--metric", "m", "--samples-per-step", "8", "--devices", "2"],
            "with --accumulate or --devices: add it",
        ),
        (
            ["--metric", "m", "--metric", "n", "--batch-size", "8", "--record-as", "x"],
            "got several: import one by",
        ),
    ],
)
def test_what_makes_no_sense_exits_with_2(tmp_path, capsys, options, message):
    assert main(["import", "csv", str(tmp_path), *options]) == 2
    assert message in capsys.readouterr().err


def test_no_directory_for_the_records_exits_with_2(tmp_path, capsys):
    assert imports("mlflow", tmp_path) == 2
    assert "pass the save_dir of the runs' loggers as --into" in capsys.readouterr().err


def test_nothing_to_import_exits_with_1(tmp_path, capsys):
    assert imports("csv", tmp_path) == 1
    assert "Expected logs of the kind 'csv' under" in capsys.readouterr().err
    csv_file(tmp_path / "r", "step,val_loss\n1,0.9\n")
    assert imports("csv", tmp_path, "--like", "gone") == 1
    assert "a run of the study with --like, got 'gone'; there are: none" in capsys.readouterr().err


def test_batches_are_multiplied_and_metrics_renamed(tmp_path):
    csv_file(tmp_path / "r", "step,valid/loss\n4,0.9\n")
    options = ["--batch-size", "8", "--accumulate", "2", "--devices", "4", "--record-as", "val_loss"]
    assert (
        main(["import", "csv", str(tmp_path), "--metric", "valid/loss", *options, "--params", "1.2e6"]) == 0
    )
    (observation,) = study(tmp_path).runs["r"].observations
    assert observation.counts.samples == 5 * 8 * 2 * 4 and observation.counts.params == 1_200_000
    assert observation.metric == "val_loss"
