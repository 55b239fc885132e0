"""Reading logs: those that each logger wrote, those that are damaged, and those that are hostile."""

import importlib.util
import json
import math
import os
import random
import sqlite3
import struct
import subprocess
import sys

import pytest
import torch

from foretrain.importers import SOURCES
from foretrain.importers.logs import LogError, Point
from foretrain.importers.settings import MAX_BYTES, read_flat_yaml, read_json_settings
from foretrain.tensorboard.events import read_events
from lightning_models import loader, make_module

WANTED = ("val_loss", "lr-SGD")


class Seen:
    """What a training measured, kept by a callback of its own: the truth that logs are compared with."""

    def __init__(self, pl):
        seen = self
        self.points, self.rates = [], []

        class Watch(pl.Callback):
            def on_train_batch_start(self, trainer, module, batch, index):
                seen.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

            def on_validation_end(self, trainer, module):
                if not trainer.sanity_checking:
                    value = float(trainer.callback_metrics["val_loss"])
                    seen.points.append((trainer.global_step, value, seen.rates[-1]))

        self.callback = Watch()


def train(tmp_path, monitor=None):
    """Four epochs of five batches of four, validated twice in each, logged by Lightning's own loggers."""
    import lightning.pytorch as pl
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    seen = Seen(pl)
    module = make_module(pl)
    module.save_hyperparameters({"width": 4, "params": 5.0, "nested": {"a": 1}, "text": "a: b # c"})
    base = type(module).configure_optimizers

    def configure(self):
        optimizer = base(self)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)]

    type(module).configure_optimizers = configure
    pl.Trainer(
        max_epochs=4,
        logger=[CSVLogger(tmp_path / "csv"), TensorBoardLogger(tmp_path / "tb")],
        callbacks=[seen.callback, LearningRateMonitor(), *([monitor] if monitor else [])],
        log_every_n_steps=1,
        val_check_interval=2,
        accelerator="cpu",
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    ).fit(module, loader(), loader())
    return seen


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("logs")
    return folder, train(folder)


def read(source, path, wanted=WANTED):
    places = SOURCES[source].find(path)
    return [run for place in places for run in SOURCES[source].read(place, path, wanted)]


# Logs as Lightning writes them


@pytest.mark.parametrize(("source", "folder"), [("csv", "csv"), ("tensorboard", "tb")])
def test_what_lightning_logged_is_what_was_measured(trained, source, folder):
    root, seen = trained
    (run,) = read(source, root / folder)
    assert run.name == "lightning_logs/version_0" and run.problems == () and run.state is None
    points = run.series["val_loss"]
    # Lightning logs a validation at the number of the last update counted from 0.
    assert [p.step + 1 for p in points] == [step for step, _, _ in seen.points] and len(points) == 8
    assert [p.value for p in points] == pytest.approx([value for _, value, _ in seen.points], rel=1e-6)
    rates = {p.step + 1: p.value for p in run.series["lr-SGD"]}
    assert rates == pytest.approx({1 + i: seen.rates[i] for i in (0, 5, 10, 15)}, rel=1e-6)
    assert {"params": "5.0", "width": "4"}.items() <= run.settings.items()
    assert run.settings["text"] == "a: b # c"


def test_the_event_files_numbers_are_those_of_tensorboards_own_reader(trained):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = trained[0] / "tb" / "lightning_logs" / "version_0"
    theirs = accumulator.EventAccumulator(str(folder), {"scalars": 0}).Reload()
    (path,) = folder.glob("*tfevents*")
    ours = read_events(path)
    assert set(ours.scalars) == set(theirs.Tags()["scalars"]) and "val_loss" in ours.scalars
    for tag, points in ours.scalars.items():
        assert points == [(e.step, e.wall_time, e.value) for e in theirs.Scalars(tag)]


# TensorBoard


