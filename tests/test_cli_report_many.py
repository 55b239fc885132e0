"""`foretrain report` of many runs: some are analyzed, and it is said what is told of the others."""

import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from foretrain.cli import main, report_many
from foretrain.report import Report
from foretrain.reporting import overview
from foretrain.reporting.points import run_curve
from test_cli_plan_runs import keep
from test_decisions_study import law, run

pytest.importorskip("matplotlib")
SIZES = np.geomspace(1e5, 3e6, 6)


def runs():
    """Fifteen runs, one of which is under way, one off the curve and one broken."""
    for n in SIZES:
        yield from (run(f"n{n:.0e}-{steps}", n, steps) for steps in (300, 1000))
    yield run("under way", 5e5, 2000, state="running", last=1000)
    high, broken = run("high", 4e5, 1000), run("broken", 2e5, 1000)
    yield replace(high, observations=tuple(replace(o, value=1.5 * o.value) for o in high.observations))
    *before, last = broken.observations
    yield replace(broken, observations=(*before, replace(last, value=math.nan)))


@pytest.fixture
def log_dir(tmp_path, monkeypatch):
    """Of the runs six are to be analyzed: two of each kind. Analyses are made short."""
    monkeypatch.setattr(report_many, "MOST_IN_FULL", 8)
    monkeypatch.setattr(report_many, "MOST_STUDIED", 10)
    monkeypatch.setattr(overview, "OF_EACH", 2)
    monkeypatch.setattr(report_many, "analyze", analyzed)
    for started, one in enumerate(runs()):
        keep(tmp_path, replace(one, info=replace(one.info, started=1e9 - started)))
    return tmp_path


def analyzed(runs, question, shelf):
    """A report that says of itself that it was made by an analysis."""
    curve, _, _ = run_curve(runs[question.run], question.metric, question.axis)
    status = "by itself"
    return Report(question.run, question.metric, question.axis, 1, points=curve.points, status=status)


ANALYZED = {"n1e+05-300", "n1e+05-1000", "n2e+06-1000", "n3e+06-1000", "high", "broken"}


def text_of(page):
    """The page without its pictures and tags."""
    without = re.sub(r'src="data:[^"]*"', "", page.read_text())
    return re.sub(r"\s+", " ", re.sub("<[^>]+>", " ", without))


def test_of_many_runs_some_are_analyzed(log_dir, capsys):
    page = log_dir / "r.html"
    assert main(["report", str(log_dir), "--html", str(page), "--json"]) == 0
    told = {r["run"]: r for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert len(told) == 15
    assert {name for name, r in told.items() if r["status"] == "by itself"} == ANALYZED
    assert {told[name]["status"] for name in told.keys() - ANALYZED} == {"not analyzed"}
    end, further = told["under way"]["projections"]
    assert (end["name"], end["data"], further["name"]) == ("planned end", 2e5, "10x")
    assert end["median"] == pytest.approx(law(5e5, 2e5) * 1.002, rel=0.02)  # at a hundredth of the rate
    assert told["under way"]["params"] == 500_000 and len(told["under way"]["points"]) == 20
    assert told["under way"]["sentence"].endswith("Ask for the analysis of every run with --all.")
    text = text_of(page)
    assert "Of 15 runs 6 were analyzed by themselves: the 2 newest, the 2 best and the 2 flagged." in text
    assert "Of 15 runs 10 are looked at here, evenly over sizes and data." in text
    assert "9 runs that were not analyzed by themselves" in text
    folded = text[text.index("9 runs that were not analyzed") :]
    assert all((name in folded) == (name not in ANALYZED) for name in told)
    assert f"under way not analyzed 500,000 100,000 {told['under way']['points'][-1][1]:.4g}" in folded


def test_the_screen_has_those_that_were_analyzed(log_dir, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["report", str(log_dir)]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ANALYZED) and "under way" not in shown
    assert "Of 15 runs 6 were analyzed by themselves" in shown


def test_all_runs_are_analyzed_where_that_is_asked_for(log_dir, capsys, monkeypatch):
    assert main(["report", str(log_dir), "--json", "--all"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["status"] for r in told] == ["by itself"] * 15
    monkeypatch.setattr(report_many, "MOST_IN_FULL", 15)
    assert main(["report", str(log_dir), "--json"]) == 0
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == told


def test_runs_that_are_flagged_and_not_analyzed_say_so(log_dir, capsys, monkeypatch):
    monkeypatch.setattr(report_many, "worth_a_look", lambda *_: {"n1e+05-300": "best"})
    assert main(["report", str(log_dir), "--json"]) == 0
    told = {r["run"]: r["status"] for r in map(json.loads, capsys.readouterr().out.splitlines())}
    assert (told["high"], told["broken"]) == ("above the others", "not finite")
    assert told["under way"] == "not analyzed"


def test_the_tab_keeps_the_reports_of_runs_that_were_not_analyzed(log_dir, capsys):
    pytest.importorskip("tensorboard")
    assert main(["report", str(log_dir), "--tab", "--json"]) == 0
    said = capsys.readouterr().err
    assert "9 runs were not analyzed, and keep the reports that they have: pass --all for theirs." in said
