"""Hestness's method: the best model of each shard, both laws, and what a target needs."""

import numpy as np
import pytest
from scipy.stats import linregress, t

from foretrain.axes import Counts
from foretrain.hestness import (
    REFERENCE_EXPONENTS,
    Growth,
    HestnessStudy,
    Runs,
    SizeLaw,
    alike,
    analyze_study,
    fit_size_law,
    measure_speed,
)
from foretrain.hestness.law import Estimate, fit_error_law
from foretrain.hestness.runs import BestModel, best_models, read_runs
from foretrain.hestness.target import project_target, required_data
from foretrain.observation import Observation, RunInfo, RunRecord

DATA = 1000.0 * 2.0 ** np.arange(6)


# The law of the error


def test_without_a_floor_it_is_the_regression_of_hestness():
    error = 9.0 * DATA**-0.3 * np.exp(np.random.default_rng(0).normal(0, 0.02, 6))
    law = fit_error_law(DATA[::-1], error[::-1])
    reference = linregress(np.log(DATA), np.log(error))
    assert law.exponent == pytest.approx(-reference.slope, rel=1e-6)
    assert law.exponent_std == pytest.approx(reference.stderr, rel=1e-4)
    assert law.coefficient == pytest.approx(np.exp(reference.intercept), rel=1e-5)
    fitted = np.exp(reference.intercept) * DATA**reference.slope
    assert law.misfit == pytest.approx(np.sqrt(np.mean((fitted / error - 1) ** 2)), rel=1e-4)
    bare = law.draws[law.draws[:, 0] == 0]
    assert 0.2 < len(bare) / len(law.draws) < 1
    low, high = np.quantile(bare[:, 2], [0.05, 0.95])
    half = t.ppf(0.95, 4) * reference.stderr
    assert (low, high) == pytest.approx((-reference.slope - half, -reference.slope + half), abs=0.12 * half)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_exact_law_is_found_and_continued(share):
    floor = share * DATA[-1] ** -0.4 * 20
    law = fit_error_law(DATA, floor + 20 * DATA**-0.4)
    assert law.parameter("alpha").median == pytest.approx(0.4, abs=0.02)
    assert law.parameter("E").median == pytest.approx(floor, abs=0.02 * 20 * DATA[-1] ** -0.4)
    far = law.predict(10 * DATA[-1])
    assert far.median == pytest.approx(floor + 20 * (10 * DATA[-1]) ** -0.4, rel=0.03)
    assert law.floor_is_told == (share > 0)


@pytest.mark.parametrize("shares", [(0.0, 0.3), (0.3, 0.6)])
def test_intervals_hold_what_comes_as_often_as_they_say(shares):
    rng, hits, trials = np.random.default_rng(4), np.zeros(3), 0
    for shards in (4, 6):
        for share in shares:
            for _ in range(25):
                x = DATA[:shards]
                exponent = rng.uniform(0.15, 0.5)

                def truth(m, x=x, exponent=exponent, share=share):
                    return share / (1 - share) + (m / x[-1]) ** -exponent

                noise = rng.normal(0, 0.04, shards + 1)
                law = fit_error_law(x, truth(x) * np.exp(noise[:-1]))
                far = 4 * x[-1]
                found = (law.predict(far), law.parameter("alpha"), Estimate.of(law.data_for(truth(far)), 0.9))
                came = (truth(far) * np.exp(noise[-1]), exponent, far)
                hits += [told.lower <= value <= told.upper for told, value in zip(found, came, strict=True)]
                trials += 1
    # 100 trials of probability 0.9: 0.82 to 0.96 in 99 of 100.
    assert (hits / trials >= 0.8).all() and (hits / trials <= 0.99).all(), hits / trials


