"""`foretrain store`: checking, merging and exporting record files."""

import csv
import io
import json
import math
import subprocess
import sys

import pytest

from foretrain.axes import Counts
from foretrain.cli import main
from foretrain.observation import Observation, RunInfo
from foretrain.store import ObservationStore, StudyReader

VALUES = (0.9, 0.1 + 0.2, math.nan, math.inf, 5e-324)


def keep(root, run="r", values=VALUES, *, study="default", start=1, state="finished", **info):
    """Records a run as a monitor would."""
    store = ObservationStore(root / "foretrain", study)
    store.begin(RunInfo(run, conventions={"params": "trainable"}, **info))
    for step, value in enumerate(values, start):
        counts = Counts(samples=8 * step, steps=step, params=100, flops=1e3)
        store.append(Observation(run, "val_loss", value, counts, lr=0.1, time=50.0))
    if state:
        store.finish(state)
    store.close()
    return store.study_dir


def told(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def files(root):
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def values(study_dir):
    runs = StudyReader(study_dir).read().runs
    return {name: [str(o.value) for o in run.observations] for name, run in runs.items()}


# check


def test_sound_records_are_said_to_be_sound(tmp_path, capsys):
    keep(tmp_path, "a")
    keep(tmp_path, "b", state=None, study="other")
    assert main(["store", "check", str(tmp_path), "--json"]) == 0
    rows = told(capsys)
    facts = [(r["study"], r["run"], r["attempt"], r["state"], r["observations"], r["skipped"]) for r in rows]
    assert facts == [("default", "a", 1, "finished", 5, {}), ("other", "b", 1, "running", 5, {})]


def test_damage_is_found_in_its_file(tmp_path, capsys):
    keep(tmp_path, "a")
    folder = keep(tmp_path, "b")
    (path,) = folder.glob("b-*/*.jsonl")
    whole = path.read_bytes()
    assert whole.count(b"0.9") == 1
    path.write_bytes(whole.replace(b"0.9", b"0.8") + b'{"seq"')
    assert main(["store", "check", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    assert err == f"{path.parent.name}/{path.name}: lines passed over: 1 damaged.\n"
    assert "1 files end in a line without an end" in out
    path.write_bytes(b"x\n")
    assert main(["store", "check", str(tmp_path), "--json"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[1])["run"] is None and path.name in err


def test_no_records_are_said(tmp_path, capsys):
    for command in (["check", str(tmp_path)], ["merge", str(tmp_path), "--into", str(tmp_path / "new")]):
        assert main(["store", *command]) == 1
        assert f"No records under {tmp_path}" in capsys.readouterr().err


# merge


def test_directories_of_several_machines_become_one_and_twice_is_once(tmp_path, capsys):
    one, two, new = tmp_path / "one", tmp_path / "two", tmp_path / "new"
    keep(one, "a")
    keep(two, "b")
    keep(two, "c", study="other")
    command = ["store", "merge", str(one), str(two), "--into", str(new), "--json"]
    assert main(command) == 0
    assert [(r["study"], r["run"], r["outcome"]) for r in told(capsys)] == [
        ("default", "a", "copied"),
        ("default", "b", "copied"),
        ("other", "c", "copied"),
    ]
    assert files(new) == {**files(one), **files(two)}
    assert main(command) == 0
    assert {r["outcome"] for r in told(capsys)} == {"same"}
    assert files(new) == {**files(one), **files(two)}


def test_a_run_that_goes_on_is_brought_up_to_date_and_never_set_back(tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    keep(old)
    (path,) = old.rglob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.rindex(b"\n", 0, -1) - 30])  # torn in the middle of a line
    command = ["store", "merge", str(old), "--into", str(new), "--json"]
    assert main(command) == 0
    path.write_bytes(whole)
    assert main(command) == 0
    assert files(new) == files(old)
    path.write_bytes(whole[:-1])
    assert main(command) == 0
    assert [r["outcome"] for r in told(capsys)] == ["copied", "grown", "newer"]
    (copy,) = new.rglob("*.jsonl")
    assert copy.read_bytes() == whole


def test_what_says_something_else_is_refused(tmp_path, capsys):
    old, new = tmp_path / "old", tmp_path / "new"
    keep(old)
    command = ["store", "merge", str(old), "--into", str(new), "--json"]
    assert main(command) == 0
    (copy,) = new.rglob("*.jsonl")
    damaged = copy.read_bytes().replace(b"0.9", b"0.8")
    copy.write_bytes(damaged)
    assert main(command) == 1
    assert [r["outcome"] for r in told(capsys)] == ["copied", "differs"]
    assert copy.read_bytes() == damaged
    (path,) = old.rglob("*.jsonl")
    path.write_bytes(b"no header\n")
    assert main(command) == 1
    assert [r["outcome"] for r in told(capsys)] == ["unreadable"]


def test_runs_of_one_name_from_two_machines_are_not_put_together(tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    study_dir = keep(one, values=(0.9, 0.8))
    keep(two, values=(0.7, 0.6))
    before = files(one)
    assert main(["store", "merge", str(two), "--into", str(one), "--json"]) == 1
    assert [r["outcome"] for r in told(capsys)] == ["clash"] and files(one) == before
    command = ["store", "merge", str(two), "--into", str(one), "--prefix", "two/", "--json"]
    assert main(command) == 0 and main(command) == 0
    assert [r["outcome"] for r in told(capsys)] == ["copied", "same"]
    assert values(study_dir) == {"r": ["0.9", "0.8"], "two/r": ["0.7", "0.6"]}


def test_a_prefix_keeps_what_continues_what(tmp_path):
    one, new = tmp_path / "one", tmp_path / "new"
    keep(one, "a", (0.9, 0.8, 0.7))
    study_dir = keep(one, "b", (0.6, 0.5), start=3, continues={"run": "a", "step": 2})
    plain = values(study_dir)
    assert plain["b"] == ["0.9", "0.8", "0.6", "0.5"]
    assert main(["store", "merge", str(one), "--into", str(new), "--prefix", "x-"]) == 0
    (merged,) = (new / "foretrain").iterdir()
    assert values(merged) == {f"x-{name}": held for name, held in plain.items()}
    study = StudyReader(merged).read()
    assert study.damaged == 0 and study.runs["x-a"].state == "finished"


def test_a_kill_in_the_middle_of_a_merge_leaves_no_half_file(tmp_path):
    one, new = tmp_path / "one", tmp_path / "new"
    keep(one)
    code = (
        "import os, sys; from pathlib import Path; from foretrain.cli import main\n"
        "Path.replace = lambda *_: os._exit(9)\n"
        "main(['store', 'merge', sys.argv[1], '--into', sys.argv[2]])"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(one), str(new)])
    assert ran.returncode == 9
    assert [path.suffix for path in new.rglob("*") if path.is_file()] == [".half"]
    assert main(["store", "merge", str(one), "--into", str(new)]) == 0
    (study_dir,) = (new / "foretrain").iterdir()
    assert len(values(study_dir)["r"]) == 5


def test_merging_into_a_url_is_refused(tmp_path, capsys):
    pytest.importorskip("fsspec")
    keep(tmp_path)
    assert main(["store", "merge", str(tmp_path), "--into", "memory://x"]) == 2
    assert "Expected a directory with --into, got a URL" in capsys.readouterr().err


def test_a_disk_that_cannot_be_written_ends_the_merge_with_words(tmp_path, capsys):
    keep(tmp_path / "one")
    (tmp_path / "file").write_text("")
    assert main(["store", "merge", str(tmp_path / "one"), "--into", str(tmp_path / "file")]) == 1
    assert "stopped: " in capsys.readouterr().err


# export

FIRST = {
    "study": "default",
    "run": "r",
    "attempt": "1",
    "state": "finished",
    "metric": "val_loss",
    "value": "0.9",
    "samples": "8",
    "steps": "1",
    "tokens": "",
    "params": "100",
    "flops": "1000.0",
    "lr": "0.1",
    "time": "50.0",
    "conventions": '{"params": "trainable"}',
}


def test_every_observation_is_a_row_and_every_number_is_exact(tmp_path, capsys):
    keep(tmp_path)
    assert main(["store", "export", str(tmp_path)]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert FIRST.items() <= rows[0].items()
    assert [str(float(row["value"])) for row in rows] == [str(value) for value in VALUES]
    path = tmp_path / "all.csv"
    assert main(["store", "export", str(tmp_path), "--to", str(path)]) == 0
    assert list(csv.DictReader(path.open(newline=""))) == rows
    assert f"5 observations are in {path}." in capsys.readouterr().err


def test_a_parquet_file_holds_the_same(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    keep(tmp_path)
    path = tmp_path / "all.parquet"
    assert main(["store", "export", str(tmp_path), "--to", str(path)]) == 0
    rows = parquet.read_table(path).to_pylist()
    assert [str(row["value"]) for row in rows] == [str(value) for value in VALUES]
    assert rows[0]["samples"] == 8 and rows[0]["tokens"] is None and rows[0]["flops"] == 1000.0
    assert {"study", "run", "attempt", "state", "metric", "lr", "time", "conventions"} <= rows[0].keys()


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, capsys, monkeypatch):
    keep(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["store", "export", str(tmp_path), "--to", str(tmp_path / "x.parquet")]) == 1
    assert "pip install 'foretrain[parquet]'" in capsys.readouterr().err
    assert not list(tmp_path.glob("*x.parquet*"))


def test_names_survive_a_csv(tmp_path, capsys):
    odd = 'a,"b"\nc\x1b<script>\udcff'
    keep(tmp_path, odd, (0.9,))
    assert main(["store", "export", str(tmp_path)]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out, newline=""))
    assert row["run"] == odd.replace("\udcff", r"\udcff")


def test_exports_that_make_no_sense(tmp_path, capsys):
    keep(tmp_path)
    assert main(["store", "export", str(tmp_path), "--to", "x.xlsx"]) == 2
    assert "ends in .csv or .parquet, got 'x.xlsx'" in capsys.readouterr().err
    assert main(["store", "export", str(tmp_path), "--metric", "m"]) == 1
    assert "measured 'm': pass one of val_loss as --metric" in capsys.readouterr().err
    assert main(["store", "export", str(tmp_path), "--to", str(tmp_path / "none" / "x.csv")]) == 1
    assert "cannot be written: No such file or directory" in capsys.readouterr().err
