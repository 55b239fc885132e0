"""Studies of many runs at a glance: which runs are worth a look, and what the law of all ends says."""

from dataclasses import replace

import numpy as np
import pytest

from foretrain.reporting import overview
from foretrain.reporting.comparison import RunCurve
from foretrain.reporting.entering import CONSTANT, DECAYED
from foretrain.reporting.findings import Entering
from foretrain.reporting.overview import Glance, above_others, by_ends, evenly, worth_a_look
from foretrain.reporting.soundness import off_curve

SIZES = np.geomspace(1e6, 1e8, 8)
POINTS = 10


def law(n, d):
    return 1.7 + 400 * n**-0.34 + 410 * d**-0.28


def curve(run, n, last=1e9, *, share=1.0, times=1.0, decays=True, **more):
    """A run that has come to a share of its way, its rate linear to 0; midway its error is above its ends."""
    d = last * np.linspace(0.1, 1.0, POINTS)
    phases = 1.0 - 0.999 * d / last if decays else np.ones(POINTS)
    noise = np.random.default_rng(int(n + last)).normal(0, 0.002, POINTS)
    y = times * law(n, d) * np.exp(noise + 0.1 * phases)
    kept = d <= share * last * 1.001
    points = tuple(zip(d[kept].tolist(), y[kept].tolist(), strict=True))
    spans = {DECAYED: (last, last)} if share == 1.0 else {}
    enters = Entering(spans if decays else {CONSTANT: (points[0][0], points[-1][0])})
    told = {"phases": tuple(phases[kept].tolist()), "finished": share == 1.0, "entering": enters}
    return RunCurve(run, float(n), points, **told, **more)


def unknown(made):
    """The same run, its rates not recorded."""
    return replace(
        made, phases=(), entering=Entering({DECAYED: (made.points[-1][0],) * 2}, rates_unknown=True)
    )


def glance(made, *, planned=None, decays=True, **more):
    end = made.phases[-1] if made.finished else 0.001 if decays else 1.0
    return Glance(made, planned=planned, end=end, **more)


def finished(decays=True, **more):
    """Finished runs of all sizes, each on three amounts of data."""
    return {
        f"n{i}-{last:.0e}": glance(curve(f"n{i}-{last:.0e}", n, last, decays=decays, **more), decays=decays)
        for i, n in enumerate(SIZES)
        for last in (3e8, 1e9, 3e9)
    }


def test_the_ends_of_others_tell_where_a_run_ends():
    young = {
        f"young{i}": glance(curve(f"young{i}", n, 2e9, share=0.3), planned=2e9)
        for i, n in enumerate((2e6, 3e7, 1e8))
    }
    told = by_ends({**finished(), **young})
    for name, one in young.items():
        end, further = told[name]
        assert (end.name, end.kind, end.data) == ("planned end", "as planned", 2e9)
        assert (further.name, further.kind) == ("10x", "annealed") and further.data == pytest.approx(6e9)
        for projection in (end, further):
            truth = law(one.curve.params, projection.data)
            assert projection.median == pytest.approx(truth, rel=0.01)
            assert projection.lower["0.9"] < truth < projection.upper["0.9"]
            assert projection.upper["0.9"] / projection.lower["0.9"] < 1.15
    last = young["young0"].curve.points[-1][0]
    young["young0"] = replace(young["young0"], curve=replace(young["young0"].curve, points=((last, 99.0),)))
    assert by_ends({**finished(), **young})["young0"] == told["young0"], "its own points do not count"
    assert [one.name for one in told["n0-3e+08"]] == ["10x"], "a run that has ended has no end to come"


def test_the_intervals_hold_nine_ends_in_ten():
    chance, held = np.random.default_rng(0), []
    for _ in range(8):
        noise = chance.choice([0.002, 0.005, 0.01])
        n, d = np.round(10 ** chance.uniform(6, 9, 54)), 10 ** chance.uniform(8.5, 10, 54)
        y = law(n, d) * np.exp(chance.normal(0, noise, 54))
        runs = {}
        for i in range(54):
            run, ended = f"r{i}", Entering({DECAYED: (d[i], d[i])})
            half = (d[i] / 2, law(n[i], d[i] / 2) * 1.1)
            done = RunCurve(run, n[i], (half, (d[i], y[i])), phases=(0.5, 0.0), finished=True, entering=ended)
            under_way = RunCurve(run, n[i], (half,), phases=(0.5,), entering=Entering())
            runs[run] = Glance(done, end=0.0) if i < 40 else Glance(under_way, planned=d[i], end=0.0)
        told = by_ends(runs)
        ends = [told[f"r{i}"][0] for i in range(40, 54)]
        held += [end.lower["0.9"] <= y[i] <= end.upper["0.9"] for i, end in enumerate(ends, 40)]
    assert len(held) == 112 and 0.84 <= np.mean(held) <= 0.97