def test_the_inverse_of_the_law_is_its_inverse():
    law = fit_error_law(DATA, 3.0 * DATA**-0.2 + 0.1)
    needed = law.data_for(0.5)
    floor, a, alpha = law.draws.T
    with np.errstate(over="ignore"):
        back = floor + a * needed**-alpha
    assert np.allclose(back[np.isfinite(needed)], 0.5)
    assert np.isinf(law.data_for(floor.max() * 0.5 + floor.min() * 0.5)).any()
    assert law.predict(1e4, 0.5).upper < law.predict(1e4, 0.9).upper


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([1, 2, 4], [3, 2, 1], "at least 4 shards of different sizes, one error each, got 3 sizes in 3"),
        ([1, 2, 4, 4], [3, 2, 1, 1], "got 3 sizes in 4 errors: train on more shards"),
        ([1, 2, 4, 8], [3, 2, 1, 0], "`error` to hold positive, finite numbers, got 0.0"),
        ([1, 2, 4, 8], [3, 2, 1], "the same length"),
    ],
)
def test_the_law_refuses_with_the_remedy(data, error, message):
    with pytest.raises(ValueError, match=message):
        fit_error_law(data, error)


# The best model of each shard


def cells(*rows):
    """Runs from (data, params, errors of the seeds)."""
    flat = [(d, p, e) for d, p, errors in rows for e in errors]
    return np.array(flat, dtype=float).T


def test_of_the_seeds_the_median_counts_and_the_lowest_median_is_the_error():
    runs = cells((100, 10, [0.5, 0.1, 0.6]), (100, 20, [0.4, 0.41, 0.9]), (100, 40, [0.7, 0.8, 0.75]))
    (best,) = best_models(*runs)
    assert best.error == pytest.approx(0.41) and (best.data, best.sizes, best.seeds) == (100, 3, 3)


def test_the_size_is_that_of_the_smallest_model_as_good_as_the_best():
    log_errors = {10: -0.5, 20: -0.97, 40: -1.0, 80: -0.99}
    shift = np.array([-0.05, 0.0, 0.05])
    runs = cells(*((100, p, np.exp(mean + shift)) for p, mean in log_errors.items()))
    # One standard error of the median of three is 0.05 sqrt(pi / 2 / 3) = 0.036: 20 is within it, 10 is not.
    (best,) = best_models(*runs)
    assert best.params == 20 and best.bound == ""
    (sharper,) = best_models(*cells(*((100, p, np.exp(m + shift / 2)) for p, m in log_errors.items())))
    assert sharper.params == 40
    assert best.log_params_std >= np.log(8) / 3 / 3 * 0.999


@pytest.mark.parametrize(("means", "bound"), [([-1, -0.5, -0.2], "smallest"), ([-0.2, -0.5, -1], "largest")])
def test_a_best_model_at_an_end_is_told(means, bound):
    runs = cells(
        *((100, p, np.exp(m + np.array([-0.01, 0, 0.01]))) for p, m in zip((10, 20, 40), means, strict=True))
    )
    (best,) = best_models(*runs)
    assert best.bound == bound


def test_single_seeds_are_as_unsure_as_all_cells_together():
    (sure, unsure), (alone,) = (
        best_models(*cells((100, 10, [0.5]), (100, 20, [0.48]), *more))
        for more in (((200, 10, [0.5, 0.8]), (200, 20, [0.4, 0.7])), ())
    )
    assert alone.params == 20 and alone.seeds == 1  # no spread is known, so the lowest counts
    assert sure.params == 10 and unsure.seeds == 2
    assert alone.log_params_std == pytest.approx(np.log(2) / 3)


# Runs from records


