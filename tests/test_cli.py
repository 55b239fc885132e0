"""The `foretrain` command, on records that a store wrote."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace

import pytest

from foretrain import __version__
from foretrain.cli import main
from foretrain.cli.report import _regions
from foretrain.observation import Plan, ScheduleUpdate
from foretrain.report import CurveRegions, Report
from foretrain.store import ObservationStore
from test_analysis import SIZES, record
from test_run_analysis import constant
from test_run_analysis import record as scheduled


@pytest.fixture
def log_dir(tmp_path):
    for n in SIZES:
        run = record(f"size-{n:.0e}", n)
        store = ObservationStore(tmp_path / "foretrain")
        store.begin(run.info)
        assert all([store.append(observation) for observation in run.observations])
        store.finish("finished")
        store.close()
    return tmp_path


@pytest.mark.parametrize("below", ["", "foretrain"])
def test_report_tells_every_run(log_dir, capsys, monkeypatch, below):
    monkeypatch.setenv("COLUMNS", "200")  # a wide terminal, so that no name is cut
    assert main(["report", str(log_dir / below)]) == 0
    told = capsys.readouterr().out
    assert "val_loss" in told and "planned end" in told
    table, regions = told.split("Regions now: ")
    assert table.count("size-") == len(SIZES)
    regions, record = regions.splitlines()
    assert regions.count("size-") == len(SIZES)
    assert re.fullmatch(r"Of 16 past forecasts of this study's finished runs, 1\d were inside .*", record)


def test_the_folder_that_tensorboard_is_given_stands_for_the_save_dir(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    runs = {"lightning_logs/version_0": 1e6, "lightning_logs/version_1": 3e6, "other/version_0": 1e7}
    for name, n in runs.items():
        run = record(name, n)
        store = ObservationStore(tmp_path / "foretrain")
        store.begin(run.info)
        assert all([store.append(observation) for observation in run.observations])
        store.close()
    for folder in ("lightning_logs/version_0", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    assert main(["report", str(tmp_path)]) == 0
    everything = capsys.readouterr().out
    assert main(["report", str(tmp_path / "lightning_logs")]) == 0
    assert capsys.readouterr().out == everything
    assert all(name in everything for name in runs)
    for folder in ("empty", "lightning_logs/version_0"):
        assert main(["report", str(tmp_path / folder)]) == 1
        assert "No observations under" in capsys.readouterr().err


def test_the_line_on_regions_says_who_is_where_and_since_when():
    def report(run, *regions):
        return Report(run, "m", "samples", 1, regions=CurveRegions(*regions) if regions else None)

    told = _regions(
        [
            report("a", "power_law"),
            report("b", "irreducible", 50.0, 919_549.7),
            report("[red]c", "power_law", 51.27),
            report("d", "small_data"),
            report("e"),
        ]
    )
    assert told == (
        "Regions now: small data (d); power law (a, [red]c from 51.3); irreducible (b from 920,000)"
    )
    assert _regions([report("e")]) == ""


def test_names_of_runs_are_no_markup(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = record("[red]r", 1e7)
    store = ObservationStore(tmp_path / "foretrain")
    store.begin(run.info)
    assert all([store.append(observation) for observation in run.observations])
    store.close()
    assert main(["report", str(tmp_path)]) == 0
    assert capsys.readouterr().out.count("[red]r") == 2


def test_report_as_json_is_one_report_a_line(log_dir, capsys):
    (folder,) = (log_dir / "foretrain").iterdir()
    assert main(["report", str(folder), "--json"]) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["run"] for r in reports] == sorted(f"size-{n:.0e}" for n in SIZES)
    assert all(r["state"] == "finished" and r["joint"]["status"] == "ok" for r in reports)


def keep(root, run):
    """Writes a run as the monitor does: the rates used, and those to come."""
    store = ObservationStore(root / "foretrain")
    store.begin(run.info)
    update = ScheduleUpdate(used=run.schedule, plan=Plan(run.schedule))
    assert all([store.append(observation, update) for observation in run.observations])
    if run.state == "finished":
        store.finish("finished")
    store.close()


def test_the_table_says_what_each_projection_assumes_and_how_the_last_ones_did(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    keep(tmp_path, scheduled("cosine", seed=1))
    keep(tmp_path, scheduled("under-way", last=1000, seed=2))
    keep(tmp_path, scheduled("level", last=1000, lr=constant(2000)))
    assert main(["report", str(tmp_path), "--axis", "samples"]) == 0
    told = capsys.readouterr().out
    rows = {
        name: next(line for line in told.splitlines() if name in line)
        for name in ("cosine", "under-way", "level")
    }
    assert rows["cosine"].count("annealed") == rows["under-way"].count(", annealed") == 1
    assert rows["level"].count("not annealed") == 2
    assert "Of 4 past forecasts of this study's finished runs, 4 were inside their 90 % interval." in told
    assert "past its best" not in told


def test_a_run_past_its_best_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = scheduled("over", last=1000, lr=constant(2000))
    low = min(run.observations, key=lambda o: abs(o.counts.steps - 600))
    rising = [replace(o, value=o.value + max(0, o.counts.steps - 600) / 1000) for o in run.observations]
    keep(tmp_path, replace(run, observations=tuple(rising)))
    assert main(["report", str(tmp_path), "--axis", "samples"]) == 0
    assert f"over is past its best: val_loss was {low.value:.4g} at step 600." in capsys.readouterr().out


def test_nothing_to_report_is_said(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 1
    assert "expected the save_dir of a logger" in capsys.readouterr().err


def test_a_metric_that_no_run_has_is_refused_with_those_there_are(log_dir, capsys):
    assert main(["report", str(log_dir), "--metric", "val_acc"]) == 1
    assert "measured 'val_acc': pass one of val_loss as --metric." in capsys.readouterr().err


def test_names_cannot_act_on_a_terminal(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    run = record("\x1b[2J\u202er", 1e7)
    store = ObservationStore(tmp_path / "foretrain")
    store.begin(run.info)
    assert all([store.append(observation) for observation in run.observations])
    store.close()
    assert main(["report", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert told.count(r"\x1b[2J\x202er") == 2 and "\x1b" not in told and "\u202e" not in told


def test_a_reader_that_has_seen_enough_is_no_error(log_dir):
    command = [sys.executable, "-m", "foretrain.cli", "report", str(log_dir), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 0 and told == b""


def test_a_command_that_is_not_understood_exits_with_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["reprot"])
    assert ended.value.code == 2
    assert "invalid choice: 'reprot'" in capsys.readouterr().err


def test_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"foretrain {__version__}\n"


@pytest.mark.parametrize("width", [30, 80])
def test_tables_break_no_numbers(width):
    from rich.console import Console

    from foretrain.cli.output import table

    rows = [("a-long-name-of-a-run", "2,662,400", "1.932 (1.913 to 1.95), not annealed")]
    screen = Console(width=width, record=True, file=io.StringIO())
    screen.print(table("", ("run", "tokens", "planned end"), rows))
    said = screen.export_text()
    assert "2,662,400" in said
    assert max(map(len, said.splitlines())) <= width
