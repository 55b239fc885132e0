"""Flags of a run of a size that its study has not trained yet: against the joint law of the other sizes."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import lfilter
from scipy.stats import t as student

import foretrain
from foretrain.flagging.family import GAIN, Curve, Family
from foretrain.flagging.replay import BESIDE_SHARE, FAMILY_SHARE
from foretrain.flagging.sizes import MOST_RUNS, SPENT, Sizes, usable
from foretrain.flags import FlagKind
from foretrain.run_flags import FlagBook, validations
from foretrain.runs.annealing import RatePath
from foretrain.schedule import Schedule
from test_run_analysis import record

STEP = np.arange(100, 10_001, 100)
FLAT = np.minimum(np.arange(1, 10_001) / 200, 1.0)
COSINE = FLAT * (0.55 + 0.45 * np.cos(np.pi * np.arange(10_000) / 10_000))
SIZES = 1e6 * 2.0 ** np.arange(4)
NEW = 1.6e7


def truth(size, lr=FLAT, step=STEP):
    """The joint law in the training done, less what annealing gains where it shows at once."""
    done = np.cumsum(lr)[step - 1] / 10_000
    return (1.2 + 1.0 * (size / 1e6) ** -0.35 + 0.5 * done**-0.4) * np.exp(-GAIN * (1 - lr[step - 1]))


def trained(size, seed, lr=FLAT, above=0.0, step=STEP, sd=0.003):
    """A run that lies off the law by .5 %, as seeds do, with noise whose neighbours correlate."""
    rng = np.random.default_rng(seed)
    noise = sd * lfilter([0.8], [1, -0.6], rng.normal(size=step.size + 50))[50:]
    return truth(size, lr, step) * np.exp(0.005 * rng.normal() + noise + above)


def earlier(sizes=SIZES, lr=FLAT, rate=1e-3):
    return [
        {"step": STEP, "y": trained(n, k, lr), "lr": rate * lr, "n_params": n} for k, n in enumerate(sizes)
    ]


def told(y, library, lr=FLAT, rate=1e-3, step=STEP, **how):
    return foretrain.flag_run(step, y, rate * lr, library, **{"n_params": NEW, **how})


@pytest.mark.parametrize("lr", [FLAT, COSINE], ids=["constant", "cosine"])
def test_a_wrong_rate_at_a_new_size_is_flagged_before_a_quarter_though_its_own_curve_is_smooth(lr):
    y = trained(NEW, 50, lr, above=0.12)
    (flag,) = told(y, earlier(lr=lr), lr, rate=5e-3)
    assert flag.kind is FlagKind.ABOVE_FAMILY and flag.step <= 2500
    at = int(flag.step / 100) - 1
    assert flag.evidence["value"] == pytest.approx(y[at])
    assert flag.evidence["expected"] == pytest.approx(truth(NEW, lr)[at], rel=0.03)
    assert flag.evidence["deviation"] == pytest.approx(0.12, abs=0.03)
    assert (flag.evidence["runs"], flag.evidence["sizes"]) == (4, 4)
    assert "above what 4 earlier runs of 4 sizes predict for a run of this size" in flag.message
    assert f"({flag.evidence['expected']:.4g}): {flag.evidence['score']:.1f} standard dev" in flag.message
    assert flag.message.endswith("Its largest learning rate is 5 times theirs.")
    assert told(y, earlier(lr=lr), lr, rate=5e-3, n_params=None) == ()  # of sizes that are not known


def test_healthy_runs_of_a_new_size_are_quiet():
    library = earlier()
    assert not any(told(trained(NEW, 100 + seed), library) for seed in range(4))
    between = 10**6.5
    library = earlier(10 ** np.linspace(6, 7, 4))
    assert not any(told(trained(between, seed), library, n_params=between) for seed in range(4))


def test_a_fifth_of_the_good_rate_does_a_fifth_of_the_training():
    slow = truth(NEW, 0.2 * FLAT) * trained(NEW, 51) / truth(NEW)
    (flag,) = told(slow, earlier(), rate=2e-4)
    assert flag.step <= 2500 and flag.message.endswith("Its largest learning rate is 0.2 times theirs.")


def test_rates_that_fall_with_size_are_no_cause():
    """A rate in proportion to the root of size: the run's, five times that of the trend, or on it."""
    library = [{**one, "lr": FLAT * 1e-3 * (one["n_params"] / 1e6) ** -0.5} for one in earlier()]
    for factor, said in ((5.0, "is 5 times theirs"), (1.0, "Look at its learning rate, its data")):
        (flag,) = told(trained(NEW, 52, above=0.15), library, rate=factor * 1e-3 * 16**-0.5)
        assert said in flag.message
        assert flag.evidence["rate_ratio"] == pytest.approx(factor)


