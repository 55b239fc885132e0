"""The benchmark of learning-rate schedules: how rates are rebuilt, who may lend, how forecasts are scored."""

import csv
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import schedule_curves
    import schedule_peers
    import schedules
finally:
    sys.path.remove(BENCHMARKS)


def made(schedule, total, group="25M", metric="loss", **kwargs):
    lr = schedule_curves.as_trained("cosine_24000")[:total] if kwargs.get("cosine") else np.full(total, 3e-4)
    step = np.arange(2200, total + 1, 100)
    y = 2.9 + 0.6 * np.cumsum(lr)[step - 1] ** -0.5 - 440 * (3e-4 - lr[step - 1])
    rest = {"name": schedule, "n_params": 25e6, "warmup": 2160, "cosine": False} | kwargs
    return schedule_curves.Run(group=group, metric=metric, schedule=schedule, step=step, y=y, lr=lr, **rest)


def test_rates_lie_on_lines_between_records_and_hold_after_a_jump():
    step, lr = np.array([2, 10, 12, 16, 20, 22]), np.array([0.5, 1.0, 0.9, 0.7, 0.2, 0.1])
    found = schedule_curves.rate_of_every_step(step, lr, warmup=4, peak=1.0)
    assert found[:4].tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found[4:10].tolist() == [1.0] * 6
    np.testing.assert_allclose(found[10:16], [0.95, 0.9, 0.85, 0.8, 0.75, 0.7])
    assert found[16:20].tolist() == [0.2] * 4  # it fell by more than a quarter: held at the later rate
    assert found[20:].tolist() == [0.1] * 2
    assert found.size == 22


def test_the_warm_up_is_told_by_the_run_recorded_soonest():
    runs = [(np.array([50, 100]), np.array([0.125, 0.25])), (np.array([1000, 2000]), np.array([0.999, 0.99]))]
    assert schedule_curves.warmup_of(runs, peak=1.0) == 400


def test_a_run_borrows_from_its_group_and_metric_and_never_from_itself():
    run = made("a", 4000)
    others = [
        replace(run, name="a-rerun"),
        made("b", 5000),
        made("c", 5000, lent=False),
        made("d", 5000, group="100M"),
        made("e", 5000, metric="pile"),
        made("f", 4000),
    ]
    assert [other.name for other in schedule_curves.library(run, [run, *others])] == ["b", "f"]


def test_what_is_seen_is_the_first_share_of_the_steps():
    run = made("a", 4000)
    assert run.step[run.until(0.6)].tolist() == [2200, 2300, 2400]


def test_published_rates_are_those_of_the_formulas(published_curves):
    runs = schedule_curves.multipowerlaw(published_curves)
    assert len(runs) == 18
    with (published_curves / "multipowerlaw" / "loss_curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    for run in runs:
        formula = schedule_curves.as_trained(run.schedule)
        told = [row for row in rows if (f"{row['model_M']}M", row["schedule"]) == (run.group, run.name)]
        at = np.array([int(float(row["step"])) for row in told])
        np.testing.assert_allclose(formula[at - 1], [float(row["lr"]) for row in told], rtol=1e-9)
        off = np.abs(run.lr - formula[: run.lr.size]) / 3e-4
        assert off[at - 1].max() < 1e-12
        jump = slice(0, None) if "wsdcon" not in run.name else np.r_[0:7936, 8064 : run.lr.size]
        assert off[jump].max() < 0.03
    by_name = {run.name: run for run in runs if run.group == "25M"}
    assert {name for name, run in by_name.items() if not run.lent} == {"cosine_72000"}
    assert len(schedule_curves.library(by_name["cosine_72000"], runs)) == 8
    assert len(schedule_curves.library(by_name["wsdcon_3"], runs)) == 7


def test_the_ladders_rates_are_cosines_with_the_warm_up_of_their_size(published_curves):
    runs = schedule_curves.olmo_ladder(published_curves)
    assert len(runs) == 12 * 11
    for run in runs[::11]:
        peak, total = run.lr.max(), run.lr.size
        assert run.warmup == {"190M": 363, "370M": 472}[run.group]
        done = np.clip((np.arange(1, total + 1) - run.warmup) / (total - run.warmup), 0, None)
        cosine = peak * np.where(
            done > 0, 0.55 + 0.45 * np.cos(np.pi * done), np.arange(1, total + 1) / run.warmup
        )
        assert np.abs(run.lr - cosine).max() < 4e-3 * peak
    rerun = next(run for run in runs if run.name == "190M-1xC-rerun")
    names = [other.name for other in schedule_curves.library(rerun, runs)]
    assert names == ["190M-0.5xC", "190M-10xC", "190M-2xC", "190M-5xC"]


def test_a_folder_without_the_sets_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit, match="at least one of multipowerlaw, olmo_ladder in"):
        schedule_curves.load(tmp_path)
    assert "no olmo_ladder in" in capsys.readouterr().out


def test_the_momentum_law_with_a_lent_coefficient_ends_where_the_law_does():
    lender = made("cosine", 23900, cosine=True)
    run = made("other", 20000, cosine=True)
    seen = run.until(0.4)
    lent = schedule_peers.annealing(run, seen, lender, memory=0.0).median
    alone = schedule_peers.power_law(run, seen, ()).median
    assert lent == pytest.approx(run.y[-1], rel=1e-4)
    assert abs(alone - run.y[-1]) > 10 * abs(lent - run.y[-1])


def test_methods_that_lack_a_library_say_so():
    run = made("a", 6000)
    assert schedule_peers.momentum_lent(run, run.until(0.8), [made("b", 6000)]) is None
    assert schedule_peers.MultiPower({}, level=False)(run, run.until(0.8), [made("b", 6000)] * 2) is None


def told(median, low, high):
    return schedule_peers.Told(median, {0.9: (low, high)})


def test_scores_by_hand():
    run = made("a", 6000)
    cases = [
        schedules.Case(run, 0.5, 2.0, 2.1, {"m": told(2.02, 1.9, 2.2), "n": told(2.2, 1, 3)}, {}),
        schedules.Case(run, 0.5, 4.0, 4.1, {"m": told(3.8, 3.7, 3.9)}, {}),
    ]
    assert schedules.errors("m", cases) == pytest.approx([1.0, -5.0])
    assert (schedules.worse("m", cases), schedules.worse("n", cases)) == (1, 1)
    inside, width = schedules.covered("m", cases, 0.9)
    assert inside == 0.5
    assert width == pytest.approx([np.log(2.2 / 1.9), np.log(3.9 / 3.7)])
    assert np.isnan(schedules.covered("m", cases, 0.8)[0])
