"""`foretrain fit` and `foretrain compare`: the numbers of the functions behind them, and what is refused."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest

import foretrain
from foretrain.cli import main
from foretrain.cli.compare import _letter
from foretrain.observation import ScheduleUpdate
from foretrain.store import ObservationStore
from test_analysis import DATA, SIZES, record
from test_decisions_study import run as decaying


def keep(root, run, conventions=None, state="finished", study="default"):
    store = ObservationStore(root / "foretrain", study)
    store.begin(replace(run.info, conventions=conventions or {}))
    assert all([store.append(o) for o in run.observations])
    if state:
        store.finish(state)
    store.close()


def keep_whole(root, run):
    """Keeps a run with its schedule."""
    store = ObservationStore(root / "foretrain")
    store.begin(run.info)
    for i, observation in enumerate(run.observations):
        store.append(observation, ScheduleUpdate(used=run.schedule) if i == 0 else None)
    if run.state != "running":
        store.finish(run.state)
    store.close()


def told(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def write(path, **columns):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


# fit


def test_a_table_is_fitted_as_the_functions_do(tmp_path, capsys):
    x = np.geomspace(1e3, 1e6, 40)
    y = (0.5 + 30 * x**-0.4) * np.resize([1.005, 0.995], 40)
    path = write(tmp_path / "a.csv", tokens=x.tolist(), loss=y.tolist())
    assert main(["fit", str(path), "--x", "tokens", "--y", "loss", "--json"]) == 0
    (one,) = told(capsys)
    assert one["parameters"] == foretrain.fit("power_floor", x, y).parameters
    expected = foretrain.resample_curve(x, y).intervals(0.9)
    assert {name: tuple(ends) for name, ends in one["intervals"].items()} == expected
    for name, truth in (("E", 0.5), ("A", 30), ("alpha", 0.4)):
        assert one["intervals"][name][0] < truth < one["intervals"][name][1]
    assert (one["of"], one["law"], one["points"], one["status"]) == ("a.csv", "power_floor", 40, "ok")


def test_a_joint_law_of_a_table(tmp_path, capsys):
    n, d = (values.ravel() for values in np.meshgrid([1e6, 3e6, 1e7, 3e7], np.geomspace(1e8, 3e9, 8)))
    loss = (1.7 + 400 * n**-0.34 + 410 * d**-0.28) * np.resize([1.002, 0.998], n.size)
    path = write(tmp_path / "a.csv", D=d.tolist(), N=n.tolist(), L=loss.tolist())
    command = ["fit", str(path), "--law", "chinchilla", "--x", "N", "--x", "D", "--y", "L", "--json"]
    assert main(command) == 0
    (one,) = told(capsys)
    assert one["parameters"] == foretrain.fit("chinchilla", np.stack([n, d]), loss).parameters
    low, high = one["intervals"]["alpha"]
    assert low < 0.34 < high and one["points"] == 32


def test_each_run_is_fitted(tmp_path, capsys):
    runs = {n: record(f"n{n:.0e}", n) for n in SIZES[:3]}
    for run in runs.values():
        keep(tmp_path, run)
    assert main(["fit", str(tmp_path), "--run", "n1e+06", "--run", "n1e+07", "--json"]) == 0
    found = {one["of"]: one for one in told(capsys)}
    assert set(found) == {"n1e+06", "n1e+07"}
    for n in (1e6, 1e7):
        x, y = np.array([(o.counts.samples, o.value) for o in runs[n].observations]).T
        assert found[f"n{n:.0e}"]["parameters"] == foretrain.fit("power_floor", x, y).parameters


def test_all_runs_ends_are_fitted_together_only_where_they_tell(tmp_path, capsys):
    ends = [(n, d) for n in (1e6, 3e6, 1e7) for d in (6, 9, len(DATA))]
    points = []
    for n, last in ends:
        run = record(f"{n:.0e}-{last}", n)
        points.append((n, run.observations[last - 1].counts.samples, run.observations[last - 1].value))
        keep(tmp_path / "nine", replace(run, observations=run.observations[:last]), {"params": "trainable"})
    keep(tmp_path / "nine", record("otherwise", 1e6), {"params": "all"})
    command = ["fit", str(tmp_path / "nine"), "--law", "chinchilla", "--json"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    (one,) = (json.loads(line) for line in out.splitlines())
    assert (
        one["of"] == "all runs"
        and one["points"] == len(ends)
        and set(one["intervals"]) == set(one["parameters"])
    )
    x = np.array(points).T
    assert one["parameters"] == pytest.approx(foretrain.fit("chinchilla", x[:2], x[2]).parameters, rel=1e-6)
    assert err == "Counted by other conventions, pruned, or of unknown size, left out: otherwise.\n"
    two = [option for n, last in ends if n < 1e7 for option in ("--run", f"{n:.0e}-{last}")]
    assert main([*command, *two]) == 1
    (one,) = told(capsys)
    assert one["parameters"] == {} and one["status"] == "too_few_points"
    assert "Expected at least 7 runs of 3 different sizes" in one["sentence"]
    assert "got 6 of 2 and 3: train more first" in one["sentence"]


def test_of_runs_under_way_a_joint_law_takes_no_points(tmp_path, capsys):
    for n in (1e5, 3e5, 1e6):
        for steps in (500, 2000, 8000):
            keep_whole(tmp_path, decaying(f"{n:g}-{steps}", n, steps))
    keep_whole(tmp_path, decaying("young", 3e6, 4000, state="running", last=1000))
    command = ["fit", str(tmp_path), "--law", "chinchilla", "--json"]
    assert main(command) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["points"] == 9
    assert err == (
        "Of each run its end counts, with the learning rate decayed. Without such points, left out: young.\n"
    )


def test_rows_that_are_no_numbers_are_left_out_aloud(tmp_path, capsys):
    x = np.geomspace(1e3, 1e6, 20)
    clean = write(tmp_path / "clean.csv", x=x.tolist(), y=(x**-0.5).tolist())
    odd = tmp_path / "odd.csv"
    odd.write_text(clean.read_text() + "1e7,nan\r\n1e7,0\r\n1e7,-1\r\nx,1\r\n1e7\r\n1e400,1\r\n")
    assert main(["fit", str(clean), "--x", "x", "--y", "y", "--json"]) == 0
    (first,) = told(capsys)
    assert main(["fit", str(odd), "--x", "x", "--y", "y", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["parameters"] == first["parameters"] and json.loads(out)["points"] == 20
    assert err == f"{odd}: 6 rows without positive numbers were left out.\n"


def test_too_few_points_have_no_law_and_say_so(tmp_path, capsys):
    path = write(tmp_path / "a.csv", x=[1, 2], y=[2, 1])
    assert main(["fit", str(path), "--x", "x", "--y", "y"]) == 1
    shown = capsys.readouterr().out
    assert "not_fitted" in shown and "E + A x^-alpha" in shown


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["a.csv", "--y", "y"], 2, "Expected --y and 1 times --x for power_floor"),
        (["a.csv", "--x", "x", "--y", "z"], 2, "a.csv has no column z; it has x, y."),
        (["a.csv", "--x", "x", "--x", "y", "--y", "y", "--law", "kaplan"], 1, ""),
        (["logs", "--x", "x"], 2, "Expected a CSV file with --x and --y, got"),
        (["logs", "--law", "kaplan"], 2, "a law of one axis or chinchilla for runs, got kaplan"),
        (["logs", "--run", "s"], 1, "There is no run s; there are: r."),
        (["none"], 1, "No observations under"),
    ],
)
def test_what_cannot_be_fitted_is_said(tmp_path, capsys, options, code, message):
    write(tmp_path / "a.csv", x=[1, 2], y=[2, 1])
    keep(tmp_path / "logs", record("r", 1e6))
    assert main(["fit", str(tmp_path / options[0]), *options[1:]]) == code
    assert message in capsys.readouterr().err


# compare


def test_runs_are_compared_where_all_have_been(tmp_path, capsys):
    runs = {n: record(f"n{n:.0e}", n, noise=0.0) for n in SIZES[:3]}
    shortest = replace(runs[1e6], observations=runs[1e6].observations[:9])
    for n, run in runs.items():
        keep(tmp_path, shortest if n == 1e6 else run, state=None if n == 1e6 else "finished")
    assert main(["compare", str(tmp_path), "--json"]) == 0
    rows = told(capsys)
    at = shortest.observations[-1].counts.samples
    exact = {
        f"n{n:.0e}": next(o.value for o in run.observations if o.counts.samples == at)
        for n, run in runs.items()
    }
    assert [row["run"] for row in rows] == sorted(exact, key=exact.get)
    assert all(row["at"] == at and row["counted"] == "A" for row in rows)
    for row in rows:
        assert row["value"] == pytest.approx(exact[row["run"]], rel=1e-9)
        assert row["above"] == pytest.approx(exact[row["run"]] / min(exact.values()) - 1, abs=1e-9)
    assert {row["run"]: row["state"] for row in rows}["n1e+06"] == "running"


def test_between_two_validations_the_value_lies_on_the_line_of_the_log_log_plot(tmp_path, capsys):
    for n in (1e6, 1e7):
        keep(tmp_path, record(f"n{n:.0e}", n, noise=0.0))
    a, b = record("n1e+06", 1e6, noise=0.0).observations[4:6]
    middle = float(np.sqrt(a.counts.samples * b.counts.samples))
    assert main(["compare", str(tmp_path), "--at", str(middle), "--json"]) == 0
    (row,) = (row for row in told(capsys) if row["run"] == "n1e+06")
    assert row["value"] == pytest.approx(np.sqrt(a.value * b.value), rel=1e-9)
    assert main(["compare", str(tmp_path), "--at", "1", "--json"]) == 0
    assert all(row["value"] is None and row["above"] is None for row in told(capsys))


def test_runs_counted_otherwise_are_told_apart_with_what_differs(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    keep(tmp_path, record("a", 1e6), {"params": "trainable", "samples": "x"})
    keep(tmp_path, record("b", 1e7), {"params": "[red]all", "samples": "x"})
    keep(tmp_path, record("c", 1e7, factor=1.5), {"params": "trainable", "samples": "x"})
    assert main(["compare", str(tmp_path), "--json"]) == 0
    rows = {row["run"]: row for row in told(capsys)}
    assert [rows[name]["counted"] for name in "abc"] == ["A", "B", "A"]
    assert rows["b"]["above"] == 0 and min(rows["a"]["above"], rows["c"]["above"]) == 0
    assert main(["compare", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "  A  params: trainable\n" in shown and "  B  params: [red]all\n" in shown


def test_one_run_is_nothing_to_compare(tmp_path, capsys):
    keep(tmp_path, record("r", 1e6))
    assert main(["compare", str(tmp_path)]) == 1
    assert "Expected at least two runs of one study" in capsys.readouterr().err
    assert main(["compare", str(tmp_path), "--run", "r", "--run", "s"]) == 1
    assert "There is no run s; there are: r." in capsys.readouterr().err


def test_letters_go_on_after_the_last():
    assert [_letter(i) for i in (0, 25, 26, 27, 701, 702)] == ["A", "Z", "AA", "AB", "ZZ", "AAA"]