def event_file(folder, steps, name="1", tag="val_loss", value=lambda step: 1.0 / (1 + step)):
    """Writes scalars in the old form, as torch's SummaryWriter does; the file's bytes."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.record_writer import RecordWriter

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"events.out.tfevents.{name}"
    with path.open("wb") as file:
        writer = RecordWriter(file)
        for step in steps:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value(step))])
            writer.write(Event(step=step, wall_time=1000.0 + step, summary=summary).SerializeToString())
    return path


def test_a_run_that_was_started_again_counts_from_where_it_went_back_to(tmp_path):
    event_file(tmp_path / "r", range(0, 100, 10), "1")
    event_file(tmp_path / "r", range(50, 80, 10), "2", value=lambda step: 7.0)
    (run,) = read("tensorboard", tmp_path)
    assert run.name == "r"
    assert [p.step for p in run.series["val_loss"]] == list(range(0, 80, 10))
    assert [p.value for p in run.series["val_loss"] if p.step >= 50] == [7.0] * 3


def test_twelve_thousand_numbers_are_all_there(tmp_path):
    event_file(tmp_path, range(12_000))  # TensorBoard itself would return 10,000
    (run,) = read("tensorboard", tmp_path)
    assert [p.step for p in run.series["val_loss"]] == list(range(12_000)) and run.name == tmp_path.name


def test_a_damaged_event_costs_itself_and_is_counted(tmp_path):
    path = event_file(tmp_path, range(20))
    whole = path.read_bytes()
    length = struct.unpack_from("<Q", whole)[0] + 16
    starts = []
    at = 0
    while at < len(whole):
        starts.append(at)
        at += struct.unpack_from("<Q", whole, at)[0] + 16
    assert len(starts) == 20 and length == starts[1]
    for byte in range(starts[7] + 12, starts[8]):  # its content and its checksum
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1]) + whole[byte + 1 :])
        (run,) = read("tensorboard", tmp_path)
        assert [p.step for p in run.series["val_loss"]] == [s for s in range(20) if s != 7]
        assert run.problems == (f"{path}: 1 damaged records were passed over.",)
    path.write_bytes(whole[: starts[7]] + b"\xff" + whole[starts[7] + 1 :])
    (run,) = read("tensorboard", tmp_path)
    assert [p.step for p in run.series["val_loss"]] == list(range(7))
    lost = len(whole) - starts[7]
    assert run.problems == (
        f"{path}: 1 damaged records, and {lost} bytes behind a damaged one were passed over.",
    )


def test_an_event_file_cut_anywhere_gives_its_whole_records(tmp_path):
    path = event_file(tmp_path, range(5))
    whole = path.read_bytes()
    lengths = set()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        (run,) = read("tensorboard", tmp_path)
        points = run.series.get("val_loss", ())
        assert [p.step for p in points] == list(range(len(points))) and run.problems == ()
        lengths.add(len(points))
    assert lengths == set(range(6))


def test_noise_is_no_event_file_and_raises_nothing(tmp_path):
    draw = random.Random(0)
    path = tmp_path / "events.out.tfevents.1"
    for _ in range(200):
        path.write_bytes(draw.randbytes(draw.randrange(200)))
        (run,) = read("tensorboard", tmp_path)
        assert run.series == {}


def test_tensorboard_missing_is_said(tmp_path):
    event_file(tmp_path, range(3))
    code = (
        "import sys; sys.modules['tensorboard'] = sys.modules['google'] = None\n"
        "from pathlib import Path; from foretrain.importers import SOURCES; path = Path(sys.argv[1])\n"
        "try: SOURCES['tensorboard'].read(path, path, ['val_loss'])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert ran.stdout == (
        "LogError Reading event files needs TensorBoard: pip install 'foretrain[tensorboard]'.\n"
    ), ran.stderr


# CSVLogger


def csv_file(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    return folder


def test_the_epochs_mean_is_found_where_steps_were_logged_too(tmp_path):
    csv_file(tmp_path, "epoch,step,val_loss_epoch,val_loss_step\n0,3,0.5,\n0,3,,0.7\n1,7,0.4,\n")
    (run,) = read("csv", tmp_path, ("val_loss", "val_loss_epoch"))
    assert run.series == {"val_loss_epoch": (Point(3, 0.5), Point(7, 0.4))}
    assert run.names == ("val_loss_epoch", "val_loss_step")


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("9,1,0.5", True),
        ("9,1,nan", True),
        ("9,1,inf", True),
        ("9.0,1,1e-3", True),
        ("9.5,1,0.5", False),
        ("-1,1,0.5", False),
        ("1e400,1,0.5", False),
        ("9,1,half", False),
        ("9,1,1_0", False),
        ("9,1", False),
        ("9,1,0.5,0.5", False),
        ('9,"1,0.5', False),
        (f"9,1,{'9' * 1000}", False),
        ("9,1,0.5\0", False),
        (b"9,1,\xff", False),
        (b"9," + b"1" * 2**21 + b",0.5", False),
    ],
)
def test_odd_rows_are_passed_over_and_counted(tmp_path, line, kept):
    line = line.encode() if isinstance(line, str) else line
    csv_file(tmp_path, b"step,epoch,val_loss\n1,0,0.9\n" + line + b"\n20,1,0.3\n")
    (run,) = read("csv", tmp_path)
    steps = [p.step for p in run.series["val_loss"]]
    assert steps == ([1, 9, 20] if kept else [1, 20])
    told = f"{tmp_path / 'metrics.csv'}: 1 rows without a whole step or number were passed over."
    assert run.problems == (() if kept else (told,))


def test_a_row_that_is_still_being_written_is_left_for_later(tmp_path):
    csv_file(tmp_path, "step,val_loss\n1,0.9\n2,0.85")  # it may become 0.851
    (run,) = read("csv", tmp_path)
    assert run.series["val_loss"] == (Point(1, 0.9),) and run.problems == ()


@pytest.mark.parametrize("text", ["", "step,val_loss", "a,a\n1,2\n", "\n1,2\n"])
def test_a_table_without_a_header_is_refused(tmp_path, text):
    csv_file(tmp_path, text)
    with pytest.raises(LogError, match=r"Expected a table with a header of different names in .*metrics.csv"):
        read("csv", tmp_path)


def test_a_table_without_steps_is_refused(tmp_path):
    csv_file(tmp_path, "_step,val_loss\n1,2\n")
    with pytest.raises(LogError, match=r"Expected a column `step` .* got _step, val_loss: .* as `wandb`"):
        read("csv", tmp_path)


def test_a_path_with_nothing_there_is_refused(tmp_path):
    with pytest.raises(LogError, match=r"there is nothing at .*/gone: check the path"):
        SOURCES["csv"].find(tmp_path / "gone")


def test_links_to_folders_and_pipes_are_not_followed(tmp_path):
    csv_file(tmp_path / "outside", "step,val_loss\n1,0.9\n")
    inside = tmp_path / "inside"
    (inside / "pipe").mkdir(parents=True)
    (inside / "loop").symlink_to(inside)
    (inside / "other").symlink_to(tmp_path / "outside")
    os.mkfifo(inside / "pipe" / "metrics.csv")
    assert SOURCES["csv"].find(inside) == []


# W&B


HISTORY = (
    ",trainer/global_step,_timestamp,val_loss,epoch,_step,note\n"
    "0,4,1700000000.5,0.9,0,1,\n"
    "1,9,1700000010.5,,0,2,hello\n"
    "2,14,1700000020.5,0.7,1,3,\n"
)


def test_a_history_as_pandas_writes_it(tmp_path):
    (tmp_path / "team").mkdir()
    (tmp_path / "team" / "sunny-1.csv").write_text(HISTORY)
    config = {"params": {"value": 1200}, "optimizer": {"lr": 0.1}, "tags": ["a"]}
    (tmp_path / "team" / "sunny-1.config.json").write_text(json.dumps(config))
    (run,) = read("wandb", tmp_path)
    assert run.name == "team/sunny-1" and run.problems == ()
    assert run.series == {"val_loss": (Point(4, 0.9, 1700000000.5), Point(14, 0.7, 1700000020.5))}
    assert run.settings == {"params": "1200", "optimizer.lr": "0.1"}
    assert run.names == ("val_loss", "epoch", "note")


def test_a_history_of_pandas_itself(tmp_path):
    pandas = pytest.importorskip("pandas")
    rows = [{"_step": 10 * i, "val_loss": 1 / (i + 1), "_timestamp": float(i)} for i in range(5)]
    pandas.DataFrame(rows).to_csv(tmp_path / "a.csv")
    pandas.DataFrame(rows).to_json(tmp_path / "b.jsonl", orient="records", lines=True, double_precision=15)
    csv, lines = read("wandb", tmp_path)
    assert [p.step for p in csv.series["val_loss"]] == [0, 10, 20, 30, 40]
    assert [p.value for p in csv.series["val_loss"]] == [1 / (i + 1) for i in range(5)]
    assert [p.value for p in lines.series["val_loss"]] == pytest.approx([1 / (i + 1) for i in range(5)])


def test_json_lines_with_lightnings_steps_and_odd_lines(tmp_path):
    rows = [
        '{"trainer/global_step": 4, "_step": 1, "val_loss": 0.9}',
        '{"trainer/global_step": 9, "_step": 2, "val_loss": "NaN"}',
        '{"trainer/global_step": 14, "_step": 3, "val_loss": NaN}',
        "",
        '{"trainer/global_step": 19, "val_loss": {"min": 1}}',
        "[" * 100_000,
        "[1, 2]",
        '{"trainer/global_step": 24, "val_loss": true}',
        '{"trainer/global_step": 29, "val_loss": 0.5}',
    ]
    (tmp_path / "r.jsonl").write_text("\n".join(rows) + "\n")
    (run,) = read("wandb", tmp_path / "r.jsonl")
    assert run.name == "r"
    assert [p.step for p in run.series["val_loss"]] == [4, 9, 14, 29]
    assert math.isnan(run.series["val_loss"][1].value) and math.isnan(run.series["val_loss"][2].value)
    assert run.problems == (
        f"{tmp_path / 'r.jsonl'}: 4 rows without a whole step or number were passed over.",
    )


def test_wandbs_own_steps_are_taken_aloud(tmp_path):
    (tmp_path / "r.csv").write_text("_step,val_loss\n5,0.9\n")
    (run,) = read("wandb", tmp_path)
    assert run.series["val_loss"] == (Point(5, 0.9),)
    assert "steps are W&B's `_step`, which counts calls of `wandb.log`" in run.problems[0]


def test_a_history_without_steps_is_refused(tmp_path):
    (tmp_path / "r.csv").write_text("Relative Time,val_loss\n5,0.9\n")
    with pytest.raises(LogError, match=r"`trainer/global_step` or `_step` .* got Relative Time, val_loss"):
        read("wandb", tmp_path)


def test_an_exported_chart_holds_several_runs(tmp_path):
    header = ["Step"]
    for run in ("a - b", "c"):
        header += [f"{run} - val_loss", f"{run} - val_loss__MIN", f"{run} - val_loss__MAX"]
    lines = [",".join(f'"{name}"' for name in header), '"5","0.9","0.9","0.9","","",""', "9,,,,0.8,0.8,0.8"]
    (tmp_path / "chart.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "chart.config.json").write_text('{"c": {"params": 10}}')
    first, second = read("wandb", tmp_path)
    assert (first.name, second.name) == ("a - b", "c")
    assert first.series == {"val_loss": (Point(5, 0.9),)} and second.series == {"val_loss": (Point(9, 0.8),)}
    assert first.settings == {} and second.settings == {"params": "10"}


# MLflow

EXPECTED = [(0, 2.0), (10, 1.9), (20, 1.8), (40, math.nan), (50, math.inf)]


def mlflow_files(root):
    """A file store as MLflow 3.17 writes it."""
    run = root / "mlruns" / "1102" / "e05cd135017249a58b2959e2baa0335b"
    for name, text in {
        "../meta.yaml": "experiment_id: '1102'\nlifecycle_stage: active\nname: exp one\n",
        "meta.yaml": f"lifecycle_stage: active\nrun_id: {run.name}\nrun_name: r/1\nstatus: 3\n",
        "params/n_params": "12345",
        "params/multi": "a\nb",
        "tags/mlflow.runName": "r/1",
        "metrics/val/loss": "1000 2.0 0\n2000 1.9 10\n3000 1.8 20\n4000 nan 40\n5000 inf 50\n",
    }.items():
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(text)
    return run


def check_mlflow(runs):
    (run,) = runs
    assert run.name.startswith("exp one/r/1-") and len(run.name) == len("exp one/r/1-") + 8
    assert run.state == "finished" and run.problems == () and run.names == ("val/loss",)
    points = [(p.step, p.value) for p in run.series["val/loss"]]
    assert str(points) == str(EXPECTED)  # as text, because of NaN
    assert run.settings["n_params"] == "12345"
    return run


def test_mlflows_file_store(tmp_path):
    mlflow_files(tmp_path)
    for path in (tmp_path, tmp_path / "mlruns", tmp_path / "mlruns" / "1102"):
        run = check_mlflow(read("mlflow", path, ["val/loss"]))
    assert run.settings["multi"] == "a\nb" and run.series["val/loss"][1].time == 2.0


def test_mlflows_deleted_runs_and_damaged_lines(tmp_path):
    run = mlflow_files(tmp_path)
    (run / "metrics" / "val" / "loss").write_bytes(
        b"1 2.0 0\n1 2.0\nx\n1 two 5\n1 1.5 -3\n\xff\n2 1.0 9\n3 0.5 1"
    )
    (told,) = read("mlflow", tmp_path, ["val/loss"])
    assert [(p.step, p.value) for p in told.series["val/loss"]] == [(0, 2.0), (9, 1.0)]
    assert told.problems == (f"{run}: 5 damaged lines were passed over.",)
    (run / "meta.yaml").write_text("lifecycle_stage: deleted\nrun_id: e05cd135\nrun_name: r\nstatus: 3\n")
    assert read("mlflow", tmp_path, ["val/loss"]) == []


@pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="MLflow is not installed")
def test_a_file_store_as_mlflow_itself_writes_it(tmp_path):
    code = """
