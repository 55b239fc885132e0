"""From a loss to a metric of a downstream task, and from size and data to both."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import curve_fit

from foretrain.downstream import LinkDoubt, fit_link, forecast_metric
from foretrain.downstream.link import _weights


def sigmoid(loss, slope=4.0, middle=2.0, best=0.85, chance=0.25):
    return best + (chance - best) / (1 + np.exp(-slope * (loss - middle)))


def models(noise, n=24, seed=0, low=1.5, high=3.5, **truth):
    rng = np.random.default_rng(seed)
    loss = rng.uniform(low, high, n)
    return loss, np.clip(sigmoid(loss, **truth) + rng.normal(0, noise, n), 0, 1)


def test_the_sigmoid_is_the_one_that_least_squares_finds():
    loss, metric = models(0.002, n=40)
    link = fit_link(loss, metric)
    weight, _ = _weights(np.sort(loss))
    order = np.argsort(loss)
    found, covariance = curve_fit(
        sigmoid, loss[order], metric[order], p0=[3, 2, 0.8, 0.2], sigma=weight**-0.5, xtol=1e-12
    )
    names = ("slope", "middle", "best", "chance")
    for name, value, variance in zip(names, found, covariance.diagonal(), strict=True):
        told = link.parameter(name)
        assert told.median == pytest.approx(value, abs=0.5 * np.sqrt(variance)), name
        assert told.lower < value < told.upper, name
    assert link.predict(1.7).median == pytest.approx(sigmoid(1.7), abs=0.003)
    assert link.doubts == link.doubts_at(1.2) == ()
    assert link.doubts_at(0.9) == (LinkDoubt.BEYOND,)


def test_an_unreached_limit_is_as_open_as_a_grid_of_all_parameters_says():
    loss, metric = models(0.01, n=12, low=2.2)
    link = fit_link(loss, metric, chance=0.25)
    order = np.argsort(loss)
    x, y = loss[order], metric[order]
    weight, count = _weights(x)
    span = np.ptp(x)
    log_slope, middle, best = np.meshgrid(
        np.linspace(np.log(0.2 / span), np.log(50 / span), 90),
        np.linspace(0, x[-1] + span, 160),
        np.linspace(0, 1, 121),
        indexing="ij",
    )
    rss = np.zeros(best.shape)
    for one, at, counts in zip(x, y, weight, strict=True):
        rss += counts * (sigmoid(one, np.exp(log_slope), middle, best, 0.25) - at) ** 2
    log_density = -0.5 * count * np.log(rss)
    density = np.exp(log_density - log_density.max())
    for name, axis, values in (("best", (0, 1), best[0, 0]), ("middle", (0, 2), middle[0, :, 0])):
        cell = density.sum(axis=axis) / density.sum()
        share = np.cumsum(cell) - 0.5 * cell
        told = link.parameter(name)
        for quantile, value in ((0.05, told.lower), (0.5, told.median), (0.95, told.upper)):
            assert np.interp(value, values, share) == pytest.approx(quantile, abs=0.04), (name, quantile)
    assert link.doubts == (LinkDoubt.NO_LIMIT,)


def test_accuracy_and_error_are_one_thing_and_percents_as_good_as_fractions():
    loss, metric = models(0.01)
    accuracy = fit_link(loss, metric).predict(1.6)
    error = fit_link(loss, 1 - metric).predict(1.6)
    percent = fit_link(loss, 100 * metric, limits=(0, 100)).predict(1.6)
    assert 1 - error.median == pytest.approx(accuracy.median, abs=0.005)
    assert percent.median / 100 == pytest.approx(accuracy.median, abs=0.005)
    assert 0.8 < (error.upper - error.lower) / (accuracy.upper - accuracy.lower) < 1.25


def test_lower_losses_are_held_as_often_as_is_said():
    held = []
    for seed in range(6):
        rng = np.random.default_rng(100 + seed)
        truth = {"slope": rng.uniform(2, 6), "middle": rng.uniform(1.4, 2.4), "best": rng.uniform(0.7, 1)}
        link = fit_link(*models(0.01, n=20, seed=seed, low=1.8, **truth), chance=0.25)
        for loss in (1.7, 1.5):
            told = link.predict(loss)
            held.append(told.lower <= sigmoid(loss, **truth) + rng.normal(0, 0.01) <= told.upper)
    assert np.mean(held) >= 0.75  # 0.86 of 180, with and without the chance told


def test_what_a_sigmoid_foretold_badly_is_told_more_widely():
    loss, metric = models(0.003, n=30, seed=1)
    bent = np.where(loss < 2.2, metric, metric + 0.1 * (loss - 2.2))  # no sigmoid goes there
    straight, odd = fit_link(loss, metric), fit_link(loss, np.clip(bent, 0, 1))
    twice, plain = (replace(odd, inflation=factor).predict(1.8) for factor in (2.0, 1.0))
    assert twice.median == pytest.approx(plain.median, abs=1e-3)
    assert twice.upper - twice.lower == pytest.approx(2 * (plain.upper - plain.lower), rel=0.01)
    assert straight.inflation < 1.2 and odd.inflation > 1.4


@pytest.mark.parametrize("metric", [np.full(12, 0.25), 0.25 + np.tile([-0.01, 0.01, 0.01, -0.01], 3)])
def test_a_metric_at_chance_is_told_to_be(metric):
    link = fit_link(np.linspace(2, 3, 12), metric)
    assert link.doubts[0] is LinkDoubt.UNRELATED
    assert LinkDoubt.NO_LIMIT in link.doubts
    told = link.predict(1.2)
    assert told.median == pytest.approx(0.25, abs=0.02) and told.upper > 0.35


def test_both_steps_are_in_the_interval():
    rng = np.random.default_rng(0)
    n, d = (grid.ravel() for grid in np.meshgrid(np.geomspace(1e7, 3e8, 5), np.geomspace(1e9, 1e11, 5)))
    loss = (1.5 + 400 * n**-0.35 + 400 * d**-0.3) * np.exp(rng.normal(0, 0.03, n.size))
    metric = sigmoid(loss, middle=2.6) + rng.normal(0, 0.002, n.size)
    metric[::4] = np.nan
    at_loss = 1.5 + 400 * 3e9**-0.35 + 400 * 1e12**-0.3
    told = forecast_metric(n, d, loss, metric, 3e9, [1e12, 1e11], chance=0.25, levels=(0.5, 0.9))
    assert told.median.shape == told.loss.median.shape == (2,)
    assert told.lower[0.9][0] < sigmoid(at_loss, middle=2.6) < told.upper[0.9][0]
    assert told.lower[0.9][0] < told.lower[0.5][0] < told.median[0] < told.upper[0.5][0]
    # What the second step alone leaves open at that loss, and what the first does along the link.
    alone = told.link.predict(float(told.loss.median[0]))
    ends = [told.link.predict(float(end[0.9][0])).median for end in (told.loss.upper, told.loss.lower)]
    both = np.hypot(alone.upper - alone.lower, ends[1] - ends[0])
    assert ends[1] - ends[0] > alone.upper - alone.lower
    assert told.upper[0.9][0] - told.lower[0.9][0] == pytest.approx(both, rel=0.2)
    assert told.doubts[: len(told.loss.reasons)] == told.loss.reasons


def test_larger_models_of_gadre_are_told_from_small_ones(published_curves):
    with (published_curves / "gadre2024" / "runs.csv").open() as file:
        rows = list(csv.DictReader(file))
    n, d, loss, error = (
        np.array([float(row[name]) for row in rows]) for name in ("N", "D_tokens", "loss_c4_val", "err_avg17")
    )
    small = n < 1e9  # 32 runs up to 412M; left are 1.4B at 20 and at 640 tokens a parameter, and 6.9B
    told = forecast_metric(n[small], d[small], loss[small], error[small], n[~small], d[~small])
    assert (~small).sum() == 3
    assert ((told.lower[0.9] <= error[~small]) & (error[~small] <= told.upper[0.9])).all()
    assert np.abs(told.median / error[~small] - 1).max() < 0.03
    assert (told.upper[0.9] - told.lower[0.9]).max() < 0.13


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: fit_link([1, 2, 3], [0.1] * 3), "at least 6 models with different losses, got 3 with 3"),
        (lambda: fit_link([2] * 8, [0.1] * 8), "got 8 with 1: measure more models"),
        (lambda: fit_link(range(1, 9), [61] * 8), "`metric` between 0 and 1, got 61.0: pass `limits`"),
        (lambda: fit_link(range(1, 9), [np.nan] * 8), "`metric` between 0 and 1, got nan"),
        (lambda: fit_link(range(1, 9), [0.1] * 8, chance=25), "`chance` between 0 and 1, got 25.0"),
        (lambda: fit_link(range(1, 9), [0.1] * 8, limits=(1, 0)), r"the greatest metric, got \(1, 0\)"),
        (lambda: fit_link(range(8), [0.1] * 8), "`loss` to hold positive, finite numbers, got 0.0"),
        (lambda: fit_link(range(1, 9), [0.1] * 7), r"`loss` of shape \(8,\), `metric` of shape \(7,\)"),
        (
            lambda: forecast_metric([1] * 8, [1] * 8, [1] * 8, [np.nan] * 8, 1, 1),
            "`loss` to hold at least one number, got none",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_link_is_asked_one_by_one():
    link = fit_link(*models(0.01, n=8))
    with pytest.raises(ValueError, match="one loss, or 3072, one for each draw, got 2"):
        link.predict([1.5, 1.6])
    with pytest.raises(ValueError, match="Expected one of slope, middle, best, chance, got 'floor'"):
        link.parameter("floor")
