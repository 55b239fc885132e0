"""What stands beside a report's points: taken from the records, bounded, and read back the same."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from foretrain.analysis import Question, analyze
from foretrain.axes import Counts
from foretrain.observation import Observation, RunInfo, RunRecord
from foretrain.report import MAX_REPORT_BYTES, History, LeftOutPoint, Report, ReportError
from foretrain.reporting.history import MOST_KNOTS, MOST_LEFT_OUT, history
from foretrain.reporting.points import run_curve
from foretrain.schedule import Schedule

KNOTS = ((1, 0.1), (10, 1.0), (800, 1.0), (1000, 0.0))


def observation(step: int, value: float, **counts: object) -> Observation:
    told = {"samples": 8 * step, "steps": step, "epochs": step / 100, "tokens": 512 * step, "params": 1000}
    return Observation("a", "val_loss", value, Counts(**{**told, **counts}), lr=0.5)  # type: ignore[arg-type]


def record(*observations: Observation, **changes: object) -> RunRecord:
    planned = Counts(samples=8000, steps=1000, epochs=10.0)
    values: dict[str, object] = {
        "info": RunInfo("a", planned=planned),
        "observations": observations,
        "schedule": Schedule.from_knots(KNOTS),
        "counted_otherwise": frozenset({("val_loss", 20)}),
    }
    return RunRecord(**{**values, **changes})  # type: ignore[arg-type]


RECORD = record(
    observation(0, 9.0),
    observation(10, math.nan),
    observation(20, 5.0),
    observation(40, 4.0, flops=10**30),
    observation(80, -1.0),
    observation(160, 3.0, tokens=None),
    Observation("a", "val_acc", 0.5, Counts(samples=8, steps=1)),
)


def told(axis: str = "samples") -> History:
    return history(RECORD, "val_loss", axis, run_curve(RECORD, "val_loss", axis)[0].points)


def test_each_point_has_what_the_run_had_used_there() -> None:
    found = told()
    assert found.counts == {
        "steps": (40, 160),
        "epochs": (0.4, 1.6),
        "tokens": (20_480, None),
        "flops": (10**30, None),
    }
    assert found.rates == (0.5, 0.5)
    assert found.schedule == KNOTS
    assert found.planned == {"samples": 8000, "steps": 1000, "epochs": 10.0}
    assert told("tokens").counts["samples"] == (320,)


def test_every_measurement_left_out_has_its_reason() -> None:
    found = [(item.step, item.data, item.reason) for item in told().left_out]
    assert found == [
        (0, 0.0, "before the first update"),
        (10, 80.0, "not finite"),
        (20, 160.0, "counted by other conventions"),
        (80, 640.0, "not positive"),
    ]
    assert math.isnan(told().left_out[1].value)
    _, excluded, _ = run_curve(RECORD, "val_loss", "samples")
    assert sorted(excluded) == sorted(item.reason for item in told().left_out)


def test_a_long_run_stays_small() -> None:
    rates = [1.0 + 0.5 * math.sin(i) for i in range(2000)]
    long = record(
        *(observation(i, math.nan if i % 2 else 1 + 1 / i) for i in range(1, 2000)),
        schedule=Schedule.from_rates(rates),
    )
    points = run_curve(long, "val_loss", "samples")[0].points
    found = history(long, "val_loss", "samples", points)
    assert len(found.schedule) == MOST_KNOTS
    assert (found.schedule[0][0], found.schedule[-1][0]) == (1, 2000)
    assert len(found.left_out) == MOST_LEFT_OUT
    assert [found.left_out[0].step, found.left_out[-1].step] == [1, 1999]
    assert {len(column) for column in found.counts.values()} == {len(points)}
    report = Report(run="a", metric="m", axis="samples", step=1, points=points, history=found)
    assert len(report.to_json()) < MAX_REPORT_BYTES / 5


def test_a_report_keeps_it_and_an_older_one_is_read_without() -> None:
    report = analyze({"a": RECORD}, Question("a"))
    text = report.to_json()
    back = Report.from_json(text).history
    assert back is not None
    assert report.history is not None
    bare = dataclasses.replace(told(), left_out=())  # where a value is NaN, two are never equal
    assert dataclasses.replace(back, left_out=()) == dataclasses.replace(report.history, left_out=()) == bare
    assert [item.reason for item in back.left_out] == [item.reason for item in told().left_out]
    assert math.isnan(back.left_out[1].value)
    older = json.loads(text)
    del older["history"]
    assert Report.from_json(json.dumps(older)).history is None


def test_unknown_names_of_a_later_version_are_ignored() -> None:
    record = json.loads(Report(run="a", metric="m", axis="samples", step=1, history=History()).to_json())
    record["history"] |= {
        "later": 1,
        "left_out": [{"step": 1, "data": None, "value": 2.0, "reason": "x", "y": 1}],
    }
    back = Report.from_json(json.dumps(record)).history
    assert back == History(left_out=(LeftOutPoint(1, None, 2.0, "x"),))


@pytest.mark.parametrize(
    "odd", [[], {"counts": 1}, {"schedule": [1]}, {"left_out": [{"step": 1}]}, {"rates": 3}]
)
def test_a_damaged_one_makes_the_report_unreadable(odd: object) -> None:
    record = json.loads(Report(run="a", metric="m", axis="samples", step=1).to_json())
    with pytest.raises(ReportError, match="Expected a report"):
        Report.from_json(json.dumps({**record, "history": odd or [1]}))
