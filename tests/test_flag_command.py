"""`foretrain flags`: what `flag_run` says of the validations and the rates of every recorded run."""

import json
import math
from dataclasses import replace

import pytest

import foretrain
from foretrain.cli import main
from foretrain.observation import Plan, ScheduleUpdate
from foretrain.store import ObservationStore
from test_run_analysis import record

AT = 1000


def write(root, run):
    store = ObservationStore(root / "foretrain")
    store.begin(run.info)
    update = ScheduleUpdate(used=run.schedule, plan=Plan(run.schedule)) if run.schedule else None
    assert all([store.append(observation, update) for observation in run.observations])
    store.finish("finished")
    store.close()


def timed(run, start):
    """The same run, an hour long."""
    told = [replace(o, time=start + 3600 * i / 80) for i, o in enumerate(run.observations)]
    return replace(run, observations=tuple(told))


def changed(run, change):
    """The same run, its values after step `AT` changed."""
    told = [replace(o, value=change(o.value)) if o.counts.steps > AT else o for o in run.observations]
    return replace(run, observations=tuple(told))


def flags_of(run, with_rates, **how):
    steps, values = [o.counts.steps for o in run.observations], [o.value for o in run.observations]
    return foretrain.flag_run(steps, values, run.schedule.rates() if with_rates else None, **how)


@pytest.fixture
def runs(tmp_path):
    """A run that is well, one that rises, and two that fall, the rates of one of them unknown."""
    made = {
        "well": record("well", seed=1, every=25),
        "rises": changed(record("rises", seed=2, every=25), lambda value: 1.2 * value),
        "falls": changed(record("falls", seed=3, every=25), lambda value: 0.9 * value),
        "falls, rates unknown": changed(record("falls, rates unknown", seed=4, every=25), lambda v: 0.9 * v),
    }
    for number, (name, run) in enumerate(made.items()):
        # All were under way at once, so that none is an earlier run.
        write(tmp_path, timed(replace(run, schedule=None) if "unknown" in name else run, 60.0 * number))
    return made


def test_as_json_it_is_what_flag_run_tells(runs, tmp_path, capsys):
    assert main(["flags", str(tmp_path), "--json"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = [
        {"run": name, "metric": "val_loss", **flag.to_json()}
        for name in sorted(runs)
        for flag in flags_of(runs[name], "unknown" not in name)
    ]
    assert told == expected
    assert {record["run"] for record in told} == {"rises", "falls"}
    assert next(r for r in told if r["run"] == "falls")["kind"] == "unexpectedly_good"


def test_at_another_rate_they_are_told_anew(runs, tmp_path, capsys):
    assert main(["flags", str(tmp_path), "--json", "--false-alarm-rate", "1e-9"]) == 0
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    expected = flags_of(runs["rises"], True, false_alarm_rate=1e-9)
    assert [r["step"] for r in told if r["run"] == "rises"] == [flag.step for flag in expected]
    strict = {f"{f.kind.value} {f.step}": f.evidence["limit"] for f in expected}
    usual = {f"{f.kind.value} {f.step}": f.evidence["limit"] for f in flags_of(runs["rises"], True)}
    assert strict.keys() & usual.keys() and all(strict[k] > usual[k] for k in strict.keys() & usual.keys())


def test_as_a_table_it_names_runs_and_reasons(runs, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["flags", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "Flags of val_loss" in told and "2 of 4 runs are flagged at 0.01." in told
    assert "".join(f"rises: {flags_of(runs['rises'], True)[0].message}".split()) in "".join(told.split())
    assert "well" not in told


def test_values_that_are_no_errors_are_left_out_and_that_is_said(tmp_path, capsys):
    run = record("odd", seed=5)
    values = [0.0, -1.0, math.nan, *(o.value for o in run.observations[3:])]
    odd = [replace(o, value=v) for o, v in zip(run.observations, values, strict=True)]
    write(tmp_path, replace(run, observations=tuple(odd)))
    assert main(["flags", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    assert "odd: 2 values that are not positive are not replayed." in told.err
    (flag,) = [json.loads(line) for line in told.out.splitlines()]
    assert (flag["kind"], flag["step"]) == ("nan", 150)


@pytest.mark.parametrize("rate", ["0", "1", "often"])
def test_a_rate_that_is_none_is_refused(rate, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["flags", str(tmp_path), "--false-alarm-rate", rate])
    assert f"expected a number between 0 and 1, such as 0.01, got '{rate}'" in capsys.readouterr().err


def test_a_folder_without_records_is_said_to_be_one(tmp_path, capsys):
    assert main(["flags", str(tmp_path)]) == 1
    assert "No observations under" in capsys.readouterr().err