import sys
from mlflow import MlflowClient
client = MlflowClient(sys.argv[1])
run = client.create_run(client.create_experiment("exp one"), run_name="r/1").info.run_id
client.log_param(run, "n_params", 12345)
for step, value in ((0, 2.0), (10, 1.9), (20, 1.8), (40, float("nan")), (50, float("inf"))):
    client.log_metric(run, "val/loss", value, step=step)
client.set_terminated(run)
"""
    env = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_DISABLE_TELEMETRY": "true"}
    command = [sys.executable, "-c", code, f"file://{tmp_path}"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    assert ran.returncode == 0, ran.stderr
    check_mlflow(read("mlflow", tmp_path, ["val/loss"]))


def database(path, status="FINISHED"):
    """The tables of MLflow's database that are read, as MLflow 3.17 fills them."""
    with sqlite3.connect(path) as tables:
        tables.executescript(
            "CREATE TABLE experiments (experiment_id INTEGER, name TEXT);"
            "CREATE TABLE runs (run_uuid TEXT, name TEXT, experiment_id INTEGER, status TEXT,"
            " lifecycle_stage TEXT);"
            "CREATE TABLE metrics (key TEXT, value REAL, timestamp INTEGER, run_uuid TEXT, step INTEGER,"
            " is_nan INTEGER);"
            "CREATE TABLE params (key TEXT, value TEXT, run_uuid TEXT);"
            "INSERT INTO experiments VALUES (1, 'exp one');"
            "INSERT INTO params VALUES ('n_params', '12345', 'e05cd135017249a5');"
            f"INSERT INTO runs VALUES ('e05cd135017249a5', 'r/1', 1, '{status}', 'active'),"
            " ('f00', 'gone', 1, 'FINISHED', 'deleted');"
        )
        for step, value in EXPECTED:
            nan = math.isnan(value)
            kept = 0.0 if nan else min(value, 1.7976931348623157e308)
            row = ("val/loss", kept, 1000 * step, "e05cd135017249a5", step, nan)
            tables.execute("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", row)


