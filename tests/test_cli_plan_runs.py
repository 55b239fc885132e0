"""`foretrain plan LOG_DIR` and `foretrain compare --recipe`: what records that a store wrote advise."""

import json
from dataclasses import replace

import numpy as np
import pytest

from foretrain.cli import main
from foretrain.decisions import from_study
from foretrain.observation import Plan, ScheduleUpdate
from foretrain.storage.reader import StudyReader
from foretrain.store import ObservationStore
from test_decisions_study import BATCH, SIZES, law, run


def keep(root, record, study="default"):
    """Writes a run as the monitor does."""
    store = ObservationStore(root / "foretrain", study)
    store.begin(replace(record.info, study=study))
    update = ScheduleUpdate(used=record.schedule, plan=Plan(record.schedule))
    assert all([store.append(o, update) for o in record.observations])
    if record.state != "running":
        store.finish(record.state)
    store.close()


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    root = tmp_path_factory.mktemp("logs")
    for n in SIZES:
        for steps in (500, 2000, 8000):
            keep(root, run(f"n{n:.0e}-{steps}", n, steps))
    keep(root, run("under-way[red]", 1e6, 4000, state="running", last=3000))
    return root


def read(logs):
    (folder,) = (logs / "foretrain").iterdir()
    return StudyReader(folder).read().runs


def told(logs, capsys, *options):
    assert main(["plan", str(logs), "--json", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_without_a_question_the_next_ten_times_are_told(logs, capsys):
    (found,) = told(logs, capsys)
    planner, points = from_study(read(logs), "val_loss")
    assert found["runs"] == sorted(points.runs) and found["points"] == 12
    assert list(found["left_out"]) == ["under-way[red]"] and found["contrary"] is None
    choice, size, data, loss = found["answers"]
    assert choice["verdict"] == planner.more_data_or_bigger_model(3e6, 8e5).verdict
    best = planner.optimum(10 * 6 * 3e6 * 8e5)
    assert size["median"] == pytest.approx(best.size.median, rel=1e-9)
    assert size["lower"]["0.9"] == pytest.approx(best.size.lower[0.9], rel=1e-9)
    assert data["median"] * size["median"] * 6 == pytest.approx(10 * 6 * 3e6 * 8e5, rel=1e-9)
    assert loss["median"] == pytest.approx(float(best.loss.median), rel=1e-9)
    assert found["next_run"]["n"] == planner.next_run().n


@pytest.mark.parametrize(
    ("options", "ask"),
    [
        (["--target", "1.4", "--size", "1e6"], lambda p: p.data_needed(1.4, 1e6)),
        (["--target", "1.4", "--data", "1e6"], lambda p: p.size_needed(1.4, 1e6)),
        (["--target", "1.3"], lambda p: p.compute_needed(1.3)),
        (["--budget", "1e13", "--unique", "3e4"], lambda p: p.optimum(1e13, 3e4).size),
    ],
)
def test_each_question_has_the_planner_s_answer(logs, capsys, options, ask):
    (found,) = told(logs, capsys, *options)
    planner, _ = from_study(read(logs), "val_loss")
    assert found["answers"][0] == json.loads(json.dumps(ask(planner).to_json()))


def test_a_planned_run_and_what_would_tell_more_of_it(logs, capsys):
    (found,) = told(logs, capsys, "--size", "1e7", "--data", "2e6", "--goal", "1e8", "1e7")
    loss, choice = found["answers"]
    assert loss["lower"]["0.9"] < law(1e7, 2e6) < loss["upper"]["0.9"]
    assert choice["verdict"] == "more data"
    planner, _ = from_study(read(logs), "val_loss")
    assert found["next_run"]["d"] == pytest.approx(planner.next_run(goal=(1e8, 1e7)).d, rel=1e-9)
    (repeated,) = told(logs, capsys, "--size", "1e7", "--data", "2e6", "--unique", "1e5")
    assert repeated["answers"][0]["median"] > loss["median"]


def test_the_table_says_what_was_used_and_left_out(logs, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["plan", str(logs)]) == 0
    text = capsys.readouterr().out
    assert "Best size for 1.44e+14 FLOPs" in text and "90 % interval" in text
    assert "From 12 points of 12 runs of 4 sizes, 1e+05 to 3e+06 parameters" in text
    assert "Left out: under-way[red]: it is running" in text
    assert "To know more of larger runs: Run " in text


def test_where_equal_compute_contradicts_the_law_that_is_said(tmp_path, capsys, monkeypatch):
    """The best size grows like compute to 0.85, by minima that are steeper than those of a joint law."""
    for budget in (1e11, 4e11, 1.6e12, 6.4e12):
        best = 1e5 * (budget / 1e11) ** 0.85
        for size in best * np.geomspace(1 / 8, 8, 7):
            steps = max(round(budget / 6 / size / BATCH), 20)
            level = 1 + (budget / 1e9) ** -0.2 * (1 + 0.4 * np.log(size / best) ** 2)
            record = run(f"{budget:.0e}-{size:.0e}", round(size), steps)
            last = replace(record.observations[-1], value=float(level))
            keep(tmp_path, replace(record, observations=(last,)))
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["plan", str(tmp_path)]) == 0
    assert "The best sizes of equal compute grow like compute to the power of 0.8" in capsys.readouterr().out
    (found,) = told(tmp_path, capsys)
    assert "the law does not hold for these runs" in found["contrary"]


def test_two_sizes_are_refused_aloud(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    for n in SIZES[:2]:
        for steps in (500, 2000, 4000, 8000):
            keep(tmp_path, run(f"n{n:.0e}-{steps}", n, steps))
    assert main(["plan", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.count("cannot tell") >= 4
    assert "Fewer than three model sizes do not identify a law of model size. Train a third size." in text
    (found,) = told(tmp_path, capsys)
    assert all(answer["next_run"]["n"] not in SIZES[:2] for answer in found["answers"])


def test_a_study_that_says_nothing_is_told_and_the_others_go_on(tmp_path, capsys):
    keep(tmp_path, run("r", state="running", last=500), "young")
    assert main(["plan", str(tmp_path)]) == 1
    assert "young: Expected a run whose val_loss" in capsys.readouterr().err
    for n in SIZES:
        for steps in (500, 2000):
            keep(tmp_path, run(f"n{n:.0e}-{steps}", n, steps), "old")
    assert [found["study"] for found in told(tmp_path, capsys)] == ["old"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--unique", "1e5"], "Expected --budget, or --size and --data, with --unique"),
        (["--size", "1e5"], "Expected --size and --data together, or --target with one"),
        (["--missing"], "--missing is for a study's file, got "),
    ],
)
def test_questions_that_make_no_sense_are_refused(logs, capsys, options, message):
    assert main(["plan", str(logs), *options]) == 2
    assert message in capsys.readouterr().err


def test_questions_of_runs_are_not_asked_of_a_file(tmp_path, capsys):
    assert main(["plan", str(tmp_path / "study.json"), "--budget", "1e18"]) == 2
    assert "--budget is for a log directory, got " in capsys.readouterr().err
    for bad in ("-1", "many", "nan", "inf"):
        with pytest.raises(SystemExit, match="2"):
            main(["plan", str(tmp_path), f"--budget={bad}"])
        assert f"expected a positive number such as 3e18, got {bad}" in capsys.readouterr().err