def test_the_offset_is_one_draw_so_the_limit_does_not_grow_with_validations():
    """Student's t in standard deviations of the joint law's, which is of five degrees."""
    limits = []
    for every in (20, 400):
        step = np.arange(every, 10_001, every)
        (flag,) = told(trained(NEW, 53, above=0.3, step=step), earlier(), step=step)
        limits.append(flag.evidence["limit"])
    expected = student.isf(SPENT * BESIDE_SHARE * 0.01, 4) / student(5).std()
    assert limits == pytest.approx([expected, expected])
    law = Sizes(usable(curves([*SIZES, 32e6]), of(truth(NEW), NEW)), of(truth(NEW), NEW), 0.01)
    assert law.told.limit == pytest.approx(student.isf(SPENT * 0.01, 5) / student(5).std())


def test_where_earlier_runs_have_its_size_the_law_has_half_of_what_is_spent_on_the_level():
    again = [{"step": STEP, "y": trained(NEW, 60 + k), "lr": 1e-3 * FLAT, "n_params": NEW} for k in range(2)]
    flags = told(trained(NEW, 53, above=0.09), [*earlier(), *again])
    (flag,) = [flag for flag in flags if "sizes" in flag.evidence]
    expected = student.isf(SPENT * 0.5 * FAMILY_SHARE * 0.01, 5) / student(5).std()
    assert flag.evidence["limit"] == pytest.approx(expected) and flag.evidence["sizes"] == 5


def test_the_law_is_as_sure_as_its_sizes_bear_out():
    """Of families whose runs differ by 1 %: scores of healthy runs that have done half of their training."""
    scores = []
    for family in range(15):
        levels = np.random.default_rng(family).normal(0.0, 0.01, 6)
        sizes = [*SIZES, NEW]
        known = [of(trained(n, [family, k], above=levels[k]), n) for k, n in enumerate(sizes)]
        run = of(trained(2 * NEW, [family, 9], above=levels[5]), 2 * NEW)
        law = Sizes(known, run, 0.01)
        found = [law.update(*one) for one in zip(run.log_y[40:50], run.place(STEP[40:50]), strict=True)]
        scores.append(found[-1].score)
    assert abs(np.mean(scores)) < 0.5 and 0.4 < np.std(scores) < 1.4
    assert max(np.abs(scores)) < law.told.limit


def test_of_runs_that_differ_by_much_the_law_is_less_sure():
    """Their forecasts from each other miss by more than they say, by which the deviation is multiplied."""
    deviations = []
    for differ in (0.0, 0.03):
        levels = np.random.default_rng(3).normal(0.0, differ, 5)
        known = [of(truth(n) * np.exp(levels[k]), n) for k, n in enumerate([*SIZES, NEW])]
        law, run = Sizes(known, known[-1], 0.01), of(truth(2 * NEW) * 1.1, 2 * NEW)
        found = [law.update(*one) for one in zip(run.log_y[40:50], run.place(STEP[40:50]), strict=True)]
        deviations.append(found[-1].apart / found[-1].score)
    assert deviations[0] < 0.012 and deviations[1] > 0.03


def of(y, size, lr=FLAT, step=STEP, peak=1e-3, per_step=32.0):
    return Curve(RatePath.of(lr), step, np.log(y), peak, size, per_step)


def curves(sizes=SIZES, **how):
    return [of(trained(n, k), n, **how) for k, n in enumerate(sizes)]


