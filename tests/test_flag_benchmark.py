"""The benchmark of flags: runs judged at once as `flag_run` judges one, simulated faults, rules of others."""

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest

import foretrain

BENCHMARKS = str(Path(__file__).parents[1] / "benchmarks")
sys.path.insert(0, BENCHMARKS)
try:
    import flags as benchmark
    import flags_families
    import flags_peers
    import flags_runs
    import flags_studies
    from flags_runs import FAULTS, Runs, Setting, simulate
finally:
    sys.path.remove(BENCHMARKS)

QUIET = Setting(100, "cosine", "power", 1e-9, 0.0)


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("fault", ["rate x10", "over-fitting", None])
def test_many_runs_at_once_are_judged_as_one(fault, known):
    runs = simulate(1, 6, Setting(60, "wsd", "broken", 0.005, 0.4, known=known), fault)
    found = flags_peers.foretrain_flags(runs)
    for row, y in enumerate(runs.y):
        told = foretrain.flag_run(runs.step, y, runs.lr)
        assert found[row] == (told[0].step if told else np.inf)
    assert np.isfinite(found).any() == (fault is not None)


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(FAULTS, 2)))
def test_faults_of_one_seed_differ_after_their_onset_and_not_before(one, other):
    ours, theirs = simulate(3, 8, QUIET, one), simulate(3, 8, QUIET, other)
    np.testing.assert_array_equal(ours.onset, theirs.onset)
    before = ours.step <= ours.onset[:, None]
    apart = np.abs(np.log(ours.y / theirs.y))
    assert apart[before].max() < 1e-7
    assert ((apart * ~before).max(axis=1) > 1e-3).all()
    assert ((ours.onset > 2900) & (ours.onset < 8100)).all()


def test_faults_change_the_error_as_they_say():
    def rise(fault):
        """Largest rise of ln y over its value at the onset, and that at the end, of each run."""
        runs = simulate(4, 40, Setting(200, "constant", "logarithmic", 1e-9, 0.0), fault)
        at = np.searchsorted(runs.step, runs.onset, side="right") - 1
        off = np.log(runs.y / runs.y[np.arange(40), at][:, None])
        off[runs.step <= runs.onset[:, None]] = 0.0
        return off.max(axis=1), off[:, -1], 1 - runs.onset / flags_runs.STEPS

    most, last, share = rise("over-fitting")
    assert (last < 1.5 * share).all() and np.median(last / share) > 0.5
    most, last, _ = rise("optimizer state lost")
    assert (most > 0.02).all() and (most < 0.25).all() and (last < 0.02).all()
    most, last, _ = rise("rate /10")
    assert (most < 1e-3).all() and (last < -0.02).all()
    # A gain of 3 to 12 % times nine is undone, log1p(0.27) to log1p(1.08).
    most, _, _ = rise("rate x10")
    assert (most > 0.15).all() and (most < 0.74).all()


def test_rules_of_others_do_what_they_say():
    y = np.r_[np.linspace(2, 1, 40), np.full(20, 1.5)][None] + 1e-3 * np.random.default_rng(0).normal(size=60)
    runs = Runs(np.arange(1, 61), y, None, np.array([40.0]))
    assert flags_peers.early_stopping(3)(runs) == [43]
    assert flags_peers.early_stopping(10)(runs) == [50]
    level = np.r_[1 + 1e-3 * np.random.default_rng(1).normal(size=40), np.full(20, 1.1)]
    flat = Runs(runs.step, level[None], None, runs.onset)
    assert flags_peers.spike_detector(flat) == [41]
    assert flags_peers.z_score(flat) <= [41]


def test_what_counts_as_found():
    runs = Runs(np.arange(1, 3), np.ones((4, 2)), None, np.array([5000.0, 5000, 5000, 5000]))
    soon, delay = benchmark.found_in(runs, np.array([5500.0, 7000, 4000, np.inf]))
    assert soon.tolist() == [True, False, False, False]
    assert delay.tolist() == [0.05, 0.2, np.inf, np.inf]


def test_shares_have_the_interval_of_clopper_and_pearson():
    assert benchmark.interval(0, 100) == "0.00 (0.00 to 3.62)"  # 1 - 0.025 ** (1 / 100)
    assert benchmark.interval(50, 100) == "50.00 (39.83 to 60.17)"  # published tables


def test_published_curves_raise_next_to_no_flags(published_curves):
    curves = benchmark.well_behaved(published_curves)
    some = list(curves.values())[::8]
    assert len(some) > 60
    assert sum(bool(foretrain.flag_run(*curve)) for curve in some) <= 3


@pytest.mark.parametrize("form", flags_studies.FORMS)
def test_larger_models_and_more_data_lower_the_error_of_every_form(form):
    law = flags_studies.Family(0.35, 0.35, 1.0, 1.0, 1.0)
    data = np.geomspace(1, 30, 20)
    errors = np.array([flags_studies.FORMS[form](law, size, data) for size in (1.0, 4.0, 64.0)])
    assert (np.diff(errors, axis=0) < 0).all() and (np.diff(errors, axis=1) < 0).all()
    assert errors.min() > 0


def test_wrong_rates_differ_from_the_good_run_by_what_they_say():
    study = flags_studies.draw_study(np.random.default_rng(3), 1)
    assert len(study.runs) >= 4 and len(study.sizes_before(list(study.runs)[3])) == 3

    def values(run):
        return np.array([o.value for o in run.observations])

    for name, run in study.runs.items():
        raised = study.wrong["5 times, 10 % above"][name]
        np.testing.assert_allclose(values(raised) / values(run), np.exp(0.1))
        assert raised.schedule.peak == pytest.approx(5 * run.schedule.peak)
        slow = values(study.wrong["a fifth"][name]) / values(run)
        assert (slow > 1.01).all() and slow[0] > slow[-1]


def test_published_points_are_validations_of_their_size(published_curves):
    points = np.array([[1e6, 1e6, 1e6, 4e6], [1e9, 2e9, 4e9, 8e9], [3.0, 2.9, 2.8, 2.5]])
    run = flags_families.run_of(points, 1e6)
    assert run["step"].tolist() == [12_500, 25_000, 50_000] and run["y"].tolist() == [3.0, 2.9, 2.8]
    sets = flags_families.families(published_curves)
    assert {name for name, _ in sets} == {"gadre2024", "porian2024"}
    runs = flags_families.runs_of(sets[0][1])
    assert min(run["y"].size for run in runs) == flags_families.FEWEST
    own = runs.pop(len(runs) // 2)
    assert flags_families.above(own, runs, 0.0) == (False, False)
    assert flags_families.above(own, runs, 0.1) == (True, True)
