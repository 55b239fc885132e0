"""`foretrain plan` and `foretrain study run`: a study as a file, for schedulers."""

import json
import sys
from pathlib import Path

import pytest

import study_jobs
from foretrain.cli import main
from foretrain.study import grid
from foretrain.study.file import read_study_file

HERE = str(Path(__file__).parent)


@pytest.fixture
def study(tmp_path):
    """A file of six points beside which their runs are kept."""
    path = tmp_path / "study.json"
    record = {
        "root": "runs",
        "study": "paper",
        "train": "study_jobs:fails_at_size_8",
        "grid": {"size": [4, 8, 16], "data": [100], "seed": [0, 1]},
    }
    path.write_text(json.dumps(record))
    return path


POINTS = grid(size=[4, 8, 16], data=[100], seed=[0, 1])


def states(study, capsys, *options):
    assert main(["plan", str(study), "--json", *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_one_point_at_a_time_until_only_those_that_fail_are_missing(study, capsys):
    assert [(row["number"], row["state"]) for row in states(study, capsys)] == [
        (i, "missing") for i in range(6)
    ]
    assert [row["run"] for row in states(study, capsys)] == [point.run for point in POINTS]
    assert main(["study", "run", str(study), "--point", "5"]) == 0
    assert main(["study", "run", str(study), "--point", POINTS[0].id]) == 0
    assert main(["study", "run", str(study), "--point", "2"]) == 1
    assert "RuntimeError: out of paper" in capsys.readouterr().err
    assert main(["plan", str(study), "--array"]) == 0
    assert capsys.readouterr().out == "1-4\n"
    assert main(["study", "run", str(study), "--json"]) == 1
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["state"] for row in told] == [
        "skipped",
        "finished",
        "failed",
        "failed",
        "finished",
        "skipped",
    ]
    assert [row["number"] for row in states(study, capsys, "--missing")] == [2, 3]
    assert main(["plan", str(study)]) == 0
    assert "2 failed, 4 finished of 6 points" in capsys.readouterr().out
    assert Path(study.parent, "runs", "begun").is_dir()
    assert study_jobs.begun(study.parent / "runs") == {p.run: 1 for p in POINTS if p.size != 8}


def test_a_study_with_nothing_left_says_so(study, capsys):
    record = json.loads(study.read_text())
    study.write_text(json.dumps({**record, "train": "study_jobs:train"}))
    assert main(["study", "run", str(study)]) == 0
    assert main(["plan", str(study), "--array"]) == 1
    assert "Every point is finished." in capsys.readouterr().err


def test_several_workers_and_another_root(study, capsys, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(HERE)
    other = tmp_path / "other"
    assert (
        main(
            [
                "study",
                "run",
                str(study),
                "--workers",
                "2",
                "--root",
                str(other),
                "--point",
                "0",
                "--point",
                "4",
            ]
        )
        == 0
    )
    capsys.readouterr()
    assert [row["state"] for row in states(study, capsys, "--root", str(other))].count("finished") == 2
    assert {row["state"] for row in states(study, capsys)} == {"missing"}


def test_a_module_beside_the_file_is_found(tmp_path, capsys):
    (tmp_path / "beside_the_study.py").write_text("def train(config):\n    raise RuntimeError('found')\n")
    path = tmp_path / "study.json"
    path.write_text(
        json.dumps({"root": "runs", "train": "beside_the_study:train", "points": [{"size": 1, "data": 2}]})
    )
    before = list(sys.path)
    try:
        assert main(["study", "run", str(path)]) == 1
    finally:
        sys.path[:] = before
    assert "RuntimeError: found" in capsys.readouterr().err


def test_an_interrupt_is_told(study, capsys, monkeypatch):
    def interrupted(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(study_jobs, "fails_at_size_8", interrupted)
    assert main(["study", "run", str(study)]) == 1
    assert "Interrupted. Finished points are kept" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": None, "root": ""}, "`root` in .*: name the directory"),
        ({"points": []}, "either `grid` or `points` in .*, got both"),
        ({"lr": 1}, "got also lr"),
        ({"study": 3}, "`study` in .* to be text, got 3"),
        ({"grid": [1]}, "`grid` in .* to hold lists of `size` and `data`"),
        ({"grid": {"size": [1], "data": 3}}, "`grid` in .* to hold lists"),
        ({"grid": {"size": [1], "data": [1], "seed": 3}}, "`seed` of the grid in .* to be a list, got 3"),
        ({"grid": {"size": [1, 1], "data": [1]}}, "each point once"),
        ({"root": "nonsense://x"}, "nonsense"),
    ],
)
def test_a_file_that_is_no_study_is_refused(study, change, message, capsys):
    record = {**json.loads(study.read_text()), **change}
    study.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message):
        read_study_file(study)
    assert main(["plan", str(study)]) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("[1]", "one JSON object"), ("{", "Expected JSON in"), ('{"root": "r"}', "got neither"),
     ('{"root": "r", "points": 3}', "`points` in .* to be a list, got 3")],
)  # fmt: skip
def test_text_that_is_no_study_is_refused(tmp_path, text, message):
    path = tmp_path / "study.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_study_file(path)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (None, "`train` in the study's file as module:function, got None"),
        ("study_jobs", "as module:function, got 'study_jobs'"),
        ("study_jobs:nothing", "a function that can be imported, got 'study_jobs:nothing' \\(AttributeError"),
        ("no_such_module:train", "ModuleNotFoundError"),
        ("study_jobs:os", "to be a function, got 'study_jobs:os'"),
    ],
)
def test_a_training_that_is_none_is_refused(study, train, message, capsys):
    record = {**json.loads(study.read_text()), "train": train}
    study.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))
    with pytest.raises(ValueError, match=message):
        read_study_file(study).load_train()
    assert main(["study", "run", str(study)]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["plan", "/nowhere/study.json"], "Cannot read /nowhere/study.json: No such file"),
        (["study", "run", "STUDY", "--point", "6"], "a number from 0 to 5 or a point's id, got 6"),
        (["study", "run", "STUDY", "--workers", "0"], "at least 1 worker, got 0"),
    ],
)
def test_what_makes_no_sense_is_told(study, arguments, message, capsys):
    assert main([str(study) if word == "STUDY" else word for word in arguments]) == 2
    assert message in capsys.readouterr().err