def test_it_takes_three_other_sizes():
    assert len(usable(curves(), of(truth(NEW), NEW))) == 4
    assert len(usable(curves(SIZES[:3]), of(truth(8e6), 8e6))) == 3
    assert usable(curves(SIZES[:2]), of(truth(4e6), 4e6)) == []
    assert usable(curves([*SIZES[:2], 1.02e6, 4e6, 4.1e6]), of(truth(4e6), 4e6)) == [], (
        "its own is none other"
    )
    assert len(usable(curves([*SIZES[:3], 8e6]), of(truth(8e6), 8e6))) == 4, "but tells of it, too"
    assert told(trained(4e6, 3, above=0.3), earlier(SIZES[:2]), n_params=4e6) == ()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"params": 6.5e7}, "further above the largest than that is above the smallest"),
        ({"params": 9e5}, "smaller than all"),
        ({"params": None}, "of unknown size"),
        ({"path": None}, "of unknown rates"),
        ({"per_step": 80.0}, "of another batch"),
        ({"per_step": 14.0}, "of another batch"),
    ],
)
def test_runs_of_which_the_others_do_not_tell(change, why):
    run = of(truth(NEW), NEW)
    assert usable(curves(), run) and not usable(curves(), replace(run, **change)), why
    assert usable([replace(curve, path=None) for curve in curves()], run) == []


def test_a_run_that_falls_steeply_as_the_others_did_falls_no_less():
    """Earlier runs are averaged over three validations: of a power law that lifts nothing."""
    step = np.arange(20, 1001, 20)
    alike = Curve(RatePath.of(np.ones(1000)), step, -0.44 * np.log(step), 1e-3)
    family = Family([alike] * 4, 0.003)
    found = [family.update(*one) for one in zip(alike.log_y, alike.place(step), strict=True)]
    assert max(abs(off.fall) for off in found if off) < 0.01
    assert any(off and off.fall != 0.0 for off in found)


def test_batches_that_grow_with_size_go_on_growing():
    grown = [replace(curve, per_step=32.0 * 2.0**k) for k, curve in enumerate(curves())]
    assert usable(grown, of(truth(NEW), NEW, per_step=512.0))
    assert not usable(grown, of(truth(NEW), NEW, per_step=32.0))


def test_of_a_size_with_many_rates_the_good_ones_tell():
    sweep = [of(trained(n, k, above=bad), n) for k, n in enumerate(SIZES) for bad in (0.3, 0.0, 0.02, 0.1)]
    chosen = usable(sweep, of(truth(NEW), NEW))
    assert len(chosen) == 8
    assert all(np.log(truth(c.params))[-1] == pytest.approx(c.log_y[-1], abs=0.045) for c in chosen)


def test_larger_batches_do_more_training_in_a_step():
    """Runs of twice the batch, whose error falls with data as that of the others, lie on the law."""
    step = STEP[:50]
    y = truth(NEW, step=2 * step)
    run = of(y, NEW, per_step=64.0, step=step, lr=FLAT[:5000])
    for told_batch, expected in ((64.0, 0.0), (32.0, -0.07)):
        law = Sizes(curves(), replace(run, per_step=told_batch), 0.01)
        found = [law.update(*one) for one in zip(run.log_y, run.place(step), strict=True)]
        assert found[24].apart == pytest.approx(expected, abs=0.03)


def test_what_annealing_gains_widens_what_is_foreseen_of_runs_that_have_annealed_otherwise():
    """The gain is taken for 5.5 % and may be nearly none: beside a decay, a constant rate may lie above."""
    plain = {"lr": COSINE, "step": STEP}
    decayed = [of(truth(n, COSINE) * np.exp(GAIN * (1 - COSINE[STEP - 1])), n, COSINE) for n in SIZES]
    found = {}
    for name, lr in (("alike", COSINE), ("constant", FLAT)):
        y = truth(NEW, lr) * np.exp(GAIN * (1 - lr[STEP - 1]) + 0.1)
        law, run = Sizes(decayed, of(y, NEW, lr), 0.01), of(y, NEW, lr)
        every = [law.update(*one) for one in zip(run.log_y[:50], run.place(STEP[:50]), strict=True)]
        found[name] = every[-1].apart / every[-1].score
    assert found["constant"] > 1.2 * found["alike"], plain


def study(sizes=SIZES):
    """Records of runs of sizes, each trained when the one before had ended."""
    runs = {}
    for k, n in enumerate(sizes):
        runs[f"n{n:g}"] = recorded(f"n{n:g}", n, trained(n, k), 1e6 * k)
    return runs


def recorded(name, size, y, start, state="finished", rate=1e-3):
    template = record(name).observations[0]
    observations = tuple(
        replace(
            template,
            value=float(value),
            time=start + float(step),
            counts=replace(template.counts, samples=32 * int(step), steps=int(step), params=int(size)),
        )
        for step, value in zip(STEP, y, strict=True)
    )
    whole = replace(
        record(name), observations=observations, state=state, schedule=Schedule.from_rates(rate * FLAT)
    )
    return replace(whole, schedule_used_until=10_000)