def record(
    name,
    *,
    value=0.5,
    data=100,
    params=10,
    state="finished",
    conventions=None,
    seconds=2.0,
    metric="val_loss",
):
    """A run of three validations whose lowest error is in the middle, at one pass over the data."""
    info = RunInfo(run=name, conventions=conventions or {"params": "trainable", "schedule": name})
    values = (value + 0.2, value, value + 0.1)
    observations = tuple(
        Observation(
            name,
            metric,
            v,
            Counts(samples=data * (i + 1) // 2, steps=i + 1, unique_samples=data, params=params),
            time=1e9 + seconds * i,
        )
        for i, v in enumerate(values)
    )
    return name, RunRecord(info, observations, state)


def test_a_run_is_its_lowest_error_its_data_its_size_and_its_time():
    table = read_runs(dict([record("a"), record("b", value=0.3, data=200, params=40)]), "val_loss")
    assert table.data.tolist() == [100, 200] and table.params.tolist() == [10, 40]
    assert table.error.tolist() == [0.5, 0.3] and table.passes.tolist() == [1.0, 1.0]
    assert table.seconds == pytest.approx([4.0 / 100, 4.0 / 200])
    assert table.excluded == {}


def test_what_is_left_out_is_left_out_with_its_reason():
    runs = [
        *(record(f"good {i}") for i in range(3)),
        record("half", state="failed"),
        record("other", metric="val_acc"),
        record("zero", value=0.0),
        record("sizeless", params=None),
        record("counted", conventions={"params": "model_size", "schedule": "x"}),
    ]
    table = read_runs(dict(runs), "val_loss")
    assert table.data.size == 3
    assert table.excluded == {
        "half": "not finished (failed)",
        "other": "no finite val_loss",
        "zero": "val_loss is not positive: it has no logarithm",
        "sizeless": "parameters are not counted",
        "counted": "counted by other conventions (params) than most runs",
    }


def test_a_study_without_runs_says_why():
    study = analyze_study(dict([record("half", state="running")]))
    assert study.law is None and study.doubts == ("There is no run to learn from: not finished (running).",)
    assert analyze_study({}).doubts == ("There is no run to learn from: the study is empty.",)
    with pytest.raises(
        ValueError, match=r"a study that tells how the error falls with data\. There is no run"
    ):
        project_target(study, 0.1)


# The growth of the size


def bests(data, params, std=0.2, bound=""):
    return tuple(
        BestModel(float(d), 0.5, float(p), std, bound, 5, 3) for d, p in zip(data, params, strict=True)
    )


def test_the_growth_is_the_regression_with_students_interval():
    params = 2.0 * DATA**0.7 * np.exp(np.random.default_rng(1).normal(0, 0.3, 6))
    law = fit_size_law(bests(DATA, params, std=0.01))
    reference = linregress(np.log(DATA), np.log(params))
    assert law.exponent.median == pytest.approx(reference.slope)
    half = t.ppf(0.95, 4) * reference.stderr
    assert (law.exponent.lower, law.exponent.upper) == pytest.approx(
        (reference.slope - half, reference.slope + half)
    )
    drawn = np.log(law.draws(np.full(40_000, 8 * DATA[-1])))
    x = np.log(8 * DATA[-1]) - np.log(DATA).mean()
    width = np.sqrt(reference.stderr**2 * (x**2 + (np.log(DATA) - np.log(DATA).mean()).var()))
    middle = reference.intercept + reference.slope * np.log(8 * DATA[-1])
    low, high = middle + np.array([-1, 1]) * t.ppf(0.95, 4) * width
    assert np.quantile(drawn, [0.05, 0.95]) == pytest.approx([low, high], abs=0.03 * (high - low))


def test_what_the_seeds_leave_open_is_in_the_growths_interval():
    exact = 2.0 * DATA**0.7
    narrow, wide = (fit_size_law(bests(DATA, exact, std=s)) for s in (0.1, 0.4))
    assert wide.exponent.upper - 0.7 == pytest.approx(4 * (narrow.exponent.upper - 0.7))
    across = np.log(DATA) - np.log(DATA).mean()
    assert narrow.growth.exponent_std == pytest.approx(0.1 / np.sqrt((across**2).sum()))


def test_sizes_at_an_end_do_not_tell_a_growth():
    assert fit_size_law(bests(DATA[:2], DATA[:2]) + bests(DATA[2:], DATA[2:], bound="largest")) is None
    assert (
        fit_size_law(bests(DATA[:3], DATA[:3]) + bests(DATA[3:], DATA[3:] * 0 + 7, bound="largest")).data.size
        == 3
    )


# The whole study


def simulated(exponent=0.35, growth=0.6, seeds=3, noise=0.02, floor=0.0, sizes=None):
    """Runs whose best size grows by a known law, and whose error at it falls by a known one."""
    rng = np.random.default_rng(7)
    sizes = 2.0 ** np.arange(4, 15) if sizes is None else sizes
    rows = []
    for m in DATA:
        for p in sizes:
            away = np.log(p / (0.5 * m**growth))
            error = floor + 10 * m**-exponent * (1 + 0.3 * away**2)
            rows += [(m, p, error * np.exp(rng.normal(0, noise))) for _ in range(seeds)]
    data, params, error = np.array(rows).T
    return Runs(data, params, error, 1e-4 + 1e-8 * params, np.full(data.size, 5.0), {})


def test_both_laws_are_found_in_a_study_and_half_the_error_is_priced():
    study = analyze_study(simulated(), guess=np.log(10))
    told = study.law.parameter("alpha")
    assert told.lower < 0.35 < told.upper and told.upper - told.lower < 0.2
    assert study.growth.exponent.lower < 0.6 < study.growth.exponent.upper
    assert not study.next_runs and study.passes == 5.0
    assert study.speed.overhead == pytest.approx(1e-4) and study.speed.per_param == pytest.approx(1e-8)
    goal = 10 * (3 * DATA[-1]) ** -0.35
    target = project_target(study, goal)
    assert target.data.lower < 3 * DATA[-1] < target.data.upper
    assert target.data_scale.median == pytest.approx(target.data.median / DATA[-1])
    right = 0.5 * (3 * DATA[-1]) ** 0.6
    assert target.params.lower < right < target.params.upper
    assert target.seconds.lower < 5 * 3 * DATA[-1] * (1e-4 + 1e-8 * right) < target.seconds.upper
    assert target.told == bool(np.isfinite(target.data.upper))


def test_a_target_below_the_floor_cannot_be_told():
    study = analyze_study(simulated(floor=0.5, noise=0.002))
    assert study.law.floor_is_told
    target = project_target(study, 0.2)  # the truth is 0.5, its 90% interval begins at 0.26
    assert not target.told and target.reachable < 0.05 and target.data.lower == np.inf
    assert target.seconds.upper == np.inf and target.params.upper == np.inf
    assert "Whether data alone reach 0.2 cannot be told" in target.doubts[0]


def test_what_cannot_be_told_comes_with_what_to_run_next():
    study = analyze_study(simulated(sizes=np.array([16.0, 32.0])))
    assert study.growth is None
    assert any("needs 3 shards whose best model lies between" in doubt for doubt in study.doubts)
    assert {(run.params, run.data) for run in study.next_runs} == {(64.0, m) for m in DATA}
    few = simulated()
    kept = few.data <= DATA[2]
    few = Runs(*(getattr(few, n)[kept] for n in ("data", "params", "error", "seconds", "passes")), {})
    study = analyze_study(few)
    assert study.law is None and "needs 4 shards above guessing, there are 3" in study.doubts[0]
    assert study.next_runs[-1].data == 2 * DATA[2]


def test_shards_that_ran_out_of_sizes_put_the_growth_in_doubt():
    study = analyze_study(simulated(sizes=2.0 ** np.arange(4, 9)))
    assert study.growth is not None and [b.bound for b in study.best].count("largest") > 0
    assert any("left out of the growth of the model's size" in doubt for doubt in study.doubts)
    assert not any("left out of the growth" in doubt for doubt in analyze_study(simulated()).doubts)


def test_shards_at_the_error_of_guessing_are_left_out():
    runs = simulated()
    guessing = runs.data == DATA[0]
    error = np.where(guessing, 0.95, runs.error)
    study = analyze_study(Runs(runs.data, runs.params, error, runs.seconds, runs.passes, {}), guess=1.0)
    assert study.law.data.tolist() == DATA[1:].tolist() and len(study.best) == 6
    assert study.doubts[0] == "1 shards are still at the error of guessing and left out."
    with pytest.raises(ValueError, match="`guess` to be a positive error, got -1"):
        analyze_study(runs, guess=-1)


def test_speed_is_what_runs_of_two_sizes_say():
    speed = measure_speed([100.0, 1e6], [1e-4, 1.1e-3])
    assert speed.seconds(np.array([100.0, 1e6, 2e6])) == pytest.approx([1e-4, 1.1e-3, 2.1e-3], rel=1e-3)
    flat = measure_speed([100.0, 1e4], [2e-4, 1e-4])
    assert flat.per_param == 0 and flat.spread == pytest.approx(np.log(2) / 2)
    study = analyze_study(simulated())
    slow = HestnessStudy(**{**study.__dict__, "speed": flat})
    assert "too small for their size to show" in project_target(slow, 0.1).doubts[-1]


# What was published


@pytest.mark.parametrize(
    ("error", "coefficient", "exponent", "current", "scale", "off"),
    [
        (2.48, 13.0, 0.066, 768e6, 100, 0.05),  # word language model
        (0.12, 3.06, 0.128, 130e6, 750, 0.01),  # machine translation
        (0.05, 15.0, 0.309, 1.3e6, 81, 0.02),  # image classification
    ],
)
def test_the_published_needs_come_of_the_published_laws(error, coefficient, exponent, current, scale, off):
    # Table 1 of Hestness et al. 2019; its other two rows cannot be had from the rounded constants it prints.
    assert required_data(error, coefficient, exponent) / current == pytest.approx(scale, rel=off)


@pytest.mark.parametrize(
    ("scale", "exponent", "model"),
    [(100, 0.68, 23), (971, 0.89, 456), (750, 0.68, 90), (33, 0.54, 6.6), (81, 0.57, 12)],
)
def test_the_published_model_scales_come_of_the_published_growth(scale, exponent, model):
    law = SizeLaw(Growth(exponent, 2.0, 1.0, 0.0, 0.0), DATA, Estimate(exponent, exponent, exponent), 0.0)
    small, large = law.draws(np.array([1e6, scale * 1e6]))
    assert large / small == pytest.approx(model, rel=0.03)


def test_a_study_of_the_published_image_law_gives_its_closed_form():
    data = 1.3e6 / 2.0 ** np.arange(8)
    law = fit_error_law(data, 15.0 * data**-0.309)
    study = HestnessStudy((), law, None, None, float("nan"), (), (), {})
    target = project_target(study, 0.05)
    assert target.data.median == pytest.approx(required_data(0.05, 15.0, 0.309), rel=0.01)
    assert target.data_scale.median == pytest.approx(81, rel=0.02)
    assert target.params is None and target.seconds is None


def test_reference_exponents_are_looked_up_by_interval():
    assert {known.domain for known in alike(0.29, 0.32)} == {"image classification", "speech recognition"}
    assert {known.error for known in REFERENCE_EXPONENTS} == {
        *(0.128, 0.0656, 0.0936, 0.0954, 0.309, 0.488, 0.350, 0.299),
    }
    assert alike(0.6, 0.7) == ()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda study: project_target(study, -1), "a target error that is positive and finite, got -1"),
        (
            lambda study: project_target(study, 0.1, level=1.0),
            "`level` between 0 and 1, such as 0.9, got 1.0",
        ),
        (lambda study: required_data(0.1, 0, 0.3), "got error 0.1, coefficient 0, exponent 0.3"),
        (lambda study: measure_speed([1], [0]), "`seconds` to hold positive"),
        (lambda study: best_models([1], [1], [1, 2]), "the same length"),
    ],
)
def test_targets_refuse_with_the_remedy(call, message):
    with pytest.raises(ValueError, match=message):
        call(analyze_study(simulated()))
