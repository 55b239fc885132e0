"""The records that every module shares: round trips, and what they refuse."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foretrain.axes import AXES, Counts
from foretrain.flags import Flag, FlagKind
from foretrain.observation import Observation, RunInfo
from foretrain.report import (
    MAX_REPORT_BYTES,
    Band,
    JointReport,
    LawFit,
    NamedProjection,
    Report,
    ReportError,
)
from foretrain.storage.records import LineError, read_observation

COUNTS = st.builds(
    Counts,
    samples=st.integers(0, 10**18),
    steps=st.integers(0, 10**12),
    epochs=st.floats(0, 1e6),
    tokens=st.none() | st.integers(0, 10**18),
    params=st.none() | st.integers(0, 10**13),
    flops=st.none() | st.floats(0, 1e30),
)


@given(COUNTS)
def test_counts_survive_json(counts):
    assert Counts.from_json(json.loads(json.dumps({**counts.to_json(), "later": 1}))) == counts


@pytest.mark.parametrize("name", ["samples", "steps", "epochs", "tokens", "flops"])
@pytest.mark.parametrize("value", [-1, math.nan])
def test_counts_refuse_what_cannot_be_a_count(name, value):
    with pytest.raises(ValueError, match=f"`{name}` to be zero or more"):
        Counts(**{"samples": 1, "steps": 1, name: value})


def test_every_axis_reads_its_own_count():
    counts = Counts(
        1, 2, 3.0, tokens=4, unique_samples=5, params=6, params_total=7, params_non_embedding=9,
        density=0.5, flops=8.0,
    )  # fmt: skip
    read = {name: axis.read(counts) for name, axis in AXES.items()}
    assert read == {
        "samples": 1, "steps": 2, "epochs": 3, "tokens": 4,
        "unique_samples": 5, "params": 6, "params_total": 7, "flops": 8,
        "params_non_embedding": 9, "density": 0.5,
    }  # fmt: skip
    assert AXES["tokens"].read(Counts(1, 2)) is None
    assert all(axis.symbol and axis.unit for axis in AXES.values())


RATES = st.none() | st.lists(st.floats(0, 10), min_size=1, max_size=3).map(tuple)


@given(st.floats(), COUNTS, RATES)
def test_observations_survive_json_whatever_was_measured(value, counts, rates):
    there = Observation("r", "m", value, counts, lr=0.1, attempt=3, time=1.5, lrs=rates)
    text = json.dumps(there.to_json(), allow_nan=False)
    back = Observation.from_json(json.loads(text), run="r", attempt=3)
    assert back == there or (math.isnan(value) and math.isnan(back.value) and back.counts == counts)


def test_records_of_earlier_versions_have_no_rates_by_group():
    record = {"metric": "m", "value": 1.0, "counts": {"samples": 1, "steps": 1}, "lr": 0.1}
    assert Observation.from_json(record, run="r") == Observation("r", "m", 1.0, Counts(1, 1), lr=0.1)


@pytest.mark.parametrize("rates", ["0.1", 0.1, [0.1, "0.2"], [None], {"0": 0.1}, [True]])
def test_rates_that_are_none_make_a_line_no_record(rates):
    record = {"metric": "m", "value": 1.0, "counts": {"samples": 1, "steps": 1}, "lrs": rates}
    with pytest.raises(LineError, match="not a record"):
        read_observation(record, RunInfo("r"))
    assert read_observation({**record, "lrs": [0.1, 0.2]}, RunInfo("r")).lrs == (0.1, 0.2)


@given(st.floats(), st.none() | st.floats())
def test_the_metric_as_logged_survives_json_beside_its_error(value, logged):
    there = Observation("r", "1 - acc", value, Counts(1, 2), logged=logged)
    line = json.loads(json.dumps(there.to_json(), allow_nan=False))
    back = read_observation(line, RunInfo("r"))
    assert [repr(back.value), repr(back.logged)] == [repr(value), repr(logged)]
    assert ("logged" in line) == (logged is not None)


@pytest.mark.parametrize("name", ["value", "logged"])
@pytest.mark.parametrize("number", ["0.5", "Infinity", True, [1], {}, None])
def test_a_line_whose_value_is_no_number_is_no_record(name, number):
    line = {**Observation("r", "1 - acc", 0.5, Counts(1, 2), logged=0.5).to_json(), name: number}
    with pytest.raises(LineError, match="not a record"):
        read_observation(line, RunInfo("r"))


def test_run_info_survives_json():
    info = RunInfo("r", "s", 2, {"params": "trainable"}, Counts(1, 2), {"run": "q", "step": 5}, 1.0)
    assert RunInfo.from_json(json.loads(json.dumps({**info.to_json(), "later": 1}))) == info


def whole_report():
    band = Band((1.0, 2.0), (3.0, 2.0), {"0.9": (2.0, 1.0)}, {"0.9": (4.0, 3.0)})
    one = NamedProjection("10x", 5.0, 6.0, 2.0, {"0.9": 1.0}, {"0.9": 3.0}, ("far",))
    fit = LawFit("power", {"A": 1.0, "alpha": 0.3}, 0.5, "ok", "fine")
    return Report(
        "r", "val_loss", "samples", 7,
        points=((1.0, 3.0),), excluded={"not finite": 1}, fits=(fit,), curve=band, projections=(one,),
        joint=JointReport("ok", "fine", ("r",), fit, band, 5.0, (one,)), doubts=("a",),
        flags=(Flag(FlagKind.NOT_FINITE, 3, "NaN", {"x": 1.0}),),
    )  # fmt: skip


def test_reports_survive_json():
    assert Report.from_json(whole_report().to_json()) == whole_report()


def test_reports_are_strict_json_and_readers_forgive_what_is_new():
    record = json.loads(whole_report().to_json())
    record["joint"]["new"] = record["new"] = 1
    record["flags"].append({"kind": "of a later version", "step": 1, "message": "?"})
    assert Report.from_json(json.dumps(record)) == whole_report()
    odd = Report("r", "m", "samples", 1, planned=math.inf, params=math.nan)
    assert json.loads(odd.to_json())["planned"] is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Expected a report, got something else"),
        ("[]", "Expected a report"),
        ("{}", "Expected a report"),
        ('{"version": 1}', "Expected a report"),
        ('{"version": "x"}', "Expected a report"),
        ('{"version": 99}', "has version 99, this foretrain reads up to 1: update"),
        ("[" * 100_000, "Expected a report"),
        (" " * (MAX_REPORT_BYTES + 1), "at most 262144 bytes, got 262145"),
    ],
)
def test_what_is_no_report_is_said_so(text, message):
    with pytest.raises(ReportError, match=message):
        Report.from_json(text)