def test_mlflows_database_is_read_and_left_as_it_is(tmp_path):
    path = tmp_path / "mlflow.db"
    database(path)
    before = path.read_bytes()
    run = check_mlflow(read("mlflow", path, ["val/loss"]))
    assert run.series["val/loss"][1].time == 10.0
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["mlflow.db"]


def test_what_is_no_database_of_mlflow_is_refused(tmp_path):
    path = tmp_path / "x.db"
    path.write_text("not a database")
    with pytest.raises(LogError, match=r"a run's meta.yaml or an SQLite database of MLflow, got .*x.db"):
        read("mlflow", path)
    path.unlink()
    with sqlite3.connect(path) as tables:
        tables.execute("CREATE TABLE other (a TEXT)")
    with pytest.raises(LogError, match=r"cannot be read .no such table: experiments.: check the file"):
        read("mlflow", path)


# Hyperparameters


def test_only_flat_scalars_of_yaml_are_read(tmp_path):
    path = tmp_path / "hparams.yaml"
    path.write_text(
        "width: 4\nname: 'it''s'\nother: \"a\\tb\"\nnested:\n  a: 1\nlist:\n- 1\n"
        "evil: !!python/object/apply:os.system ['touch x']\nanchor: &a 1\nalias: *a\nblock: |\n  text\n"
        'lr: 0.1 # the rate\nempty:\nbroken: "a\n'
    )
    assert read_flat_yaml(path) == {"width": "4", "name": "it's", "other": "a\tb", "lr": "0.1"}
    assert read_flat_yaml(tmp_path / "none.yaml") == {}


def test_a_huge_settings_file_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "hparams.yaml"
    path.write_text("a: 1\n" + "b: 2\n" * (MAX_BYTES // 4))
    assert read_flat_yaml(path) == {"a": "1", "b": "2"}


@pytest.mark.parametrize("text", ["[1]", "{", "[" * 100_000])
def test_a_damaged_settings_file_is_said(tmp_path, text):
    path = tmp_path / "r.config.json"
    path.write_text(text)
    with pytest.raises(LogError, match=r"Expected a JSON object of hyperparameters in .*r.config.json"):
        read_json_settings(path)
