"""Scalars and sentences that keep a run's own course and a longer run's apart."""

from dataclasses import replace

import pytest

pytest.importorskip("lightning_utilities")

from foretrain.lightning.logging import STALE, anneals, flag_counts, say, scalar_names, scalars
from foretrain.report import NamedProjection, Report, ScheduleNote

INTERVAL = {"lower": {"0.9": 1.0}, "upper": {"0.9": 3.0}}
REPORT = Report(
    run="r",
    metric="val_loss",
    axis="tokens",
    step=5,
    status="ok",
    points=((1000.0, 2.5),),
    planned=4000.0,
    schedule=ScheduleNote("followed", end=20),
    projections=(
        NamedProjection("2x", None, 2000.0, 2.1, **INTERVAL, kind="as planned"),
        NamedProjection("10x", None, 10_000.0, 1.7, **INTERVAL, kind="annealed"),
        NamedProjection("planned end", None, 4000.0, 2.0, **INTERVAL, kind="as planned"),
        NamedProjection("5e+06", None, 5e6, 1.2, **INTERVAL, kind="annealed"),
    ),
)


def test_each_name_speaks_of_one_kind_of_projection():
    found = scalars(REPORT, [5e6], [])
    ends = ("", "_lower", "_upper")
    stems = ("projected_2x", "annealed_10x", "projected_end", "annealed_5e6_tokens")
    projected = {f"scaling/{stem}{end}" for stem in stems for end in ends}
    assert set(found) == projected | {*flag_counts(()), STALE, "scaling/tokens"}
    assert found["scaling/tokens"] == 1000.0
    assert [found[f"scaling/{stem}"] for stem in stems] == [2.1, 1.7, 2.0, 1.2]
    assert found["scaling/annealed_10x_lower"] == 1.0 and found["scaling/annealed_10x_upper"] == 3.0


@pytest.mark.parametrize("kind", ["", "not annealed", "schedule unknown"])
def test_without_a_schedule_the_names_are_as_ever(kind):
    level = tuple(replace(p, kind=kind) for p in REPORT.projections)
    found = scalars(replace(REPORT, projections=level), [5e6], [])
    assert not any("annealed" in name for name in found)
    assert found["scaling/projected_10x"] == 1.7 and found["scaling/projected_5e6_tokens"] == 1.2


def test_the_names_are_told_ahead():
    assert anneals(REPORT)
    assert not anneals(replace(REPORT, schedule=None))
    assert not anneals(replace(REPORT, schedule=ScheduleNote("constant")))
    names = scalar_names("tokens", [5e6], [7e9], planned=True, annealed=True)
    assert set(scalars(REPORT, [5e6], [7e9])) <= set(names)
    assert len(names) == len(set(names)) == 3 * (3 + 1 + 1 + 1 + 4) + 6
    plain = scalar_names("tokens", [5e6], [7e9], planned=True)
    assert [name for name in names if "annealed" not in name] == list(plain)


def test_the_last_sentence_tells_both():
    told = say(REPORT)
    assert told == (
        "val_loss of r is 2.5 at 1000 tokens; projected 2 (90 %: 1 to 3) at the planned end (4000 tokens), "
        "2.1 (90 %: 1 to 3) at 2x (2000 tokens) and 1.7 (90 %: 1 to 3) at 10x (10000 tokens, annealed)."
    )
    ended = replace(REPORT, points=((4000.0, 2.0),))
    assert "planned end" not in say(ended)
    level = replace(REPORT, projections=(replace(REPORT.projections[1], kind="not annealed"),))
    assert say(level).endswith("projected 1.7 (90 %: 1 to 3) at 10x (10000 tokens, not annealed).")