def test_told_as_it_goes_on_replayed_later_and_asked_directly_the_flags_are_the_same():
    runs = study()
    whole = recorded("new", NEW, trained(NEW, 54, above=0.12), 9e6, rate=5e-3)
    book, live = FlagBook(), []
    for count in range(len(STEP) + 1):  # asked before there is a validation, too
        part = replace(whole, observations=whole.observations[:count], state="running")
        flags = book.flags({**runs, "new": part}, "new", "val_loss")
        live += [flag for flag in flags if flag not in live]
        assert list(flags) == live, "a flag that was told stays"
    again = FlagBook().flags({**runs, "new": whole}, "new", "val_loss")
    assert [(f.kind, f.step, f.message) for f in live] == [(f.kind, f.step, f.message) for f in again]
    library = [
        {
            "step": [step for step, _ in validations(one, "val_loss")],
            "y": [value for _, value in validations(one, "val_loss")],
            "lr": one.schedule.rates(),
            "n_params": one.observations[-1].counts.params,
        }
        for one in reversed(runs.values())
    ]
    (flag,) = told([o.value for o in whole.observations], library, rate=5e-3)
    assert flag.evidence["sizes"] == 4 and flag.step <= 2500
    assert (flag.step, flag.message) == (again[0].step, again[0].message)


def test_the_newest_runs_of_the_nearest_sizes_tell():
    """So that many runs of one size do not keep the other sizes out."""
    runs = study(SIZES[:3])
    for k in range(17):
        runs[f"again {k}"] = recorded(f"again {k}", SIZES[3], trained(SIZES[3], 70 + k), 1e6 * (4 + k))
    whole = recorded("new", NEW, trained(NEW, 55, above=0.12), 1e8)
    (flag,) = FlagBook().flags({**runs, "new": whole}, "new", "val_loss")
    assert (flag.evidence["runs"], flag.evidence["sizes"]) == (3 + MOST_RUNS, 4)


@pytest.mark.parametrize("count", [3, 15])
@pytest.mark.parametrize("size", [1e6, 2e6, NEW])
def test_a_healthy_run_beside_runs_of_one_other_size_is_quiet(count, size):
    """A smaller model lies above them and falls less, as it should."""
    library = [
        {"step": STEP, "y": trained(8e6, k, sd=0.001), "lr": 1e-3 * FLAT, "n_params": 8e6}
        for k in range(count)
    ]
    assert told(trained(size, 80, sd=0.001), library, n_params=size) == ()
    stuck = trained(size, 80) * np.exp(np.linspace(0, 1.5, STEP.size))
    kinds = {flag.kind for flag in told(stuck, library, n_params=size)}
    assert (FlagKind.ABOVE_FAMILY in kinds) == (size > 8e6), "a larger one should fall no less"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"n_params": 0}, "`n_params` to hold positive, finite numbers, got 0.0"),
        ({"n_params": "large"}, "`n_params`"),
        (
            {"library": [{"step": [1], "y": [1.0], "n_params": -1.0}]},
            r"`library\[0\].n_params` to hold positive",
        ),
    ],
)
def test_refuses_what_is_no_size(change, said):
    with pytest.raises(ValueError, match=said):
        foretrain.flag_run(**{"step": [1, 2, 3], "y": [3.0, 2.0, 1.0], **change})


@pytest.mark.parametrize("value", [0.5, 1e-300, 1e300])
@pytest.mark.parametrize("count", [2, 3, 40])
def test_odd_families_are_judged_without_a_warning(value, count):
    """Errors that never change, runs of two validations, sizes that are nearly one, and huge ones."""
    step = np.linspace(250, 10_000, count).astype(int)
    for sizes in (SIZES, 1e6 * (1 + 0.11 * np.arange(4)), 10.0 ** np.array([1, 5, 9, 13])):
        library = [
            {"step": step, "y": np.full(count, value), "lr": FLAT, "n_params": float(n)} for n in sizes
        ]
        with np.errstate(all="raise", under="ignore"):
            assert told(np.full(count, value), library, step=step, n_params=2 * sizes[-1]) == ()