def test_constant_rates_and_unknown_ones_have_laws_of_their_own():
    constant = {
        f"c{name}": replace(g, curve=replace(g.curve, run=f"c{name}"))
        for name, g in finished(decays=False).items()
    }
    told = by_ends({**finished(), **constant})
    assert told["n3-1e+09"][0].median == pytest.approx(law(SIZES[3], 1e10), rel=0.02)
    assert told["cn3-1e+09"][0].median == pytest.approx(np.exp(0.1) * law(SIZES[3], 1e10), rel=0.02)
    assert told["cn3-1e+09"][0].kind == "not annealed"
    without = by_ends({name: Glance(unknown(g.curve)) for name, g in finished().items()})
    assert without["n3-1e+09"][0].kind == "schedule unknown"
    assert without["n3-1e+09"][0].median == pytest.approx(law(SIZES[3], 1e10), rel=0.02)


def test_of_unknown_rates_each_kind_of_scheduler_has_a_law_of_its_own():
    runs = {}
    for scheduler, times in (("CosineAnnealingLR", 1.0), ("StepLR", 1.2)):
        for name, g in finished(conventions={"schedule": scheduler}, times=times).items():
            whose = f"{scheduler} {name}"
            runs[whose] = Glance(unknown(replace(g.curve, run=whose)))
    told = by_ends(runs)
    for scheduler, times in (("CosineAnnealingLR", 1.0), ("StepLR", 1.2)):
        assert told[f"{scheduler} n3-1e+09"][0].median == pytest.approx(times * law(SIZES[3], 1e10), rel=0.02)


def test_a_run_that_is_off_is_no_end():
    runs = finished()
    runs["off"] = glance(curve("off", 1e7, times=2.0))
    expected = law(SIZES[3], 1e10)
    assert by_ends(runs)["n3-1e+09"][0].median > 1.01 * expected
    assert by_ends(runs, without={"off": 9.0})["n3-1e+09"][0].median == pytest.approx(expected, rel=0.005)


def test_too_few_sizes_and_other_conventions_tell_nothing():
    some = {name: g for name, g in finished().items() if g.curve.params in SIZES[:2]}
    assert by_ends(some) == {}
    other = glance(curve("other", 5e6, conventions={"params": "all"}))
    assert "other" not in by_ends({**finished(), "other": other})
    unsized = glance(replace(curve("unsized", 5e6), params=0.0))
    assert "unsized" not in by_ends({**finished(), "unsized": unsized})


def test_runs_above_the_others_are_those_that_each_by_itself_would_be_found():
    sound = [g.curve for g in finished().values()]
    curves = [*sound, curve("slow", 5e6, times=1.15), curve("broken", 2e7, times=1.4)]
    curves += [curve("midway", 3e7, share=0.5), curve("wrong midway", 3e7, 1.1e9, share=0.5, times=1.3)]
    found = above_others(curves)
    alone = {c.run for c in curves if off_curve(c, [other for other in sound if other is not c])}
    assert set(found) == alone == {"slow", "broken", "wrong midway"}
    assert found["broken"] > found["slow"] > 0
    once = curve("once", 5e6)
    once = replace(once, points=(*once.points[:-1], (once.points[-1][0], 1.3 * once.points[-1][1])))
    assert above_others([*sound, once]) == {}, "one bad validation is no run off the curve"
    assert above_others([c for c in curves if c.params in SIZES[:2]]) == {}
    alike = [replace(c, conventions={"params": "all"}) if c.run == "slow" else c for c in curves]
    assert "slow" not in above_others(alike)


def test_the_newest_the_flagged_and_the_best_are_worth_a_look(monkeypatch):
    monkeypatch.setattr(overview, "OF_EACH", 2)
    runs = {f"r{i}": glance(curve(f"r{i}", n), started=float(i)) for i, n in enumerate(SIZES)}
    runs["unknown"] = glance(curve("unknown", 1e6, 9e8))
    runs["nan"] = glance(curve("nan", 1.1e6), started=0.5, finite=False)
    runs["late"] = glance(curve("late", 1.2e6), started=99.0)
    runs["taken up"] = glance(replace(curve("taken up", 2e8, share=0.5)), started=100.0)
    runs["again"] = glance(curve("again", 2e6, past={"taken up": 4e8}), started=98.0)
    above = {"r1": 3.0, "r2": 9.0, "r3": 5.0}
    assert worth_a_look(runs, above) == {
        **{"r2": "flagged", "r6": "best", "r7": "best", "nan": "flagged"},
        **{"late": "newest", "again": "newest"},
    }
    assert worth_a_look({}, {}) == {}


def test_some_runs_are_taken_evenly_over_the_sizes_and_their_data():
    runs = finished()
    runs["young"] = glance(curve("young", 1e6, share=0.5))
    order = [f"n{i}-{last:.0e}" for i in range(8) for last in (3e8, 1e9, 3e9)]
    assert evenly(runs, 100) == order
    assert evenly(runs, 4) == [order[0], order[8], order[15], order[23]]
    assert evenly({"young": runs["young"]}, 4) == ["young"]
    assert evenly({}, 4) == []
